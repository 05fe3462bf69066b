"""Readers of benchmarks: questions, references, groups."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from PIL import Image
from tiny_corpora import TINY_CORPORA, examples_in

from data_modules.skipped_rows import SkippedRows
from vidreason.example import Example
from vidreason.video.reader import DIRECT

REAL = Path(
    os.environ.get("VIDREASON_ANNOTATIONS", Path(__file__).parents[3] / "shared/data/annotations")
)
TINY = {corpus.reader: corpus for corpus in TINY_CORPORA}


def read(reader: str, root: Path, rows: list[dict[str, Any]] | None = None) -> list[Example]:
    corpus = TINY[reader]
    corpus.write(root, rows)
    return examples_in(reader, root, corpus.split)


def test_nextgqa_asks_for_the_answer_and_for_its_time(tmp_path: Path) -> None:
    answer, grounding, *_ = examples = read("nextgqa", tmp_path)
    assert len(examples) == 8
    assert (answer.id, grounding.id) == (
        "nextgqa:val:0101_1:answer",
        "nextgqa:val:0101_1:grounding",
    )
    assert answer.group_id == grounding.group_id == "0101_1"
    assert (answer.options[1], answer.answer_index, answer.spans) == ("option 1", 1, ())
    assert (grounding.options, grounding.spans) == ((), ((0.5, 3.0),))
    assert (grounding.question_type, grounding.response) == ("grounding", "0.5 to 3.0")
    (tmp_path / "gsub_val.json").write_text('{"0101": {"location": {"1": [[0, 1]]}}}')
    with pytest.raises(ValueError, match=r"'0101_2' in gsub_val.json .*: there is no segment"):
        examples_in("nextgqa", tmp_path, "val")
    (tmp_path / "gsub_val.json").unlink()
    assert len(examples_in("nextgqa", tmp_path, "val")) == 4


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real annotation files are not in {REAL}")
def test_nextgqa_of_the_real_files(tmp_path: Path) -> None:
    for name in ("nextgqa/val.csv", "nextgqa/gsub_val.json", "nextqa/map_vid_vidorID.json"):
        (tmp_path / Path(name).name).symlink_to(REAL / name)
    examples = examples_in("nextgqa", tmp_path, "val")
    grounding = [example for example in examples if example.spans]
    assert (len(examples), len(grounding)) == (2 * 3358, 3358)
    assert sum(len(example.spans) for example in grounding) == 3931
    assert sum(len(example.spans) > 1 for example in grounding) == 339
    assert len({example.video_id for example in examples}) == 567


def test_clevrer_asks_about_each_option(tmp_path: Path) -> None:
    seen, right, wrong, *_ = examples = read("clevrer", tmp_path)
    assert len(examples) == 6
    assert (seen.id, seen.answers, seen.options) == ("clevrer:val:10000_0", ("2",), ())
    assert [e.id for e in (right, wrong)] == ["clevrer:val:10000_11_0", "clevrer:val:10000_11_1"]
    assert (right.options[0], right.answer_index, wrong.answer_index) == ("yes", 0, 1)
    assert right.group_id == wrong.group_id == "10000_11"
    assert "the cube entering" in wrong.prompt
    assert wrong.prompt.startswith("What is responsible for the collision?")
    folder = "video_10000-11000/video_10000.mp4"
    assert seen.media == str(tmp_path / "videos/validation" / folder)
    (tmp_path / "video_validation" / folder).parent.mkdir(parents=True)
    (tmp_path / "video_validation" / folder).write_text("")
    seen, *_ = examples_in("clevrer", tmp_path, "val")
    assert seen.media == str(tmp_path / "video_validation" / folder)


def test_a_clevrer_scene_without_questions_has_no_example(tmp_path: Path) -> None:
    rows = json.loads(json.dumps(TINY["clevrer"].rows))
    rows[0]["questions"] = []
    assert {e.video_id for e in read("clevrer", tmp_path, rows)} == {"10001"}


def test_clevrers_test_split_hides_its_answers(tmp_path: Path) -> None:
    rows = json.loads(json.dumps(TINY["clevrer"].rows))
    for row in rows:
        row["questions"][0].pop("answer")
        for choice in row["questions"][1]["choices"]:
            choice.pop("answer")
    for example in read("clevrer", tmp_path, rows):
        assert (example.response, example.answers, example.answer_index) == ("", (), None)


def test_vcr_names_objects_and_keeps_their_boxes(tmp_path: Path) -> None:
    answer, rationale, *_ = examples = read("vcr", tmp_path)
    assert [e.id for e in examples[:2]] == ["vcr:val:val-0:answer", "vcr:val:val-0:rationale"]
    boxes = "Boxes (left, top, right, bottom in percent of the picture): "
    assert answer.prompt.startswith(
        f"{boxes}[person1] 2 5 60 100; [person2] 10 15 14 21\n"
        "Does [person2] feel comfortable?\n(A) Yes.\n(B) No, [person1]"
    )
    assert rationale.prompt.startswith(
        f"{boxes}[person1] 2 5 60 100; [person2] 10 15 14 21; [car3]"
    )
    assert answer.response == "No, [person1] and [person2] do"
    assert answer.response in rationale.prompt  # the right answer is given
    assert rationale.response == "[car3] is here."
    assert answer.group_id == rationale.group_id == "val-0"
    assert json.loads(answer.meta["boxes"])["[person2]"] == [5, 6, 7, 8.5]
    rows = json.loads(json.dumps(TINY["vcr"].rows))
    rows[0]["question"][1] = [7]
    assert read("vcr", tmp_path, rows)[0].meta["question"] == "Does [object8] feel comfortable?"
    metadata = tmp_path / "vcr1images/lsmdc_3015/a@0.json"
    for content, has_boxes in (('{"boxes": [[1, 2, 30, 40]]}', True), (None, False)):
        if content is None:
            metadata.unlink()
        else:
            metadata.write_text(content)
        (answer, *_) = examples_in("vcr", tmp_path, "val")
        assert answer.prompt.startswith("Does [object8] feel")  # of what size the picture is?
        assert ("boxes" in answer.meta) == has_boxes


def test_vcr_without_labels_asks_for_the_rationale_of_each_answer(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if not k.endswith("_label")} for row in TINY["vcr"].rows]
    examples = read("vcr", tmp_path, rows)
    kinds = [example.id.rpartition(":")[2] for example in examples[:5]]
    assert kinds == ["answer", *(f"rationale_given_{k}" for k in range(4))]
    assert Counter(e.question_type for e in examples) == {"answer": 2, "rationale": 8}
    assert all(example.answer_index is None and not example.response for example in examples)
    assert "Never" in examples[4].prompt.partition("Why?")[0]


def test_an_image_is_a_video_of_one_frame(tmp_path: Path) -> None:
    """Lossless ones exactly; a name with a number in it is no pattern of many files."""
    picture = np.random.default_rng(0).integers(0, 256, (37, 50, 3), dtype=np.uint8)
    for name in ("a@0.png", "100%03d.png", "7.bmp"):
        Image.fromarray(picture).save(tmp_path / name)
        index = DIRECT.index(str(tmp_path / name))
        assert (index.num_frames, index.timestamps.tolist()) == (1, [0.0])
        frame = DIRECT.read_frames(index, [0])[0].permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(frame, picture)
    smooth = np.full((32, 48, 3), (200, 60, 30), dtype=np.uint8)
    Image.fromarray(smooth).save(tmp_path / "b.jpg", quality=95)
    (frame,) = DIRECT.read_frames(DIRECT.index(str(tmp_path / "b.jpg")), [0])
    assert np.abs(frame.permute(1, 2, 0).numpy().astype(int) - smooth).max() <= 3


def test_test_of_time_reads_what_is_there(tmp_path: Path) -> None:
    one, two = read("test_of_time", tmp_path)
    assert one.group_id == two.group_id == "p0"
    assert (one.media, one.start_seconds) == (str(tmp_path / "videos/clip7.mp4"), 0.5)
    synthetic = tmp_path / "ToT-syn-v2.0/splits"
    synthetic.mkdir(parents=True)
    (synthetic / "test_v2.0.csv").write_text(
        "video_id,sentence,end_time\nv1,a red circle appears before a square appears,2\n"
        "v2,a square appears after a red circle appears,2\n"
    )
    agqa = tmp_path / "AGQA/splits"
    agqa.mkdir(parents=True)
    (agqa / "test_unbalanced_subset-temporal-v1.0.csv").write_text(
        "video_id,question,answer\nX1,Did they sit before or after standing?,after\n"
    )
    examples = examples_in("test_of_time", tmp_path, "test")
    assert [e.meta["source"] for e in examples] == ["invented"] * 2 + ["tot_syn"] * 2 + [
        "agqa_temporal"
    ]
    first, second, agqa_example = examples[2:]
    assert first.options[0] == first.response == "a red circle appears before a square appears"
    assert first.options[1] == "a square appears before a red circle appears"
    assert (second.answer_index, second.options[0]) == (
        1,
        "a red circle appears after a square appears",
    )
    assert agqa_example.answer_index == 1
    with pytest.raises(ValueError, match=r"has none of val.jsonl, .*: check the corpus' root"):
        examples_in("test_of_time", tmp_path, "val")


def test_manifests(tmp_path: Path) -> None:
    mvbench = read("mvbench", tmp_path / "mvbench")
    assert Counter(e.question_type for e in mvbench)["action_sequence"] == 2
    assert len({e.question_type for e in mvbench}) == 19
    first = mvbench[0]
    assert first.media == str(tmp_path / "mvbench/video/star/Charades_v1_480/ZS9XR.mp4")
    assert (first.start_seconds, first.end_seconds, first.answer_index) == (11.1, 16.0, 0)
    tempcompass = read("tempcompass", tmp_path / "tempcompass")
    assert [(e.question_type, e.options, e.answer_index) for e in tempcompass[1:]] == [
        ("action/multi-choice", ("dunking", "passing a ball"), 0),
        ("speed/yes_no", ("yes", "no"), 0),
        ("order/caption_matching", ("One.", "Two."), 1),
    ]
    assert tempcompass[0].meta["question"] == "What is the man doing?"
    egoschema = read("egoschema", tmp_path / "egoschema")
    assert [(e.video_id, e.answer_index) for e in egoschema] == [("0074f737", 3), ("00aa7247", 0)]
    hidden = examples_in("egoschema", tmp_path / "egoschema", "test")
    assert [e.answer_index for e in hidden] == [None] * 3
    star = read("star", tmp_path / "star")
    assert (star[0].question_type, star[0].response) == ("Interaction", "The door.")
    intentqa = read("intentqa", tmp_path / "intentqa")
    assert (intentqa[0].id, intentqa[0].corpus) == ("intentqa:val:0101_1", "intentqa")


def test_mvbenchs_folders_of_frames_are_counted(tmp_path: Path) -> None:
    TINY["mvbench"].write(tmp_path)
    row = {"video": "house", "question": "Who?", "candidates": ["a", "b"], "answer": "a"}
    (tmp_path / "json/episodic_reasoning.json").write_text(json.dumps([row, row]))
    skipped = SkippedRows()
    assert len(examples_in("mvbench", tmp_path, "test", skipped)) == 20
    assert skipped.causes == {"a folder of frames is no video": 2}


def test_video_mme(tmp_path: Path) -> None:
    rows = [
        {
            "video_id": "001",
            "videoID": "fFjv93ACGo8",
            "question_id": f"001-{number}",
            "duration": "short",
            "task_type": "Counting Problem",
            "question": "How many?",
            "options": ["A. Apples.", "B. Candles.", "C. Berries.", "D. None."],
            "answer": "C",
        }
        for number in (1, 2)
    ]
    path = tmp_path / "videomme/test-00000-of-00001.parquet"
    path.parent.mkdir()
    parquet.write_table(pa.Table.from_pylist(rows), path)
    examples = examples_in("video_mme", tmp_path, "test")
    assert [e.id for e in examples] == ["video_mme:test:001-1", "video_mme:test:001-2"]
    assert (examples[0].options[2], examples[0].answer_index) == ("Berries.", 2)
    assert examples[0].question_type == "short/Counting Problem"
    assert examples[0].media == str(tmp_path / "data/fFjv93ACGo8.mp4")
    for name, value in (
        ("answer", "E"),
        ("options", ["A. x"]),
        ("duration", ""),
        ("videoID", None),
    ):
        parquet.write_table(pa.Table.from_pylist([rows[0] | {name: value}, rows[1]]), path)
        with pytest.raises(ValueError, match=rf"test-00000-.*:1 \(.*'001-1'\): field '{name}'"):
            examples_in("video_mme", tmp_path, "test")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"00001\.parquet: not a sound parquet file: .*; fetch"):
        examples_in("video_mme", tmp_path, "test")


def test_answers_in_some_rows_only_are_refused(tmp_path: Path) -> None:
    first, second = TINY["star"].rows
    rows = [first, second | {"answer": None}]
    with pytest.raises(ValueError, match=r"STAR_val.json:\d+ \(.*\): field 'answer' is missing"):
        read("star", tmp_path, rows)
