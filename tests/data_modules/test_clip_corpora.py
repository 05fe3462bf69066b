"""Shards, spans of long videos, and the clip sources of Causal-Vid-Instruct."""

import io
import json
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_corpora import TINY_CORPORA, examples_in

from data_modules.ego4d import plain_narration
from data_modules.files import Files
from data_modules.skipped_rows import SkippedRows
from data_modules.subtitles import Cue, read_subtitles, text_between
from vidreason.reasoning.prompts import CAPTION_PROMPT
from vidreason.video.media import open_media

TINY = {corpus.reader: corpus for corpus in TINY_CORPORA}


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDREASON_CACHE", str(tmp_path_factory.mktemp("cache")))


def write_tar(path: Path, members: Mapping[str, bytes | str | dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            if isinstance(content, dict):
                content = json.dumps(content)
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def fields(key: str, **changes: object) -> dict[str, object]:
    """The json that video2dataset writes for a WebVid row (its keys, invented values)."""
    return {
        **{"url": "u", "caption": f"caption of {key}", "videoid": f"v{key}", "page_idx": "1"},
        **{"page_dir": "1_50", "duration": "PT00H00M10S", "key": key, "status": "success"},
        **{"error_message": None, "yt_meta_dict": None},
    } | changes


def test_webvid_shards_of_video2dataset(tmp_path: Path) -> None:
    failed = fields("000000001", status="failed_to_download", error_message="404")
    write_tar(
        tmp_path / "train/00000.tar",
        {
            "000000000.mp4": b"video 0",
            "000000000.txt": "caption of 000000000",
            "000000000.json": fields("000000000"),
            "000000001.txt": "caption of 000000001",
            "000000001.json": failed,
            "000000003.mp4": b"video 3",
            "000000003.json": fields("000000003", caption=None),
            "000000004.mp4": b"video 4",
            "000000004.txt": "[{'start': '00:00:01.000', 'lines': ['hello']}]",
            "000000005.mp4": b"video 5",
            "000000005.json": "{ torn",
            "000000006.m4a": b"sound",
            "000000006.json": fields("000000006"),
            "000000007_00001.mp4": b"clip 1 of video 7",
            "000000007_00001.txt": "caption of the clip",
        },
    )
    write_tar(tmp_path / "train/00001.tar", {"000001000.json": failed})
    skipped = SkippedRows()
    zero, clip = examples_in("webvid", tmp_path, "train", skipped)
    assert (zero.id, zero.corpus) == ("webvid:train:00000/000000000", "webvid")
    assert (zero.video_id, zero.response) == ("v000000000", "caption of 000000000")
    assert zero.prompt == CAPTION_PROMPT
    with open_media(zero.media) as file:
        assert file.read() == b"video 0"
    assert (clip.video_id, clip.response) == ("000000007_00001", "caption of the clip")
    assert skipped.causes == {
        "status 'failed_to_download'": 2,
        "no caption": 1,
        "its caption is a list (captions_are_subtitles), not a text": 1,
        "its json is damaged": 1,
        "no video (mp4, webm, mkv, mov, avi)": 1,
    }
    assert skipped.first_locations["its json is damaged"] == [
        f"{tmp_path}/train/00000.tar:000000005"
    ]


def test_the_parquet_file_beside_a_shard_names_what_is_not_in_the_shard(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "train/a/00000.tar", {"0.mp4": b"video", "1_00002.webm": b"clip"})
    rows = [
        {"key": "0", "status": "success", "caption": "from the parquet file"},
        {"key": "1", "status": "success", "caption": "of the whole video"},
        {"key": "2", "status": "success", "caption": "lost"},
        {"key": "3", "status": "failed_to_download", "caption": "never there"},
    ]
    side = shard.with_suffix(".parquet")
    pq.write_table(pa.Table.from_pylist(rows), side)
    skipped = SkippedRows()
    zero, clip = examples_in("webdataset", tmp_path, "train", skipped)
    assert (zero.id, zero.response) == ("webdataset:train:a/00000/0", "from the parquet file")
    assert clip.response == "of the whole video"
    assert skipped.causes == {
        "in the parquet file, not in its shard": 1,
        "status 'failed_to_download'": 1,
    }
    os.truncate(side, side.stat().st_size - 3)
    with pytest.raises(ValueError, match=r"00000.parquet: not a sound parquet file: .* remove it"):
        examples_in("webdataset", tmp_path, "train")


def test_shards_that_are_cut_off_or_missing(tmp_path: Path) -> None:
    members: dict[str, bytes | str | dict[str, object]] = {}
    for k in range(3):
        members |= {f"{k}.mp4": bytes(5000), f"{k}.txt": f"caption {k}"}
    shard = write_tar(tmp_path / "train/0.tar", members)
    os.truncate(shard, 9000)
    skipped = SkippedRows()
    (only,) = examples_in("webdataset", tmp_path, "train", skipped)
    assert only.response == "caption 0"
    assert skipped.causes == {"the shard is cut off": 1}
    with pytest.raises(ValueError, match=r"no .tar file below .*check the corpus' root"):
        examples_in("webdataset", tmp_path, "val")


def test_hd_vila_spans_of_long_videos_and_cut_clips(tmp_path: Path) -> None:
    corpus = TINY["hd_vila"]
    corpus.write(tmp_path)
    first, second, *_ = examples_in("hd_vila", tmp_path, "train")
    assert first.id == "hd_vila:train:-QM.0.mp4"
    assert (first.start_seconds, first.end_seconds) == (1.5, 4.0)
    assert first.media == str(tmp_path / "videos/-QM.mp4")
    assert (second.response, second.video_id) == ("said in -QM 1", "-QM")
    (tmp_path / "video_clips").mkdir()
    cut, *_ = examples_in("hd_vila", tmp_path, "train")
    assert cut.media == str(tmp_path / "video_clips/-QM/-QM.0.mp4")
    assert (cut.start_seconds, cut.end_seconds) == (None, None)


def test_hd_vila_transcripts_have_gaps_and_keep_the_clips_order(tmp_path: Path) -> None:
    corpus = TINY["hd_vila"]
    corpus.write(tmp_path)
    texts = tmp_path / "train/part0.asr.jsonl"
    lines = texts.read_text().splitlines(keepends=True)
    texts.write_text(lines[0] + lines[3])
    skipped = SkippedRows()
    responses = [example.response for example in examples_in("hd_vila", tmp_path, "train", skipped)]
    assert responses == ["said in -QM 0", "said in abc 1"]
    assert skipped.causes == {"no transcript": 2}
    texts.write_text(lines[3] + lines[0])
    with pytest.raises(ValueError, match=r"asr.jsonl:2: clip '-QM.0.mp4' .* order of the clips"):
        examples_in("hd_vila", tmp_path, "train")
    texts.unlink()
    with pytest.raises(ValueError, match="hold no text, and there is neither"):
        examples_in("hd_vila", tmp_path, "train")


ROLLING = """\
WEBVTT
Kind: captions

00:00:00.000 --> 00:00:03.000 align:start position:0%
\x20
hello<00:00:01.000><c> dear</c><00:00:02.000><c> all</c>

00:00:03.000 --> 00:00:03.010
hello dear all

00:00:03.010 --> 00:00:08.000
hello dear all
now<00:00:04.000><c> we</c> begin
"""
SRT = """1
00:00:01,000 --> 00:00:02,500
<i>First</i> line
and second

2
00:00:04,000 --> 00:00:06,000
{\\an8}No
"""


def test_subtitles_are_joined_to_clips_by_time(tmp_path: Path) -> None:
    corpus = TINY["hd_vila"]
    corpus.write(tmp_path)
    (tmp_path / "train/part0.asr.jsonl").unlink()
    folder = tmp_path / "subtitles"
    folder.mkdir()
    (folder / "-QM.en.vtt").write_text(ROLLING)
    (folder / "abc.srt").write_text(SRT.replace("-->", "->", 1).replace("00:00:04", "oops"))
    assert read_subtitles(Files(""), folder / "-QM.en.vtt") == [
        Cue(0.0, 3.0, "hello dear all"),
        Cue(3.01, 8.0, "now we begin"),
    ]
    skipped = SkippedRows()
    responses = [example.response for example in examples_in("hd_vila", tmp_path, "train", skipped)]
    assert responses == ["hello dear all", "now we begin"]
    assert skipped.causes == {"its video's subtitle file is damaged": 2}
    (folder / "abc.srt").write_text(SRT)
    assert [e.response for e in examples_in("hd_vila", tmp_path, "train")][2:] == [
        "First line and second",
        "No",
    ]


def test_subtitle_times(tmp_path: Path) -> None:
    path = tmp_path / "a.vtt"
    path.write_text("WEBVTT\n\n01:02.5 --> 1:00:00.000\nlong\n\n00:01.000 -> 00:02.000\nx\n")
    assert read_subtitles(Files(""), path) == [Cue(62.5, 3600.0, "long")]
    path.write_text("WEBVTT\n\n00:01.000 --> soon\nx\n")
    with pytest.raises(ValueError, match=r"a.vtt:3: expected 'HH:MM:SS.mmm --> HH:MM:SS.mmm'"):
        read_subtitles(Files(""), path)
    cues = [Cue(0, 2, "a"), Cue(2, 4, "b"), Cue(3.5, 4.5, "c")]
    assert [text_between(cues, 0, 3), text_between(cues, 3, 4), text_between(cues, 4, 9)] == [
        "a",
        "b",
        "c",
    ]


@pytest.mark.parametrize(
    ("narration", "plain", "cause"),
    [
        ("#C C picks up the cup", "The camera wearer picks up the cup.", ""),
        ("# C C gives a card to the man X.", "The camera wearer gives a card to the man X.", ""),
        ("#c c Closes the can with C's hand", "C Closes the can with C's hand.", ""),
        ("#O A man X looks at C", "A man X looks at the camera wearer.", ""),
        ("#C C Cuts the #Unsure", "", "its narrator was unsure"),
        ("#C", "", "an empty narration"),
    ],
)
def test_ego4d_narrations_become_sentences(narration: str, plain: str, cause: str) -> None:
    assert plain_narration(narration) == (plain, cause)


def test_ego4d_spans_splits_and_what_is_held_out(tmp_path: Path) -> None:
    TINY["ego4d"].write(tmp_path)
    first, second, *rest = examples_in("ego4d", tmp_path, "train")
    assert first.id == "ego4d:train:aa-1_1_0"
    assert first.media == str(tmp_path / "video_540ss/aa-1.mp4")
    assert (first.start_seconds, first.end_seconds) == (1.0, 5.0)
    assert first.meta == {"narration": "#C C picks up the cup"}
    assert (second.start_seconds, second.end_seconds) == (8.5, 12.0)  # the video's end
    assert [example.video_id for example in rest] == ["bb-2", "bb-2"]
    listing = tmp_path / "ego4d.json"
    listing.write_text(
        listing.read_text().replace('"split_av": null', '"split_av": "val", "split_em": "train"')
    )
    assert {example.video_id for example in examples_in("ego4d", tmp_path, "train")} == {"aa-1"}
    assert {example.video_id for example in examples_in("ego4d", tmp_path, "val")} == {"bb-2"}
    (tmp_path / "uid_to_ego4d.json").write_text(json.dumps({"q": {"video_uid": "aa-1"}}))
    skipped = SkippedRows()
    assert examples_in("ego4d", tmp_path, "train", skipped) == []
    assert skipped.causes == {"EgoSchema asks about its video": 2}
    listing.write_text(listing.read_text().replace('"duration_sec": 11.0', '"duration_sec": 9.0'))
    skipped = SkippedRows()
    assert len(examples_in("ego4d", tmp_path, "val", skipped)) == 1
    assert skipped.causes == {"it stands after its video's end": 1}
    listing.write_text(listing.read_text().replace("bb-2", "cc-3"))
    with pytest.raises(ValueError, match=r"video 'bb-2' is not in ego4d\.json"):
        examples_in("ego4d", tmp_path, "train")


def test_something_something(tmp_path: Path) -> None:
    corpus = TINY["something_something"]
    corpus.write(tmp_path)
    first, second = examples_in("something_something", tmp_path, "train")
    assert first.id == "something_something:train:78687"
    assert first.media == str(tmp_path / "20bn-something-something-v2/78687.webm")
    assert (first.response, first.question_type) == ("holding a potato", "41")
    assert second.meta == {"template": "Holding [something]"}
    (tmp_path / "test.json").write_text('[{"id": "5"}]')
    (hidden,) = examples_in("something_something", tmp_path, "test")
    assert (hidden.response, hidden.answers, hidden.question_type) == ("", (), "")
    for name in ("validation", "labels"):
        text = json.dumps(corpus.rows) if name == "validation" else '{"Holding something": "41"}'
        (tmp_path / f"something-something-v2-{name}.json").write_text(text)
    assert len(examples_in("something_something", tmp_path, "val")) == 2
    (tmp_path / "labels.json").write_text('{"Folding something": "1"}')
    with pytest.raises(ValueError, match="template 'Holding something' is not among the labels"):
        examples_in("something_something", tmp_path, "train")


def test_hd_vila_texts_of_a_malformed_row_are_passed_over(tmp_path: Path) -> None:
    corpus = TINY["hd_vila"]
    rows = [*corpus.rows, {**corpus.rows[0], "video_id": "xyz", "clip": None}]
    rows.append({"video_id": "end", "clip": [{"clip_id": "end.0.mp4", "span": ["0:01", "00:05"]}]})
    corpus.write(tmp_path, rows)
    texts = tmp_path / "train/part0.asr.jsonl"
    lost = "".join(json.dumps({"clip_id": f"xyz.{k}.mp4", "text": "lost"}) + "\n" for k in range(3))
    texts.write_text(texts.read_text() + lost + '{"clip_id": "end.0.mp4", "text": "the end"}\n')
    skipped = SkippedRows(max_malformed_fraction=0.5)
    *_, last = examples_in("hd_vila", tmp_path, "train", skipped)
    assert (last.response, last.start_seconds, last.end_seconds) == ("the end", 1.0, 5.0)
    assert skipped.causes == {"malformed": 1}


def test_hd_vila_ids_name_no_other_folder(tmp_path: Path) -> None:
    corpus = TINY["hd_vila"]
    corpus.write(tmp_path, [{**corpus.rows[0], "video_id": "../../etc/x"}, corpus.rows[1]])
    (tmp_path / "train/part0.asr.jsonl").unlink()
    (tmp_path / "subtitles").mkdir()
    event = {"tStartMs": 2000, "dDurationMs": 1000, "segs": [{"utf8": "said"}]}
    (tmp_path / "subtitles/abc.en-orig.json3").write_text(json.dumps({"events": [event]}))
    skipped = SkippedRows(max_malformed_fraction=0.5)
    (example,) = examples_in("hd_vila", tmp_path, "train", skipped)
    assert (example.id, example.response) == ("hd_vila:train:abc.0.mp4", "said")
    assert skipped.causes == {"malformed": 1, "nothing is said in its span": 1}


def test_hd_vila_spans_that_are_none(tmp_path: Path) -> None:
    corpus = TINY["hd_vila"]
    spans = [["00:00:03", "00:00:03.000"], ["00:00:05", "00:00:01"], ["00:00:06", "1:00:07.5"]]
    clips = [{"clip_id": f"abc.{n}.mp4", "span": span} for n, span in enumerate(spans)]
    corpus.write(tmp_path, [{**corpus.rows[1], "clip": clips}])
    texts = [{"clip_id": f"abc.{n}.mp4", "text": f"text {n}"} for n in (2,)]
    (tmp_path / "train/part0.asr.jsonl").write_text(json.dumps(texts[0]) + "\n")
    skipped = SkippedRows()
    (example,) = examples_in("hd_vila", tmp_path, "train", skipped)
    assert (example.start_seconds, example.end_seconds) == (6.0, 3607.5)
    assert skipped.causes == {"its span is empty": 1, "its span ends before it starts": 1}


def test_webvid_files_of_other_mirrors(tmp_path: Path) -> None:
    """Other columns, line ends, ids; blank and odd captions."""
    rows = ["\ufeffUnnamed: 0,videoid,contentUrl,duration,name", "0,0012,u,PT01H00M00S,A dog", ""]
    rows += ["1,7/a,u,,  ", "2,8,u,,nan", '3,9,u,,"two\r\nlines"', "4,,u,,no id", "5,1e9,u,,x"]
    (tmp_path / "train.csv").write_bytes("\r\n".join([*rows, ""]).encode())
    skipped = SkippedRows(max_malformed_fraction=0.5)
    dog, lines = examples_in("webvid", tmp_path, "train", skipped)
    assert (dog.video_id, dog.media) == ("0012", str(tmp_path / "videos/0012.mp4"))
    assert lines.response == "two\r\nlines"
    assert skipped.causes == {"no caption (column 'name')": 2, "malformed": 2}
    with pytest.raises(ValueError, match=r"train.csv:8.*'videoid' is missing or empty"):
        examples_in("webvid", tmp_path, "train")


def test_ego4d_counts_what_is_not_in_another_release(tmp_path: Path) -> None:
    corpus = TINY["ego4d"]
    (record,) = corpus.rows
    odd = {
        "narration_pass_1": {
            "narrations": [{"timestamp_sec": -0.03, "narration_text": "#c c waits"}]
        },
        "status": "redacted",
        "narration_pass_2": None,
    }
    corpus.write(tmp_path, [{**record, "gone": odd, "cc-3": odd, "dd-4": {"status": "redacted"}}])
    listing = json.loads((tmp_path / "ego4d.json").read_text())
    listing["videos"] += [{"video_uid": "cc-3", "duration_sec": 5}, {"video_uid": "dd-4"}]
    listing["videos"].append({"video_uid": "dd-4", "duration_sec": "9.5", "split_em": None})
    (tmp_path / "ego4d.json").write_text(json.dumps(listing))
    skipped = SkippedRows(max_malformed_fraction=0.5)
    *_, last = examples_in("ego4d", tmp_path, "train", skipped)
    assert (last.id, last.start_seconds, last.end_seconds) == ("ego4d:train:cc-3_1_0", 0.0, 3.0)
    assert skipped.num_malformed == 2  # a video without a duration, and one that is not listed
    assert any("video 'gone' is not in ego4d.json" in error for error in skipped.malformed)


def test_something_something_counts_a_row_that_does_not_fit(tmp_path: Path) -> None:
    corpus = TINY["something_something"]
    corpus.write(tmp_path, [*corpus.rows, {**corpus.rows[0], "id": "5", "template": "Eating"}])
    skipped = SkippedRows(max_malformed_fraction=0.5)
    assert len(examples_in("something_something", tmp_path, "train", skipped)) == 2
    assert "(id '5'): the template 'Eating' is not among the labels" in skipped.malformed[0]
