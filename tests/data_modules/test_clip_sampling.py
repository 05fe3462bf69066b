"""The sample of clips: what it follows from, what is in it, and what never is."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tiny_clip_sources import (
    ego4d_video,
    shuffled,
    write_clip,
    write_ego4d,
    write_something,
)
from tiny_corpora import TINY_CORPORA

from data_modules import clip_stock
from data_modules.clip_sampling import SampledClips, sample_clips, split_of
from data_modules.clip_source_config import ClipSourceConfig
from vidreason.teacher.clip import Clip
from vidreason.video.failures import UnreadableVideosError
from vidreason.video.reader import DIRECT

TRAIN = [
    *(ego4d_video(f"cook-{n}", 40 + 13 * n, "Cooking", split_em="train") for n in range(6)),
    *(ego4d_video(f"walk-{n}", 25.5, "Walking", split_fho=None) for n in range(3)),
    ego4d_video("both", 60, "Walking", "Juggling"),
    ego4d_video("short", 9, "Cooking"),
]
HELD_OUT = [
    ego4d_video("val", 300, "Cooking", split_em="train", split_av="val"),
    ego4d_video("test", 300, "Secret", split_fho="test"),
    ego4d_video("several", 300, "Cooking", split_em="multi"),
    ego4d_video("schema", 300, "Cooking"),
    # Listed twice, with the split on one row only.
    ego4d_video("twice", 300, "Cooking", split_em="val"),
    ego4d_video("twice", 300, "Cooking", split_em="train"),
]
NARRATIONS = {
    "cook-0": [(1.0, "#C C picks up the cup"), (20.0, "#unsure"), (39.0, "#O A man X waves")],
    "val": [(2.0, "#C C hides")],
}


def ego4d(root: Path, **changes: Any) -> ClipSourceConfig:
    return ClipSourceConfig(kind="ego4d", root=str(root), **changes)


def spans_of(clips: list[Clip]) -> dict[str, list[tuple[float, float]]]:
    spans: dict[str, list[tuple[float, float]]] = {}
    for clip in clips:
        start, end = clip.start_seconds or 0.0, clip.end_seconds
        spans.setdefault(clip.video_id, []).append((start, float("inf") if end is None else end))
    return {name: sorted(times) for name, times in spans.items()}


def left_out(sample: SampledClips, source: int = 0) -> dict[str, int]:
    return sample.report.sources[source].left_out


def test_clips_of_ego4d_lie_in_training_videos_and_do_not_overlap(tmp_path: Path) -> None:
    write_ego4d(tmp_path, TRAIN + HELD_OUT, NARRATIONS, egoschema=("schema",))
    sample = sample_clips([ego4d(tmp_path)], 1000)
    durations = {video["video_uid"]: video["duration_sec"] for video in TRAIN}
    spans = spans_of(sample.clips)
    assert set(spans) == set(durations)
    for uid, times in spans.items():
        edges = [edge for span in times for edge in span]
        assert edges == sorted(edges)
        assert edges[0] >= 0
        assert edges[-1] <= durations[uid]
        assert all(3.999 < end - start < 16.001 for start, end in times)
    # All there is, which is less than what was wanted.
    assert sum(b - a for times in spans.values() for a, b in times) > 0.9 * sum(durations.values())
    assert (sample.report.num_requested, sample.report.num_clips) == (1000, len(sample.clips))
    assert "fewer than requested" in sample.report.tables()[0].title
    assert left_out(sample) == {
        "of the split val": 2,
        "of the split test": 1,
        "of the split multi": 1,
        "EgoSchema asks about it": 1,
    }
    (clip,) = (c for c in sample.clips if c.video_id == "cook-0" and not c.start_seconds)
    assert clip.reference == "The camera wearer picks up the cup."
    assert clip.media == str(tmp_path / "video_540ss/cook-0.mp4")
    assert (clip.source, clip.licence, clip.scenario) == ("ego4d", "ego4d", "Cooking")
    # The rarest of two scenarios.
    assert {c.scenario for c in sample.clips if c.video_id == "both"} == {"Juggling"}
    json.dumps(sample.report.to_json())


def test_the_sample_follows_from_ids_and_the_seed_alone(tmp_path: Path) -> None:
    """Order of rows, what is left out, and names of folders change nothing."""
    write_ego4d(tmp_path / "a", TRAIN, NARRATIONS)
    rows = shuffled(TRAIN + HELD_OUT, 3)
    write_ego4d(tmp_path / "b", rows, NARRATIONS, egoschema=("schema",))
    one, other = (sample_clips([ego4d(tmp_path / name)], 12, 5).clips for name in "ab")
    assert [clip.id for clip in one] == [clip.id for clip in other]
    assert [(c.split, c.scenario, c.reference) for c in one] == [
        (c.split, c.scenario, c.reference) for c in other
    ]
    # Also where not all videos are looked at.
    few, others = (sample_clips([ego4d(tmp_path / name)], 4, 5).clips for name in "ab")
    assert [clip.id for clip in few] == [clip.id for clip in others]
    again = sample_clips([ego4d(tmp_path / "a")], 12, 6).clips
    assert {clip.id for clip in one} != {clip.id for clip in again}
    # Written down once: whoever changes them changes every sample.
    assert sorted(clip.id for clip in one)[:3] == [
        "ego4d-0d00806310774ef7",
        "ego4d-20ff0199e8ed7f16",
        "ego4d-3d1a12db0adbcb26",
    ]


def test_scenarios_and_videos_share_evenly(tmp_path: Path) -> None:
    write_ego4d(tmp_path, TRAIN)
    for number in range(3, 12):
        clips = sample_clips([ego4d(tmp_path)], number, seed=number).clips
        assert len(clips) == number
        scenarios = Counter(clip.scenario for clip in clips)
        # Juggling has one video, of which clips are taken before the others have very many.
        assert set(scenarios) == {"Cooking", "Walking", "Juggling"}
        assert max(scenarios.values()) - min(scenarios.values()) <= 1
        videos = Counter(clip.video_id for clip in clips if clip.scenario == "Cooking")
        assert set(videos.values()) == {1}


def test_lengths_are_spread_evenly(tmp_path: Path) -> None:
    write_ego4d(tmp_path, [ego4d_video(f"v{n}", 500, f"s{n % 7}") for n in range(80)])
    sample = sample_clips([ego4d(tmp_path)], 200)
    lengths = sample.report.sources[0].lengths
    assert list(lengths) == [
        "up to 7.0 s",
        "above 7.0 and up to 10.0 s",
        "above 10.0 and up to 13.0 s",
        "above 13.0 s",
    ]
    assert max(lengths.values()) - min(lengths.values()) <= 8
    assert max(Counter(clip.video_id for clip in sample.clips).values()) == 3


def test_hostile_metadata_are_counted_and_named(tmp_path: Path) -> None:
    wrong: list[Any] = [
        ego4d_video("nan", float("nan"), "Cooking"),
        ego4d_video("negative", -4, "Cooking"),
        ego4d_video("none", None, "Cooking"),
        ego4d_video("word", "long", "Cooking"),
        {"duration_sec": 60, "scenarios": ["Cooking"]},
        ego4d_video("", 60),
        "no object",
        ego4d_video("list", 60, split_em=["val"]),
    ]
    odd = [
        ego4d_video("../../secret", 60, "Cooking"),
        ego4d_video("half \ud800", 60, "Cooking"),
        ego4d_video("age", 5e8, "Cooking"),
        {"video_uid": "unnamed", "duration_sec": 20, "scenarios": {"a": 1}},
        ego4d_video("html", 20, "<b>\x1b[31m\ud800 scenario" + "x" * 500),
        ego4d_video("blink", 1, "Cooking"),
    ]
    write_ego4d(tmp_path, [*TRAIN, *wrong, *odd], {"html": [(3.0, "#C C says \ud800\0")]})
    with pytest.raises(ValueError, match="'duration_sec'"):
        sample_clips([ego4d(tmp_path)], 1000, max_malformed_fraction=0)
    with pytest.raises(ValueError, match=r"8 of 25 rows .* malformed"):
        sample_clips([ego4d(tmp_path)], 1000)
    sample = sample_clips([ego4d(tmp_path)], 1000, folder=tmp_path, max_malformed_fraction=0.5)
    assert left_out(sample) == {
        "malformed": len(wrong),
        "its id is no file name": 2,
        "it is said to last more than a week": 1,
        "no clip of it is as long as min_seconds": 1,
    }
    assert len(sample.report.sources[0].malformed) == len(wrong)
    names = (tmp_path / "left-out-ego4d.jsonl").read_text()
    assert all(name in names for name in ("negative", "../../secret", "age", "blink"))
    clips = {clip.video_id: clip for clip in sample.clips}
    assert set(clips) == {video["video_uid"] for video in TRAIN} | {"unnamed", "html"}
    assert clips["unnamed"].scenario == ""
    assert clips["html"].scenario.isprintable()
    assert len(clips["html"].scenario) <= 100
    for clip in sample.clips:
        json.dumps(vars(clip)).encode()
        "".join((clip.id, clip.media, clip.scenario, clip.reference)).encode()


def test_ego4d_without_what_it_needs(tmp_path: Path) -> None:
    write_ego4d(tmp_path, TRAIN, NARRATIONS)
    (tmp_path / "annotations/narration.json").unlink()
    sample = sample_clips([ego4d(tmp_path)], 5)
    remarks = sample.report.sources[0].remarks
    assert any("there is no annotations/narration.json" in remark for remark in remarks)
    assert any("video_540ss cannot be listed" in remark for remark in remarks)
    # Where there are videos, only those that are there are sampled; none is opened.
    (tmp_path / "video_540ss").mkdir()
    for name in ("walk-1", "cook-2"):
        (tmp_path / f"video_540ss/{name}.mp4").touch()
    sample = sample_clips([ego4d(tmp_path)], 5)
    assert {clip.video_id for clip in sample.clips} == {"walk-1", "cook-2"}
    assert left_out(sample)["its file is not there"] == len(TRAIN) - 2
    assert sample.report.sources[0].num_opened == 0
    (tmp_path / "uid_to_ego4d.json").unlink()
    with pytest.raises(ValueError, match=r"no uid_to_ego4d\.json .* EgoSchema's videos cannot"):
        sample_clips([ego4d(tmp_path)], 5)


def test_weights_share_the_clips_and_one_source_makes_up_for_another(tmp_path: Path) -> None:
    write_ego4d(tmp_path / "e", [ego4d_video(f"v{n}", 100, "s") for n in range(30)])
    rows = [(str(n), ("Holding", "Folding")[n % 10 == 0]) for n in range(200)]
    write_something(tmp_path / "s", rows)
    write_something(tmp_path / "s", [("9001", "Holding")], "validation")
    something = ClipSourceConfig(
        kind="something_something", root=str(tmp_path / "s"), name="ssv2", weight=3
    )
    sample = sample_clips([ego4d(tmp_path / "e"), something], 80)
    counts = Counter(clip.source for clip in sample.clips)
    assert counts == {"ego4d": 20, "ssv2": 60}
    # The first clips are a sample of their own.
    assert 8 <= Counter(clip.source for clip in sample.clips[:40])["ssv2"] <= 38
    clips = [clip for clip in sample.clips if clip.source == "ssv2"]
    assert Counter(clip.scenario for clip in clips) == {
        "Folding [something]": 20,
        "Holding [something]": 40,
    }
    first = next(clip for clip in clips if clip.video_id == "0")
    assert (first.start_seconds, first.end_seconds) == (None, None)
    assert first.reference == "folding number 0"
    assert first.media.endswith("20bn-something-something-v2/0.webm")
    assert "9001" not in {clip.video_id for clip in clips}
    # 200 are all it has; Ego4D gives the rest, though its share is less.
    more = sample_clips([ego4d(tmp_path / "e"), something], 400)
    assert Counter(clip.source for clip in more.clips) == {"ego4d": 200, "ssv2": 200}
    assert [one.num_requested for one in more.report.sources] == [100, 300]


def test_the_split_of_a_video_stays_whatever_is_sampled(tmp_path: Path) -> None:
    write_ego4d(tmp_path, [ego4d_video(f"v{n}", 100) for n in range(200)])
    splits: dict[str, set[str]] = {}
    for seed, number in ((0, 150), (1, 900)):
        for clip in sample_clips([ego4d(tmp_path)], number, seed, 0.2).clips:
            splits.setdefault(clip.video_id, set()).add(clip.split)
    assert all(len(one) == 1 for one in splits.values())
    num_validation = sum(one == {"val"} for one in splits.values())
    assert 20 <= num_validation <= 60
    assert split_of("v", 0.0) == "train"


def test_sources_that_do_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sources is empty"):
        sample_clips([], 5)
    write_ego4d(tmp_path, TRAIN)
    with pytest.raises(ValueError, match="'ego4d' is the name of two of them"):
        sample_clips([ego4d(tmp_path), ego4d(tmp_path)], 5)
    # The same files under two names are sampled once.
    sample = sample_clips([ego4d(tmp_path), ego4d(tmp_path, name="again")], 1000)
    assert {clip.source for clip in sample.clips} == {"ego4d"}
    assert left_out(sample, 1) == {"a source before has the same file": len(TRAIN)}


def hostile_folder(root: Path) -> Path:
    """Videos of one shot and of three, and everything that is none."""
    write_clip(root / "day/one.mp4", 6)
    write_clip(root / "day/three shots.MP4", 18, (1, 2, 3))
    write_clip(root / "<b>&\n'\".mp4", 5, (4,))
    write_clip(root / "night/short.mp4", 2)
    (root / "night/text.mp4").write_text("no video")
    (root / "night/empty.webm").touch()
    (root / "notes.txt").touch()
    (root / ".hidden").mkdir()
    (root / ".hidden/x.mp4").touch()
    (root / "._one.mp4").touch()
    (root / "zlink.mp4").symlink_to(root / "day/one.mp4")
    (root / "zoutside.mp4").symlink_to(write_clip(root.parent / "outside.mp4", 5))
    (root / "zgone.mp4").symlink_to(root / "nowhere.mp4")
    (root / "zhard.mp4").hardlink_to(root / "day/one.mp4")
    (root / "zloop").symlink_to(root)
    os.mkfifo(root / "zpipe.mp4")
    (root / "a.tar#offset=0&size=9&name=b.mp4").write_text("x")
    with open(os.fsencode(root) + b"/\xff.mp4", "w"):
        pass
    return root


def folder(root: Path, **changes: Any) -> ClipSourceConfig:
    return ClipSourceConfig(kind="folder", root=str(root), **changes)


def test_a_folder_of_anything(tmp_path: Path) -> None:
    root = hostile_folder(tmp_path / "videos")
    with pytest.raises(UnreadableVideosError, match=r"\d x (not-a-video|empty)"):
        sample_clips([folder(root)], 50, reader=DIRECT)
    sample = sample_clips([folder(root)], 50, reader=DIRECT, max_unreadable_fraction=0.5)
    assert left_out(sample) == {
        "a hidden folder": 1,
        "a hidden file": 1,
        "a link to a folder": 1,
        "a link to a file": 3,
        "another name of a file that is there already": 1,
        "its name does not end in .mp4, .mkv, .webm, .mov, .avi, .m4v, .mpg": 1,
        "its name is not UTF-8": 1,
        "its name reads as that of another file": 1,
        "no regular file": 1,
        "no clip of it is as long as min_seconds": 1,
    }
    assert sample.report.sources[0].unreadable == {"not-a-video": 1, "empty": 1}
    spans = spans_of(sample.clips)
    assert spans["zhard.mp4"] == [(0.0, 6.0)]
    assert spans["<b>&\n'\".mp4"] == [(0.0, 5.0)]
    # Each shot is a clip, without what is around the cuts.
    first, second, third = spans["day/three shots.MP4"]
    assert first[0] == 0
    assert 5.8 <= first[1] <= 6 <= second[0] <= 6.2
    assert 11.8 <= second[1] <= 12 <= third[0] <= 12.2
    assert third[1] == 18
    assert {clip.scenario for clip in sample.clips} == {"", "day"}
    assert {clip.licence for clip in sample.clips} == {"unknown"}
    text = "\n".join(table.to_text() for table in sample.report.tables())
    assert "no regular file" in text
    json.dumps(sample.report.to_json()).encode()


def test_other_cuts_of_a_folder(tmp_path: Path) -> None:
    write_clip(tmp_path / "v/long.mp4", 40)
    write_clip(tmp_path / "v/short.mp4", 5)
    sources = folder(tmp_path / "v", cut="length", min_seconds=4, max_seconds=6)
    spans = spans_of(sample_clips([sources], 50, reader=DIRECT).clips)
    assert spans["short.mp4"] == [(0.0, 5.0)]
    assert len(spans["long.mp4"]) >= 6
    assert all(4 <= end - start <= 6.001 for start, end in spans["long.mp4"])
    sample = sample_clips(
        [folder(tmp_path / "v", cut="whole", licence="CC0-1.0")], 9, reader=DIRECT
    )
    assert {(c.video_id, c.start_seconds, c.end_seconds) for c in sample.clips} == {
        ("long.mp4", None, None),
        ("short.mp4", None, None),
    }
    assert {clip.licence for clip in sample.clips} == {"CC0-1.0"}
    assert sum(sample.report.sources[0].lengths.values()) == 2
    assert "not known" not in sample.report.sources[0].lengths


def test_a_folder_is_opened_no_further_than_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        path = tmp_path / f"v/{'ab'[number % 2]}/{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(write_clip(tmp_path / "one.mp4", 5).read_bytes())
    sample = sample_clips([folder(tmp_path / "v", cut="length")], 4, reader=DIRECT)
    assert sample.report.sources[0].num_opened == 4
    assert Counter(clip.scenario for clip in sample.clips) == {"a": 2, "b": 2}
    # Where a file system lists in another order, the sample is the same.
    walk = os.walk

    def backwards(top: str, **options: Any) -> Any:
        for root, folders, names in walk(top, **options):
            folders.reverse()
            yield root, folders, names[::-1]

    monkeypatch.setattr(os, "walk", backwards)
    again = sample_clips([folder(tmp_path / "v", cut="length")], 4, reader=DIRECT)
    assert again.clips == sample.clips


def test_a_recording_whose_times_are_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(tmp_path / "v/a.mp4", 5)
    monkeypatch.setattr(clip_stock, "MAX_VIDEO_SECONDS", 4)
    sample = sample_clips([folder(tmp_path / "v")], 4, reader=DIRECT, max_unreadable_fraction=1)
    assert sample.clips == []
    assert sample.report.sources[0].unreadable == {"unsupported": 1}


def test_any_corpus(tmp_path: Path) -> None:
    tiny = {corpus.reader: corpus for corpus in TINY_CORPORA}
    tiny["hd_vila"].write(tmp_path / "h")
    clips = sample_clips(
        [ClipSourceConfig(kind="corpus", root=str(tmp_path / "h"), reader="hd_vila")], 50
    ).clips
    assert spans_of(clips) == {
        "-QM": [(1.5, 4.0), (4.0, 9.25)],
        "abc": [(1.5, 4.0), (4.0, 9.25)],
    }
    assert {clip.reference for clip in clips if clip.video_id == "abc"} == {
        "said in abc 0",
        "said in abc 1",
    }
    # Several rows of one span are one clip; spans that overlap are not both taken.
    corpus = tiny["causal_vid_instruct"]
    row = {**corpus.rows[0], "license_tag": "CC0-1.0"}
    more = [{**row, "id": "r2", "start": 3, "end": 9}, {**row, "id": "r3", "video_id": "x"}]
    corpus.write(tmp_path / "c", [row, *more])
    source = ClipSourceConfig(kind="corpus", root=str(tmp_path / "c"), reader=corpus.reader)
    clips = sample_clips([source], 50).clips
    assert Counter(clip.video_id for clip in clips) == {"00123": 1, "x": 1}
    assert {clip.licence for clip in clips} == {"CC0-1.0"}
    assert {clip.scenario for clip in clips} == {"block"}
    assert all("The ball rolls." in clip.reference for clip in clips)
    assert all("The ball stops" in clip.reference for clip in clips)
