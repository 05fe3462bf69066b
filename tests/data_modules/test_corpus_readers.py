"""Readers against invented rows in the corpora's own formats, and against the real files where they
are at hand."""

import json
import math
import os
from collections import Counter
from pathlib import Path

import pytest
from tiny_corpora import examples_in

from data_modules.causal_vid_instruct import (
    SINGLE_PREDICTION_PROMPT,
)
from data_modules.corpora import BUILT_IN_READERS, CorpusConfig, DataConfig
from data_modules.corpus_index import open_corpora
from data_modules.readers import READERS
from data_modules.skipped_rows import SkippedRows
from vidreason.config import merge_config
from vidreason.reasoning.outcomes import Outcome, TrueFuture, outcome_of, true_futures_of
from vidreason.reasoning.predictions import parse_predictions
from vidreason.reasoning.prompts import (
    CAPTION_PROMPT,
    EVENT_REASONING_PROMPT,
    FUTURE_PREDICTION_PROMPT,
    multiple_choice_prompt,
    open_ended_prompt,
)

REAL = Path(
    os.environ.get("VIDREASON_ANNOTATIONS", Path(__file__).parents[3] / "shared/data/annotations")
)
needs_real_files = pytest.mark.skipif(
    not REAL.is_dir(), reason=f"the real annotation files are not in {REAL}"
)

WEBVID_ORIGINAL = """videoid,name,page_idx,page_dir,duration,contentUrl
0021,"A dog runs, then stops.",3,000001_000050,PT00H00M10S,https://example.org/0021.mp4
77,Waves at dusk,4,,PT01H00M11S,https://example.org/77.mp4
78,  ,4,000051_000100,PT00H00M09S,https://example.org/78.mp4
79,"None",4,000051_000100,PT00H00M09S,https://example.org/79.mp4
"""
WEBVID_MIRROR = """videoid,contentUrl,duration,page_dir,name
0021,https://example.org/0021.mp4,PT00H00M10S,000001_000050,"A dog runs, then stops."
"""
NEXTQA_HEADER = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4"
NEXTQA = f"""{NEXTQA_HEADER}
0101,369,640,480,why did the ball roll,2,6,CW,wind,a dog,it was pushed,rain,None
0101,369,640,480,how many dogs are there,0,7,DC,2,3,4,5,6
0202,300,640,480,what did the boy do after jumping,4,1,TP,sit,run,hide,cry,laugh
"""
NEXTGQA = NEXTQA.replace("video,", "video_id,", 1)
NEXTGQA = NEXTGQA.replace("roll,2,", "roll,it was pushed,").replace("there,0,", "there,2,")
NEXTGQA = NEXTGQA.replace("jumping,4,", "jumping,laugh,")
VIDEO_MAP = {"0101": "0001/0101", "0202": "0017/0202"}


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def write_nextqa(root: Path, text: str = NEXTQA, split: str = "val") -> str:
    write(root / f"{split}.csv", text)
    write(root / "map_vid_vidorID.json", json.dumps(VIDEO_MAP))
    return str(root)


def test_webvid_keeps_leading_zeros_and_rows_without_folder(tmp_path: Path) -> None:
    write(tmp_path / "metadata/results_2M_train.csv", WEBVID_ORIGINAL)
    skipped = SkippedRows()
    dog, waves = examples_in("webvid", tmp_path, "train", skipped)
    assert (dog.id, dog.video_id) == ("webvid:train:0021", "0021")
    assert dog.media == str(tmp_path / "videos/000001_000050/0021.mp4")
    assert (dog.prompt, dog.response) == (CAPTION_PROMPT, "A dog runs, then stops.")
    assert (dog.start_seconds, dog.end_seconds) == (None, None)  # the csv's duration is not trusted
    assert waves.media == str(tmp_path / "videos/77.mp4")
    assert dict(skipped.causes) == {"no caption (column 'name')": 2}  # one of them "None"
    locations = [f"{tmp_path}/metadata/results_2M_train.csv:{line}" for line in (4, 5)]
    assert skipped.first_locations["no caption (column 'name')"] == locations


@pytest.mark.parametrize("name", ["val.csv", "data/val/partitions/0000.csv"])
def test_webvid_mirror_has_another_header_and_folder(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, WEBVID_MIRROR)
    (dog,) = examples_in("webvid", tmp_path, "val")
    assert dog.response == "A dog runs, then stops."
    assert dog.media.endswith("videos/000001_000050/0021.mp4")


def test_webvid_errors_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="check the corpus' root and split"):
        examples_in("webvid", tmp_path, "train")
    path = write(tmp_path / "train.csv", "id,name,page_dir\n1,a,b\n")
    with pytest.raises(ValueError, match=r"train.csv:1: .*'videoid'; expected .* found id, name"):
        examples_in("webvid", tmp_path, "train")
    write(path, WEBVID_MIRROR + "5,url,PT,dir,a caption, with a comma\n")
    with pytest.raises(ValueError, match=r"train.csv:3: expected 5 columns .* found 6; .* quotes"):
        examples_in("webvid", tmp_path, "train")
    write(path, WEBVID_MIRROR + '5,url,PT,dir,"never closed\n')
    with pytest.raises(ValueError, match=r"train.csv:3: not a valid CSV row"):
        examples_in("webvid", tmp_path, "train")
    for part in ("2M", "10M"):
        write(tmp_path / f"metadata/results_{part}_train.csv", WEBVID_ORIGINAL)
    with pytest.raises(ValueError, match="overlap; keep one"):
        examples_in("webvid", tmp_path, "train")


def test_nextqa_lists_options_in_the_prompt_and_answers_with_the_text(tmp_path: Path) -> None:
    pushed, dogs, laugh = examples_in("nextqa", write_nextqa(tmp_path), "val")
    assert pushed.id == "nextqa:val:0101_6"
    assert pushed.media == str(tmp_path / "NExTVideo/0001/0101.mp4")
    options = ("wind", "a dog", "it was pushed", "rain", "None")
    assert pushed.options == options
    assert pushed.prompt == multiple_choice_prompt("why did the ball roll", options)
    assert "(C) it was pushed" in pushed.prompt
    assert (pushed.answer_index, pushed.response, pushed.question_type) == (
        2,
        "it was pushed",
        "CW",
    )
    assert (dogs.answer_index, dogs.response) == (0, "2")
    assert (laugh.video_id, laugh.question_type) == ("0202", "TP")


def test_nextgqa_copy_gives_the_same_examples(tmp_path: Path) -> None:
    # Its column "video" is "video_id" and its answers are texts, "2" among them.
    original = examples_in("nextqa", write_nextqa(tmp_path), "val")
    assert examples_in("nextqa", write_nextqa(tmp_path, NEXTGQA), "val") == original


def test_nextqa_hidden_answers(tmp_path: Path) -> None:
    text = NEXTQA.replace("roll,2,", "roll,,")
    with pytest.raises(ValueError, match=r"val.csv:2 .*: column 'answer' is empty"):
        examples_in("nextqa", write_nextqa(tmp_path, text), "val")
    text = text.replace("there,0,", "there,,").replace("jumping,4,", "jumping,,")
    for example in examples_in("nextqa", write_nextqa(tmp_path, text), "val"):
        assert (example.answer_index, example.response, example.answers) == (None, "", ())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "roll,2,",
            "roll,5,",
            r"val.csv:2 \(video '0101', qid '6'\): field 'answer' is '5', which",
        ),
        ("roll,2,", "roll,snow,", r"val.csv:2 .*: field 'answer' is 'snow', which names none"),
        ("\n0202", "\n0303", r"val.csv:4 .*: video '0303' is not in .*map_vid_vidorID.json"),
        ("video,", "clip,", r"val.csv:1: the header has neither 'video'"),
        ("qid,", "id,", r"val.csv:1: the header has no column 'qid'"),
    ],
)
def test_nextqa_errors_name_file_and_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        examples_in("nextqa", write_nextqa(tmp_path, NEXTQA.replace(old, new, 1)), "val")


def test_nextqa_open_ended_has_two_references_in_the_test_split(tmp_path: Path) -> None:
    header = "video,frame_count,width,height,question,answer,qid,type\n"
    rows = "0101,9,6,4,is it indoor,no,4,DB\n0101,9,6,4,why,parachuting,0,CW\n"
    write(tmp_path / "test.csv", header + rows + "0101,9,6,4,why so,another,0,CW\n")
    write(tmp_path / "map_vid_vidorID.json", json.dumps(VIDEO_MAP))
    second = {"0101": {"0": "skydiving", "4": "no"}, "0202": {"1": "unused"}}
    write(tmp_path / "add_reference_answer_test.json", json.dumps(second))
    skipped = SkippedRows(max_malformed_fraction=1.0)
    indoor, why = examples_in("nextqa_open_ended", tmp_path, "test", skipped)
    assert indoor.id == "nextqa_open_ended:test:0101_4"
    assert (indoor.response, indoor.answers, indoor.question_type) == ("no", ("no",), "DB")
    assert (why.response, why.answers) == ("parachuting", ("parachuting", "skydiving"))
    assert why.media == str(tmp_path / "NExTVideo/0001/0101.mp4")
    assert why.prompt == open_ended_prompt("why")
    assert skipped.causes == {"malformed": 1}
    assert "test.csv:4 (video '0101', qid '0'): the id" in skipped.malformed[0]


def write_activitynet_qa(root: Path) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    questions: list[dict[str, object]] = [
        {"video_name": "a-1", "question": "is it indoor", "question_id": "v_a-1_2"},
        {"video_name": "b_2", "question": "how many dogs", "question_id": "v_b_2_1"},
    ]
    answers: list[dict[str, object]] = [
        {"answer": "2", "type": 7, "question_id": "v_b_2_1"},
        {"answer": "yes", "type": 3, "question_id": "v_a-1_2"},
    ]
    write(root / "val_q.json", json.dumps(questions))
    write(root / "val_a.json", json.dumps(answers))
    return questions, answers


def test_activitynet_qa_joins_by_id_and_finds_the_container(tmp_path: Path) -> None:
    write_activitynet_qa(tmp_path)
    for name in ("v_a-1.webm", "v_a-1.mkv", "v_a-1.mp4.part"):
        write(tmp_path / "videos" / name, "")
    indoor, dogs = examples_in("activitynet_qa", tmp_path, "val")
    assert indoor.id == "activitynet_qa:val:v_a-1_2"
    assert (indoor.response, indoor.answers, indoor.question_type) == ("yes", ("yes",), "3")
    assert indoor.prompt == open_ended_prompt("is it indoor")
    assert indoor.media == str(tmp_path / "videos/v_a-1.mkv")
    assert dogs.media == str(tmp_path / "videos/v_b_2.mp4")  # missing: whoever opens it finds out
    assert (dogs.video_id, dogs.response, dogs.question_type) == ("b_2", "2", "7")
    (tmp_path / "val_a.json").unlink()
    assert [e.response for e in examples_in("activitynet_qa", tmp_path, "val")] == ["", ""]


def test_activitynet_qa_errors(tmp_path: Path) -> None:
    questions, answers = write_activitynet_qa(tmp_path)
    write(tmp_path / "val_a.json", json.dumps(answers[:1]))
    with pytest.raises(ValueError, match=r"val_q.json:1 .*question_id 'v_a-1_2' has no answer"):
        examples_in("activitynet_qa", tmp_path, "val")
    write(tmp_path / "val_a.json", json.dumps([*answers, answers[0] | {"answer": "3"}]))
    with pytest.raises(ValueError, match=r"val_a.json:1 .*'v_b_2_1'\): field 'answer' .*twice"):
        examples_in("activitynet_qa", tmp_path, "val")
    del questions[1]["video_name"]
    write(tmp_path / "val_q.json", json.dumps(questions))
    with pytest.raises(
        ValueError, match=r"val_q.json:1 .*: field 'video_name' is missing or empty"
    ):
        examples_in("activitynet_qa", tmp_path, "val")
    write(tmp_path / "val_q.json", "[\n{]")
    with pytest.raises(ValueError, match=r"val_q.json:2: not valid JSON"):
        examples_in("activitynet_qa", tmp_path, "val")
    with pytest.raises(ValueError, match=r"no file .*test_q.json; the folder holds val_a.json"):
        examples_in("activitynet_qa", tmp_path, "test")


CAUSAL_ROW = {
    "id": "r1",
    "source": "ssv2",
    "video_id": "00123",
    "start": 1.5,
    "end": 4,
    "instruction": "",
    "causal_explanation": ["The ball rolls because it was pushed.", "It hits the wall."],
    "prediction": "The ball stops.",
    "predictions": [
        {"text": "The ball stops", "confidence": 0.7, "justification": "it slows down"},
        {"text": "The ball bounces back", "confidence": 0.25},
    ],
    "teacher": "t",
    "teacher_prompt_sha": "s",
    "created": "2024-01-01",
    "license_tag": "x",
}


def write_causal(root: Path, *rows: dict[str, object]) -> str:
    write(root / "train.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return str(root)


def test_causal_vid_instruct_gives_an_explanation_and_a_prediction(tmp_path: Path) -> None:
    root = write_causal(tmp_path, CAUSAL_ROW)
    explanation, prediction = examples_in("causal_vid_instruct", root, "train")
    assert explanation.id == "causal_vid_instruct:train:r1:explanation"
    assert explanation.prompt == EVENT_REASONING_PROMPT
    assert explanation.response == (
        "1. The ball rolls because it was pushed.\n2. It hits the wall."
    )
    assert (explanation.start_seconds, explanation.end_seconds) == (1.5, 4.0)
    assert explanation.media == str(tmp_path / "videos/00123.mp4")
    assert prediction.id == "causal_vid_instruct:train:r1:prediction"
    assert prediction.prompt == FUTURE_PREDICTION_PROMPT
    parsed = parse_predictions(prediction.response)
    assert parsed.unparsed == ""
    assert [tuple(item) for item in parsed.items] == [
        ("The ball stops", "it slows down", 0.7),
        ("The ball bounces back", "", 0.25),
    ]


def test_causal_vid_instruct_invents_no_confidence(tmp_path: Path) -> None:
    row = CAUSAL_ROW | {"predictions": [], "instruction": "Explain.", "start": None, "end": None}
    explanation, prediction = examples_in(
        "causal_vid_instruct", write_causal(tmp_path, row), "train"
    )
    assert (explanation.prompt, explanation.start_seconds) == ("Explain.", None)
    assert (prediction.prompt, prediction.response) == (SINGLE_PREDICTION_PROMPT, "The ball stops.")
    (only,) = examples_in(
        "causal_vid_instruct", write_causal(tmp_path, row | {"prediction": None}), "train"
    )
    assert only.question_type == "explanation"


OUTCOME = {"text": "The ball stops", "kind": "block", "seconds": 0.5}


def test_causal_vid_instruct_says_what_came_next(tmp_path: Path) -> None:
    futures = [
        {"text": "The ball stops", "probability": 0.7, "seconds": 0.75},
        {"text": "Nothing moves", "probability": 0.2995, "seconds": None},
    ]
    row = CAUSAL_ROW | {"outcome": OUTCOME, "futures": futures}
    root = write_causal(tmp_path, row, row | {"id": "r2", "outcome": None, "futures": []})
    explanation, prediction, _, other = examples_in("causal_vid_instruct", root, "train")
    assert prediction.answers == ("The ball stops",)
    assert outcome_of(prediction.meta) == Outcome("The ball stops", "block", 0.5)
    assert true_futures_of(prediction.meta) == (
        TrueFuture("The ball stops", 0.7, 0.75),
        TrueFuture("Nothing moves", 0.2995),
    )
    # Nothing of it in what is trained on, or beside the explanation.
    assert prediction.response == other.response
    assert outcome_of(explanation.meta) is None
    assert other.answers == ("The ball stops", "The ball bounces back")
    assert (outcome_of(other.meta), true_futures_of(other.meta)) == (None, ())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": ""}, r"train.jsonl:1: field 'id' is missing or empty"),
        ({"start": "x"}, r"train.jsonl:1 .*: field 'start' must be seconds"),
        ({"causal_explanation": "text"}, r"'causal_explanation' must be a list of texts"),
        ({"predictions": [{"text": "a", "confidence": 1.2}]}, r"'confidence' from 0 to 1"),
        ({"predictions": [{"text": "a", "confidence": 0.1}] * 4}, r"at most 3 objects"),
        (
            {"causal_explanation": [], "predictions": [], "prediction": ""},
            r"'r1'.*: it has none of 'causal_explanation'",
        ),
        ({"outcome": "it stops"}, r"field 'outcome' must be an object"),
        ({"outcome": OUTCOME | {"text": "..."}}, r"'outcome': expected a 'text' with a word"),
        ({"outcome": OUTCOME | {"kind": ""}}, r"field 'kind' is missing or empty"),
        ({"outcome": OUTCOME | {"seconds": math.inf}}, r"'outcome': expected 'seconds' after"),
        (
            {"outcome": OUTCOME, "predictions": [], "prediction": ""},
            r"it has 'outcome' or 'futures', but none of 'prediction', 'predictions'",
        ),
        ({"futures": {"text": "x"}}, r"'futures' must be a list of objects"),
        ({"futures": [{"text": "x"}]}, r"'futures': expected a 'probability' from 0 to 1"),
        ({"futures": [{"text": "x", "probability": math.nan}]}, r"a 'probability' from 0 to 1"),
        ({"futures": [{"text": "", "probability": 1.0}]}, r"'futures': expected a 'text' with"),
        ({"futures": [{"text": "x", "probability": 0.99}]}, r"sum to 0.99, expected 1 within"),
        (
            {"futures": [{"text": t, "probability": 0.5} for t in ("a b", "A  b")]},
            "'a b' more than",
        ),
        (
            {"futures": [{"text": "x", "probability": 1}] * 1001},
            "has 1001 events, expected at most",
        ),
    ],
)
def test_causal_vid_instruct_errors(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        examples_in("causal_vid_instruct", write_causal(tmp_path, CAUSAL_ROW | change), "train")


def test_corpora_are_read_in_order_with_a_limit_and_unique_ids(tmp_path: Path) -> None:
    root = write_nextqa(tmp_path)
    config = CorpusConfig(reader="nextqa", root=root, split="val", limit=2)
    assert open_corpora([config]).sizes == [2]
    with pytest.raises(ValueError, match=r"the list of corpora has corpus 'nextqa'.* twice, as"):
        open_corpora([config, config])
    write(tmp_path / "empty.csv", WEBVID_MIRROR.splitlines()[0] + "\n")
    with pytest.raises(ValueError, match=r"'webvid', split 'empty' .* has no example"):
        open_corpora([CorpusConfig(reader="webvid", root=root, split="empty")])
    assert tuple(READERS) == BUILT_IN_READERS


def test_configuration_is_checked_and_read_from_yaml(tmp_path: Path) -> None:
    for change in ({"weight": 0.0}, {"limit": 0}):
        with pytest.raises(ValueError, match=f"corpus webvid.{next(iter(change))} is 0"):
            CorpusConfig(reader="webvid", root="r", **change)
    for name in ("batch_size", "global_batch_size", "num_epochs"):
        with pytest.raises(ValueError, match=f"data.{name} is 0"):
            DataConfig(**{name: 0})
    with pytest.raises(ValueError, match=r"data.max_unreadable_fraction is 2"):
        DataConfig(max_unreadable_fraction=2)
    with pytest.raises(ValueError, match=r"data.decode_timeout_seconds is 0.*null for no limit"):
        DataConfig(decode_timeout_seconds=0)
    text = "train:\n- {reader: webvid, root: /w}\n- {reader: nextqa, root: /n, weight: 0.5}\n"
    config = merge_config(DataConfig, [str(write(tmp_path / "d.yaml", text))])
    assert [corpus.weight for corpus in config.train] == [1.0, 0.5]
    bad = write(tmp_path / "bad.yaml", "train:\n- {reader: vimeo, root: /w}\n")
    with pytest.raises(ValueError, match="vimeo"):
        merge_config(DataConfig, [str(bad)])


@needs_real_files
def test_real_nextqa_val() -> None:
    examples = examples_in("nextqa", REAL / "nextqa", "val")
    assert len(examples) == 4996
    assert len({example.id for example in examples}) == 4996
    assert len({example.video_id for example in examples}) == 570
    types = {"CW": 1924, "CH": 683, "TN": 895, "TC": 663, "TP": 54, "DC": 177, "DL": 295, "DO": 305}
    assert Counter(example.question_type for example in examples) == types
    first = examples[0]
    assert (first.id, first.response) == ("nextqa:val:4010069381_6", "roll the handle")
    assert sum(len(set(example.options)) < 5 for example in examples) == 3


@needs_real_files
def test_real_nextgqa_val_agrees_with_nextqa(tmp_path: Path) -> None:
    (tmp_path / "val.csv").symlink_to(REAL / "nextgqa/val.csv")
    (tmp_path / "map_vid_vidorID.json").symlink_to(REAL / "nextqa/map_vid_vidorID.json")
    examples = examples_in("nextqa", tmp_path, "val")
    assert len(examples) == 3358
    assert len({example.video_id for example in examples}) == 567
    originals = {example.id: example for example in examples_in("nextqa", REAL / "nextqa", "val")}
    assert all(example.answer_index == originals[example.id].answer_index for example in examples)
    # The two files differ in one option of one question.
    differ = [e.id for e in examples if e.response != originals[e.id].response]
    assert differ == ["nextqa:val:7987845241_6"]


@needs_real_files
def test_real_nextqa_open_ended_val(tmp_path: Path) -> None:
    (tmp_path / "val.csv").symlink_to(REAL / "next_oe/val.csv")
    (tmp_path / "map_vid_vidorID.json").symlink_to(REAL / "nextqa/map_vid_vidorID.json")
    skipped = SkippedRows()
    examples = examples_in("nextqa_open_ended", tmp_path, "val", skipped)
    assert len(examples) == len({example.id for example in examples}) == 5343
    assert len({example.video_id for example in examples}) == 570
    types = {"CW": 1928, "CH": 683, "TN": 895, "TC": 663, "TP": 54}
    types |= {"DB": 277, "DC": 192, "DL": 295, "DO": 356}
    assert Counter(example.question_type for example in examples) == types
    assert skipped.num_skipped == 0


@needs_real_files
def test_real_activitynet_qa_val() -> None:
    examples = examples_in("activitynet_qa", REAL / "activitynet_qa", "val")
    assert len(examples) == 18000
    assert len({example.video_id for example in examples}) == 1800
    assert Counter(example.question_type for example in examples).keys() == set("012345678")
    assert all(example.response for example in examples)
    assert examples[0].id == "activitynet_qa:val:v_TIEzvhv6xaI_2"
