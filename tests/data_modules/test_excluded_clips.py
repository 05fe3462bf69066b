"""Nothing of an evaluation set is sampled: by id, file, text and pictures; and it is reported."""

import json
from pathlib import Path

import pytest
from tiny_clip_sources import ego4d_video, write_clip, write_ego4d, write_something
from video_copies import write_copy

from data_modules.clip_sampling import sample_clips
from data_modules.clip_source_config import ClipSourceConfig
from data_modules.corpora import CorpusConfig
from data_modules.excluded_clips import NUM_SHOWN, ExcludedClips, picture_hash, read_excluded
from vidreason.teacher.clip import Clip
from vidreason.video.failures import UnreadableVideosError
from vidreason.video.reader import DIRECT

SENTENCE = "The camera wearer picks up the small red cup from the wooden table."


def write_webvid(root: Path, rows: dict[str, str], split: str = "test") -> CorpusConfig:
    root.mkdir(parents=True, exist_ok=True)
    lines = "".join(f'{name},"{text}",\n' for name, text in rows.items())
    (root / f"{split}.csv").write_text(f"videoid,name,page_dir\n{lines}")
    return CorpusConfig(reader="webvid", root=str(root), split=split)


def folder(root: Path) -> ClipSourceConfig:
    return ClipSourceConfig(kind="folder", root=str(root), cut="whole", name="mine")


def test_ids_and_files(tmp_path: Path) -> None:
    for number, name in enumerate(("a/held-out", "free", "copy", "12345")):
        write_clip(tmp_path / f"v/{name}.mp4", 5, (number,))
    evaluation = write_webvid(tmp_path / "e", {"held-out": "x", "other": "y", "12345": "z"})
    (tmp_path / "e/videos").mkdir()
    (tmp_path / "e/videos/other.mp4").hardlink_to(tmp_path / "v/copy.mp4")
    excluded = read_excluded([evaluation])
    sample = sample_clips([folder(tmp_path / "v")], 10, exclusion=excluded, reader=DIRECT)
    # A number of another corpus is another video.
    assert {clip.video_id for clip in sample.clips} == {"free.mp4", "12345.mp4"}
    report = sample.report.exclusion
    assert report.counts == {("mine", "id"): 1, ("mine", "file"): 1}
    assert {(one.name, one.evaluation_id) for one in report.first} == {
        ("mine:a/held-out", "webvid:test:held-out"),
        ("mine:copy", "webvid:test:other"),
    }
    assert sample.report.to_json()["excluded"] == [
        {"source": "mine", "cause": "file", "number": 1},
        {"source": "mine", "cause": "id", "number": 1},
    ]
    titles = [table.title for table in sample.report.tables()]
    assert "The first that are excluded" in titles


def test_numbers_of_one_corpus_are_its_videos(tmp_path: Path) -> None:
    write_something(tmp_path, [(str(n), "Holding") for n in range(30)])
    write_something(tmp_path, [(str(n), "Holding") for n in range(20, 40)], "validation")
    held_out = CorpusConfig(reader="something_something", root=str(tmp_path), split="val")
    source = ClipSourceConfig(kind="something_something", root=str(tmp_path))
    excluded = read_excluded([held_out])
    sample = sample_clips([source], 100, exclusion=excluded)
    assert {int(clip.video_id) for clip in sample.clips} == set(range(20))
    assert excluded.report.counts == {("something_something", "id"): 10}
    assert [vars(one) for one in excluded.report.evaluation_sets] == [
        {
            "name": "something_something:val",
            "num_examples": 20,
            "num_left_out": 0,
            "num_videos_hashed": 0,
            "num_not_hashed": 0,
        }
    ]


def test_clips_with_texts_of_an_evaluation_set_are_replaced(tmp_path: Path) -> None:
    """Narrations are read only after clips were chosen: others are then chosen instead."""
    narration = SENTENCE.replace("The camera wearer", "#C C")
    told = {
        f"v{n}": [
            (float(s), narration if n < 30 else f"#C C walks {n} {s}") for s in range(1, 40, 3)
        ]
        for n in range(40)
    }
    write_ego4d(tmp_path / "s", [ego4d_video(f"v{n}", 40) for n in range(40)], told)
    evaluation = write_webvid(tmp_path / "e", {"x": SENTENCE.upper(), "y": "short"})
    excluded = read_excluded([evaluation])
    source = ClipSourceConfig(kind="ego4d", root=str(tmp_path / "s"))
    sample = sample_clips([source], 12, exclusion=excluded)
    assert len(sample.clips) == 12
    assert all("red cup" not in clip.reference for clip in sample.clips)
    assert len({clip.id for clip in sample.clips}) == 12
    ((key, number),) = excluded.report.counts.items()
    assert key == ("ego4d", "text")
    assert number > 0
    assert len(excluded.report.first) == min(number, NUM_SHOWN)
    again = sample_clips([source], 12, exclusion=read_excluded([evaluation]))
    assert again.clips == sample.clips
    assert excluded.texts.find(SENTENCE) is not None


def test_pictures(tmp_path: Path) -> None:
    for number in range(4):
        write_clip(tmp_path / f"v/{number}.mp4", 5, (number,))
    evaluation = write_webvid(tmp_path / "e", {"planted": "x"})
    (tmp_path / "e/videos").mkdir()
    copy = tmp_path / "e/videos/planted.mp4"
    write_copy(tmp_path / "v/2.mp4", copy, mirrored=True, crf=32)
    excluded = read_excluded([evaluation], compare_pictures=True, reader=DIRECT)
    sample = sample_clips([folder(tmp_path / "v")], 10, exclusion=excluded, reader=DIRECT)
    assert {clip.video_id for clip in sample.clips} == {"0.mp4", "1.mp4", "3.mp4"}
    assert excluded.report.counts == {("mine", "video"): 1}
    (first,) = excluded.report.first
    assert first.evaluation_id == "webvid:test:planted"
    # Without them the copy is not known; a program that decodes the clip anyway may ask later.
    plain = read_excluded([evaluation])
    assert (
        len(sample_clips([folder(tmp_path / "v")], 10, exclusion=plain, reader=DIRECT).clips) == 4
    )
    clip = Clip(source="mine", video_id="2", media=str(tmp_path / "v/2.mp4"))
    assert excluded.by_pictures(clip, picture_hash(clip, DIRECT))
    copy.write_bytes(copy.read_bytes()[:500])
    with pytest.raises(UnreadableVideosError):
        read_excluded([evaluation], compare_pictures=True, reader=DIRECT)


def test_an_evaluation_set_that_is_not_all_there_is_an_error(tmp_path: Path) -> None:
    missing = CorpusConfig(reader="webvid", root=str(tmp_path / "nowhere"), split="test")
    with pytest.raises(ValueError, match=r"nowhere' has none of .*check the"):
        read_excluded([missing])
    write_webvid(tmp_path / "e", {"a": "x", "b": "y"})
    limited = CorpusConfig(reader="webvid", root=str(tmp_path / "e"), split="test", limit=1)
    with pytest.raises(ValueError, match=r"has limit 1, .*remove its limit"):
        read_excluded([limited])
    with (tmp_path / "e/test.csv").open("a") as file:
        file.write('"torn')
    with pytest.raises(ValueError, match=r"test\.csv"):
        read_excluded([CorpusConfig(reader="webvid", root=str(tmp_path / "e"), split="test")])
    # Nothing to compare with excludes nothing.
    assert json.dumps(ExcludedClips().report.first) == "[]"


def test_rows_that_an_evaluation_set_leaves_out_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    excluded = read_excluded([write_webvid(tmp_path, {"a": "x", "b": ""})])
    assert excluded.report.evaluation_sets[0].num_left_out == 1
    assert "nothing is known of their videos" in caplog.text
