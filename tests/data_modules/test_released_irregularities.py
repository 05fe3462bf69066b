"""Irregularities that released benchmark files have, or are likely to have, are read or counted."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from tiny_corpora import TINY_CORPORA, examples_in

from data_modules.files import Files
from data_modules.skipped_rows import SkippedRows
from data_modules.video_files import VideoFolder
from vidreason.example import Example

TINY = {corpus.reader: corpus for corpus in TINY_CORPORA}
BENCHMARKS = (
    *("nextqa", "nextqa_open_ended", "nextgqa", "activitynet_qa", "intentqa", "clevrer", "vcr"),
    *("test_of_time", "mvbench", "tempcompass", "egoschema", "star"),
)


def read(reader: str, root: Path, split: str = "") -> tuple[list[Example], SkippedRows]:
    skipped = SkippedRows(max_malformed_fraction=1.0)
    return examples_in(reader, root, split or TINY[reader].split, skipped), skipped


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))


def rows_of(reader: str) -> list[dict[str, Any]]:
    copied: list[dict[str, Any]] = json.loads(json.dumps(TINY[reader].rows))
    return copied


@pytest.mark.parametrize(
    ("segments", "spans", "num_remarks"),
    [
        ([[-0.1, 25.1]], ((0.0, 25.1),), 1),  # 36 of the real test split
        ([[-0.2, 3.4], [8.0, 9.5]], ((0.0, 3.4), (8.0, 9.5)), 1),
        ([[29.0, 31.5]], ((29.0, 31.5),), 0),  # ends after the video, as 3 of val
        ([[9.5, 8.0]], ((8.0, 9.5),), 1),
        ([["0.5", "3"]], ((0.5, 3.0),), 0),
        ([0.5, 3], ((0.5, 3.0),), 0),
        ([[4, 4], [5, 6]], ((5.0, 6.0),), 1),
        ([[-3, -1], [5, 6]], ((5.0, 6.0),), 2),
        ([[4, 4]], None, 0),
        ([[-3, -1]], None, 0),
        ([], None, 0),
        (None, None, 0),
        ([[1, 2, 3]], None, 0),
        ([[None, 2]], None, 0),
        ([["nan", 2]], None, 0),
        ([[1, 1e12]], None, 0),
        ([[True, 2]], None, 0),
        ({"start": 1}, None, 0),
    ],
)
def test_segments_of_nextgqa(tmp_path: Path, segments: Any, spans: Any, num_remarks: int) -> None:
    TINY["nextgqa"].write(tmp_path)
    located = json.loads((tmp_path / "gsub_val.json").read_text())
    located["0101"]["location"]["1"] = segments
    write(tmp_path / "gsub_val.json", located)
    examples, skipped = read("nextgqa", tmp_path)
    if spans is not None:
        assert examples[1].spans == spans
        assert skipped.num_skipped == 0
        assert skipped.remarks.total() == num_remarks
        return
    assert len(examples) == 6
    assert "val.csv:2" in skipped.malformed[0]
    assert "question '0101_1' in gsub_val.json" in skipped.malformed[0]


def test_a_damaged_video_of_nextgqa_loses_no_other_questions(tmp_path: Path) -> None:
    TINY["nextgqa"].write(tmp_path)
    located = json.loads((tmp_path / "gsub_val.json").read_text())
    write(tmp_path / "gsub_val.json", located | {"0101": {"duration": 9}, "unasked": None})
    examples, skipped = read("nextgqa", tmp_path)
    assert {example.video_id for example in examples} == {"0202"}
    assert skipped.num_malformed == 2


def test_options_in_lines_with_blanks_around_them(tmp_path: Path) -> None:
    """The real file has one such line in 1,580 questions, which once lost all 5,536."""
    corpus = TINY["tempcompass"]
    question = (
        "Which way does the disc turn?\nA. clockwise\r\nB. counterclockwise \n\n"
        "C.it does not turn\n D. away from the screen"
    )
    rows = [
        {"question": question, "answer": answer}
        for answer in ("A. clockwise", "D", "C.it does not turn")
    ]
    corpus.write(tmp_path, [{"1000000002_reverse": {"direction": rows}}])
    examples, skipped = read("tempcompass", tmp_path)
    assert skipped.num_skipped == 0
    options = ("clockwise", "counterclockwise", "it does not turn", "away from the screen")
    assert [(e.options, e.answer_index) for e in examples[:3]] == [
        (options, index) for index in (0, 3, 2)
    ]
    assert examples[0].meta["question"] == "Which way does the disc turn?"
    rows[1]["answer"] = "E. upwards"
    corpus.write(tmp_path, [{"1000000002_reverse": {"direction": rows}}])
    examples, skipped = read("tempcompass", tmp_path)
    assert len(examples) == 4
    assert "multi-choice_1000000002_reverse_direction_1" in skipped.malformed[0]


@pytest.mark.parametrize("reader", BENCHMARKS)
def test_blanks_around_texts_change_nothing(reader: str, tmp_path: Path) -> None:
    corpus = TINY[reader]
    corpus.write(tmp_path)
    expected, _ = read(reader, tmp_path)
    rows = rows_of(reader)
    _pad(rows[0])
    corpus.write(tmp_path, rows)
    examples, skipped = read(reader, tmp_path)
    assert skipped.num_skipped == 0
    assert examples == expected


def _pad(value: Any) -> None:
    """Put blanks, one of them no-break, around all texts but those of nested keys."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(item, str):
            value[key] = f" {item}\u00a0 "
        elif isinstance(item, dict | list):
            _pad(item)


@pytest.mark.parametrize("reader", BENCHMARKS)
def test_further_fields_and_another_order_change_nothing(reader: str, tmp_path: Path) -> None:
    corpus = TINY[reader]
    corpus.write(tmp_path)
    expected, _ = read(reader, tmp_path)
    rows = rows_of(reader)
    if corpus.form != "members":
        rows = [{"note": "NA", **dict(reversed(row.items()))} for row in rows]
    corpus.write(tmp_path, rows)
    examples, skipped = read(reader, tmp_path)
    assert skipped.num_skipped == 0
    assert examples == expected


@pytest.mark.parametrize(
    ("reader", "field", "values"),
    [
        ("nextqa", "answer", ["1", " 1", "1.0", "B", "(b)", "option 1", "Option 1."]),
        ("nextgqa", "answer", ["option 1", " Option 1.", "B. option 1"]),
        ("star", "answer", ["The door.", "the door", "THE DOOR. ", "A", "(A) The door."]),
        (
            "mvbench",
            "answer",
            ["Ate the medicine.", " ate the  medicine", "(A)", "A. Ate the medicine."],
        ),
        ("test_of_time", "answer_index", [0, "0", 0.0, "A", "the ball fell"]),
        ("vcr", "answer_label", [1, "1", 1.0]),
        ("mvbench", "start", [11.1, "11.1", "11.10"]),
        ("mvbench", "end", [16, "16", 16.0]),
        ("test_of_time", "start", [0.5, "0.5"]),
    ],
)
def test_a_value_in_other_forms(reader: str, field: str, values: list[Any], tmp_path: Path) -> None:
    corpus = TINY[reader]
    readings = []
    for value in values:
        rows = rows_of(reader)
        rows[0][field] = value
        corpus.write(tmp_path, rows)
        examples, skipped = read(reader, tmp_path)
        assert skipped.num_skipped == 0, (value, skipped.malformed)
        readings.append(examples)
    assert all(examples == readings[0] for examples in readings)
    if reader != "vcr":
        assert readings[0][0].answer_index in (0, 1)


@pytest.mark.parametrize(
    ("start", "end", "span", "cause"),
    [
        (-0.1, 3, (0.0, 3.0), ""),
        (None, None, (None, None), ""),
        ("", "nan", (None, None), ""),
        (3, 3, None, "its span is empty"),
        (3.0, "3", None, "its span is empty"),
        (-2, -1, None, "its span is empty"),
        (4, 3, None, "its span ends before it starts"),
        ("00:03", 4, None, "malformed"),
        ([3], 4, None, "malformed"),
        (1e10, 4, None, "malformed"),
    ],
)
@pytest.mark.parametrize("reader", ["star", "mvbench", "test_of_time"])
def test_spans(reader: str, start: Any, end: Any, span: Any, cause: str, tmp_path: Path) -> None:
    corpus = TINY[reader]
    rows = rows_of(reader)
    rows[0] |= {"start": start, "end": end}
    corpus.write(tmp_path, rows)
    examples, skipped = read(reader, tmp_path)
    if span is None:
        assert skipped.causes == {cause: 1}
    else:
        assert (examples[0].start_seconds, examples[0].end_seconds) == span
        assert skipped.remarks.total() == (start == -0.1 and reader != "test_of_time")


@pytest.mark.parametrize(
    ("reader", "field"),
    [
        *(("nextqa", "answer"), ("nextgqa", "answer"), ("star", "answer"), ("mvbench", "answer")),
        ("nextqa_open_ended", "answer"),
    ],
)
def test_an_answer_hidden_in_one_row(reader: str, field: str, tmp_path: Path) -> None:
    corpus = TINY[reader]
    corpus.write(tmp_path)
    expected, _ = read(reader, tmp_path)
    rows = rows_of(reader)
    rows[0][field] = ""
    corpus.write(tmp_path, rows)
    examples, skipped = read(reader, tmp_path)
    lost = 2 if reader == "nextgqa" else 1
    assert examples == expected[lost:]
    assert skipped.num_malformed == 1


def test_ids_with_leading_zeros_slashes_and_as_numbers(tmp_path: Path) -> None:
    corpus = TINY["star"]
    for value, expected in (("007", "007"), (7, "7"), ("a/b c", "a/b c"), ("N\u00e9", "N\u00e9")):
        rows = rows_of("star")
        rows[0] |= {"video_id": value}
        corpus.write(tmp_path, rows)
        examples, skipped = read("star", tmp_path)
        assert skipped.num_skipped == 0
        assert examples[0].video_id == expected
        assert examples[0].media == str(tmp_path / f"Charades_v1_480/{expected}.mp4")


def test_videos_in_another_container_case_or_folder(tmp_path: Path) -> None:
    for name in (
        "a.MP4",
        "b.webm",
        "b.mkv",
        "c.mp4.part",
        "sub/d.Mov",
        "e.mp4",
        "e.avi",
        "g.v2.mp4",
    ):
        write(tmp_path / "videos" / name, "")
    videos = VideoFolder(Files(tmp_path), "absent", "videos")
    paths = {
        name: Path(videos.find(name)).relative_to(tmp_path / "videos").as_posix()
        for name in ("a", "b", "c", "sub/d", "e", "e.avi", "e.mkv", "f", "g.v2")
    }
    assert paths == {
        **{"a": "a.MP4", "b": "b.mkv", "c": "c.mp4", "sub/d": "sub/d.Mov", "e": "e.mp4"},
        **{"e.avi": "e.avi", "e.mkv": "e.mp4", "f": "f.mp4", "g.v2": "g.v2.mp4"},
    }
    assert videos.find("v_a", "a") == str(tmp_path / "videos/a.MP4")
    assert VideoFolder(Files(tmp_path), "absent").find("x") == str(tmp_path / "absent/x.mp4")


def test_intentqa_has_its_videos_in_one_folder_without_a_map(tmp_path: Path) -> None:
    TINY["intentqa"].write(tmp_path)
    (tmp_path / "map_vid_vidorID.json").unlink()
    (tmp_path / "Videos").mkdir()
    examples, _ = read("intentqa", tmp_path)
    assert examples[0].media == str(tmp_path / "Videos/0101.mp4")
    (tmp_path / "Videos").rmdir()
    with pytest.raises(ValueError, match=r"there is no file .*map_vid_vidorID.json"):
        read("intentqa", tmp_path)


def test_an_entry_of_the_map_that_is_no_path(tmp_path: Path) -> None:
    TINY["nextqa"].write(tmp_path)
    write(tmp_path / "map_vid_vidorID.json", {"0101": None, "0202": "0017/0202.mp4", "x": [1]})
    examples, skipped = read("nextqa", tmp_path)
    assert {example.media for example in examples} == {str(tmp_path / "NExTVideo/0017/0202.mp4")}
    assert skipped.num_malformed == 2


def test_activitynet_qa_in_the_forms_of_copies(tmp_path: Path) -> None:
    name = "a_3456789-1"
    questions = [
        {"question_id": f"v_{name}_{number}", "video_name": video, "question": "how many dogs "}
        for number, video in enumerate((name, f"v_{name}", name, name, name))
    ]
    answers = [
        {"question_id": questions[0]["question_id"], "answer": 2, "type": "7"},
        {"question_id": questions[1]["question_id"], "answer": " none ", "type": 7},
        {"question_id": questions[2]["question_id"], "answer": "", "type": 7},
        {"question_id": questions[3]["question_id"], "answer": "two", "type": 9},
        {"question_id": "v_unasked_1", "answer": "two", "type": 1},
    ]
    write(tmp_path / "val_q.json", questions)
    write(tmp_path / "val_a.json", answers)
    write(tmp_path / "all_test" / f"v_{name}.MKV", "")
    examples, skipped = read("activitynet_qa", tmp_path)
    assert [example.response for example in examples] == ["2", "none"]
    assert {example.video_id for example in examples} == {name}
    assert {example.media for example in examples} == {str(tmp_path / f"all_test/v_{name}.MKV")}
    assert skipped.num_malformed == 3  # two damaged answers, one missing; the unasked one is its


def test_mvbench_with_the_videos_of_the_hub(tmp_path: Path) -> None:
    """Cut to the spans, so that these may not be applied a second time."""
    corpus = TINY["mvbench"]
    rows = rows_of("mvbench")
    rows[1] |= {"video": "USNP1.mp4", "start": 1.2999999999999998, "end": 15.4}
    corpus.write(tmp_path, rows)
    write(tmp_path / "star/Charades_segment/USNP1_1.2999999999999998_15.4.mp4", "")
    write(tmp_path / "star/Charades_segment/ZS9XR_11.1_16.mp4", "")
    write(tmp_path / "video/ssv2_video_mp4/v.mp4", "")
    write(
        tmp_path / "json/episodic_reasoning.json",
        [{"video": "house", "question": "Who?", "candidates": ["a", "b"], "answer": "a"}] * 2,
    )
    examples, skipped = read("mvbench", tmp_path)
    whole, cut = (
        [
            (Path(e.media).name, e.start_seconds, e.end_seconds)
            for e in examples[number : number + 1]
        ]
        for number in (0, 1)
    )
    assert whole == [("ZS9XR_11.1_16.mp4", None, None)]
    assert cut == [("USNP1_1.2999999999999998_15.4.mp4", None, None)]
    by_type = {example.question_type: example for example in examples}
    assert by_type["action_antonym"].media == str(tmp_path / "video/ssv2_video_mp4/v.mp4")
    assert skipped.causes == {"a folder of frames is no video": 2}
    write(tmp_path / "tvqa/video_fps3_hq_segment/house.mp4", "")
    examples, skipped = read("mvbench", tmp_path)
    assert (len(examples), skipped.num_skipped) == (22, 0)
    write(tmp_path / "video/star/Charades_v1_480/ZS9XR.mp4", "")
    assert read("mvbench", tmp_path)[0][0].end_seconds == 16.0


VIDEO_MME = {
    **{"video_id": "001", "videoID": "fFjv93ACGo8", "question_id": "001-1", "duration": "short"},
    **{"task_type": "Counting Problem", "question": "How many?", "answer": "C"},
    "options": ["A. Apples.", "B. Candles.", " C. Berries.", "D. None."],
}


@pytest.mark.parametrize("form", ["parquet", "json", "jsonl", "nested"])
def test_video_mme_in_several_forms(form: str, tmp_path: Path) -> None:
    rows = [VIDEO_MME, VIDEO_MME | {"question_id": "001-2", "answer": "(A)"}]
    if form == "parquet":
        path = tmp_path / "videomme/test-00000-of-00001.parquet"
        path.parent.mkdir()
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif form == "json":
        write(tmp_path / "test.json", rows)
    elif form == "jsonl":
        write(tmp_path / "test.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    else:
        of_video = ("video_id", "videoID", "duration")
        video: dict[str, Any] = {name: VIDEO_MME[name] for name in of_video}
        questions = [{k: v for k, v in row.items() if k not in of_video} for row in rows]
        damaged = video | {"questions": 7}
        write(tmp_path / "videomme/test.json", [video | {"questions": questions}, damaged])
    write(tmp_path / "data/fFjv93ACGo8.MP4", "")
    examples, skipped = read("video_mme", tmp_path, "test")
    assert [(e.id, e.response) for e in examples] == [
        ("video_mme:test:001-1", "Berries."),
        ("video_mme:test:001-2", "Apples."),
    ]
    assert examples[0].media == str(tmp_path / "data/fFjv93ACGo8.MP4")
    assert skipped.num_malformed == (form == "nested")


def test_egoschema_as_the_hub_has_it(tmp_path: Path) -> None:
    row = {"question_idx": "0", "question": "What does C do?", "video_idx": "0074f737"}
    row |= {"option": [f"{letter}. thing {letter}" for letter in "ABCDE"]}  # type: ignore[dict-item]
    for folder, answer in (("Subset", "3"), ("MC", None)):
        path = tmp_path / folder / "test-00000-of-00001.parquet"
        path.parent.mkdir()
        rows = [row | {"answer": answer}, row | {"answer": answer, "video_idx": "00aa"}]
        parquet.write_table(pa.Table.from_pylist(rows), path)
    examples, skipped = read("egoschema", tmp_path, "subset")
    assert [(e.video_id, e.response) for e in examples] == [
        ("0074f737", "thing D"),
        ("00aa", "thing D"),
    ]
    examples, _ = read("egoschema", tmp_path, "test")
    assert [e.answer_index for e in examples] == [None, None]
    assert skipped.num_skipped == 0


def test_an_answer_of_egoschema_without_its_question(tmp_path: Path) -> None:
    TINY["egoschema"].write(tmp_path)
    write(tmp_path / "subset_answers.json", {"0074f737": "3", "gone": 1})
    examples, skipped = read("egoschema", tmp_path)
    assert [example.answer_index for example in examples] == [3]
    assert "question 'gone' is not in questions.json" in skipped.malformed[0]


def test_clevrer_in_the_forms_of_copies(tmp_path: Path) -> None:
    rows = rows_of("clevrer")
    rows[0]["scene_index"] = "10000"
    rows[0]["questions"][0] |= {"answer": 2, "question_type": "Descriptive"}
    rows[0]["questions"][1]["choices"][0]["answer"] = "Correct"
    rows[1]["questions"][1]["choices"][1]["answer"] = None
    TINY["clevrer"].write(tmp_path, rows)
    write(tmp_path / "video_validation/video_10001.mp4", "")
    examples, skipped = read("clevrer", tmp_path)
    assert [(e.group_id, e.response) for e in examples] == [
        *(("10000_0", "2"), ("10000_11", "yes"), ("10000_11", "no")),
        ("10001_0", "2"),
    ]
    assert examples[3].media == str(tmp_path / "video_validation/video_10001.mp4")
    assert "(scene_index 10001, question_id 11): field 'answer' is missing" in skipped.malformed[0]


@pytest.mark.parametrize(
    "name",
    [
        *("video_10000-11000/video_10000.mp4", "videos/video_10000-11000/video_10000.mp4"),
        *("videos/val/video_10000.MP4", "video_validation/video_10000-11000/video_10000.webm"),
    ],
)
def test_clevrers_archives_unpacked_anywhere(name: str, tmp_path: Path) -> None:
    TINY["clevrer"].write(tmp_path)
    (tmp_path / "questions/validation.json").rename(tmp_path / "validation.json")
    write(tmp_path / name, "")
    examples, _ = read("clevrer", tmp_path)
    assert {e.media for e in examples if e.video_id == "10000"} == {str(tmp_path / name)}


@pytest.mark.parametrize(
    "name",
    ["NExTVideo/0001/0101.MP4", "NExTVideo/0101.mkv", "videos/0001/0101.mp4", "Videos/0101.mp4"],
)
@pytest.mark.parametrize("reader", ["nextqa", "nextqa_open_ended", "nextgqa", "intentqa"])
def test_next_videos_in_another_container_or_folder(name: str, reader: str, tmp_path: Path) -> None:
    TINY[reader].write(tmp_path)
    write(tmp_path / name, "")
    examples, _ = read(reader, tmp_path)
    assert {e.media for e in examples if e.video_id == "0101"} == {str(tmp_path / name)}


def test_vcrs_annotations_in_the_folder_of_their_archive(tmp_path: Path) -> None:
    TINY["vcr"].write(tmp_path)
    (tmp_path / "vcr1annots").mkdir()
    (tmp_path / "val.jsonl").rename(tmp_path / "vcr1annots/val.jsonl")
    assert len(read("vcr", tmp_path)[0]) == 4


def test_vcrs_damaged_metadata_loses_its_rows_only(tmp_path: Path) -> None:
    rows = rows_of("vcr")
    rows[1] |= {"metadata_fn": "lsmdc_3015/b@0.json"}
    rows[0]["question"] += ["", " ", []]
    TINY["vcr"].write(tmp_path, rows)
    for damaged in ("{", '{"boxes": [[1, 2, Infinity, 4]]}', '{"boxes": [["1", 2, 3, 4]]}', "[]"):
        write(tmp_path / "vcr1images/lsmdc_3015/b@0.json", damaged)
        examples, skipped = read("vcr", tmp_path)
        assert {example.group_id for example in examples} == {"val-0"}
        assert "(annot_id 'val-1'): its metadata file is damaged" in skipped.malformed[0]
    assert examples[0].meta["question"] == "Does [person2] feel comfortable?"
