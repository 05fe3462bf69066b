"""Rows of predictions in every wrong shape: a message names line, field, what it should be."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vidreason.evaluation.predictions.official import read_official_predictions
from vidreason.evaluation.predictions.row_files import read_predictions, write_predictions
from vidreason.evaluation.predictions.row_schema import row_problem
from vidreason.evaluation.predictions.rows import BenchmarkPrediction, grade
from vidreason.example import Example

CHOICE: dict[str, Any] = {
    "id": "nextqa:val:1_2", "corpus": "nextqa", "video_id": "1", "question_type": "CW",
    "group_id": "", "prompt": "why", "options": list("vwxyz"),
    "option_log_likelihoods": [-1.5, -1.0, -2.0, -3.0, -4.0],
    "option_token_counts": [2, 3, 1, 1, 1], "output": "", "parsed": 1, "reference": 1,
    "reference_texts": [], "reference_justifications": [], "correct": True, "error": "",
    "num_prompt_tokens": 9, "num_visual_tokens": 64,
    "num_generated_tokens": 0, "futures": [], "true_futures": [], "outcome_kind": "",
    "outcome_seconds": None, "batch_seconds_share": 0.25, "record": {"program": "x"},
}  # fmt: skip
OPEN = CHOICE | {
    "options": [], "option_log_likelihoods": [], "option_token_counts": [], "output": "yes",
    "parsed": "yes", "reference": ["yes", "yeah"],
}  # fmt: skip
FUTURE = {"event": "it stops", "log_likelihood": -1.0, "probability": 0.25}
TRUE_FUTURE = {"text": "it stops", "probability": 0.25, "seconds": None}
TRUE_FUTURE = {"text": "it stops", "probability": 0.25, "seconds": None}
FUTURE_CHANGES: tuple[dict[str, Any], ...] = (
    *({"event": value} for value in ("", "...", None, 3)),
    *({"log_likelihood": value} for value in (math.nan, -math.inf, 0.5, None, "x", True)),
    *({"probability": value} for value in (math.nan, -0.1, 1.1, 10**400, None, "x")),
    *({"justification": value} for value in (None, 3)),
    *({"seconds": value} for value in (math.nan, math.inf, -1.0, "x")),
    {"confidence": 1.0},
)
SPAN = OPEN | {"output": "2 to 3", "parsed": [2.0, 3.0], "reference": [[1, 3.5], [7.0, 8.0]]}
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 2.5, math.nan, math.inf, "", "0", "x", [], {}, [[]], ["."], [None]),
    *([1, 2], [2.0, 1.0], [["x"]], [[1.0, math.nan]], [[3.0, 1.0]], {"a": 1}, 10**400, [[1]]),
)
VALID: dict[str, set[str]] = {
    name: {repr(value) for value in values}
    for name, values in {
        "question_type": ["", "0", "x"], "group_id": ["", "0", "x"], "prompt": ["", "0", "x"],
        "output": ["", "0", "x"], "error": ["", "0", "x"],
        "id": ["0", "x"], "corpus": ["0", "x"], "video_id": ["0", "x"],
        "option_log_likelihoods": [[]], "option_token_counts": [[]],
        "parsed": [None, 0, "", "0", "x", [1, 2], 10**400], "correct": [None, True],
        "futures": [[]], "true_futures": [[]], "outcome_kind": [""],
        "outcome_seconds": [None, 0, 2.5], "reference_texts": [[], ["."]],
        "reference_justifications": [[]],
        "num_prompt_tokens": [0, 10**400], "num_visual_tokens": [0, 10**400],
        "num_generated_tokens": [0, 10**400], "batch_seconds_share": [0, 2.5],
        "record": [{}, {"a": 1}],
    }.items()
}  # fmt: skip
REFERENCES = {
    "choice": [None, 0],
    "open": [None],
    "span": [None],
}


def mutations() -> Iterator[tuple[str, dict[str, Any]]]:
    for kind, row in (("choice", CHOICE), ("open", OPEN), ("span", SPAN)):
        valid = VALID | {"reference": {repr(value) for value in REFERENCES[kind]}}
        for name in row:
            if name in ("id", "corpus", "video_id"):
                yield name, {key: value for key, value in row.items() if key != name}
            for value in VALUES:
                one = valid.get(name, set())
                if name == "options":
                    # Also texts do not fit where there are likelihoods of five options, or spans.
                    one = set() if kind == "choice" else {"[]"}
                if repr(value) not in one:
                    # What does not fit its options is named as that.
                    shown = "(options|option_log_likelihoods|reference)"
                    yield shown if name == "options" else name, row | {name: value}
    yield "scores", CHOICE | {"scores": 1}
    for change in FUTURE_CHANGES:
        yield "futures", OPEN | {"futures": [FUTURE, FUTURE | change]}
        if not change.keys() & {"log_likelihood", "justification"}:
            item = {"text" if name == "event" else name: value for name, value in change.items()}
            yield "true_futures", OPEN | {"true_futures": [TRUE_FUTURE, TRUE_FUTURE | item]}
    yield "futures", OPEN | {"futures": [{"event": "x", "probability": 0.5}]}
    yield "true_futures", OPEN | {"true_futures": [TRUE_FUTURE | {"probability": 0.51}] * 2}
    for pairs in (["yes", "no"], [["yes"]], [["yes", "no", "no"]], [["yes", 1]], [["a", "b"], 1]):
        yield "reference_justifications", OPEN | {"reference_justifications": pairs}
    for reference in (None, ["yes", "no"], [[1.0, 2.0]]):
        yield "outcome_kind", OPEN | {"outcome_kind": "hit", "reference": reference}
    yield "futures", OPEN | {"futures": [FUTURE | {"probability": 0.35}] * 3}
    yield "futures", OPEN | {"futures": [FUTURE | {"probability": 0.0}] * 10**6}
    yield "option_log_likelihoods", CHOICE | {"option_log_likelihoods": [-1.0] * 6}
    yield "option_log_likelihoods", OPEN | {"option_log_likelihoods": [-1.0]}
    yield "option_token_counts", CHOICE | {"option_token_counts": [1] * 4}
    yield "reference", CHOICE | {"reference": 5}
    yield "reference", CHOICE | {"reference": "0"}
    yield "reference", CHOICE | {"reference": ["v"]}
    yield "reference", CHOICE | {"reference": True}
    yield "reference", OPEN | {"reference": 1}
    yield "reference", OPEN | {"reference": ["."], "output": ""}
    yield "reference", OPEN | {"reference": ["yes", [1.0, 2.0]]}
    yield "reference", SPAN | {"reference": [[1.0, 2.0, 3.0]]}


def read(tmp_path: Path, line: str) -> list[BenchmarkPrediction]:
    path = tmp_path / "p.jsonl"
    first = json.dumps({"id": "first", "corpus": "c", "video_id": "v"})
    path.write_text(f"{first}\n{line}\n")
    return read_predictions(path)


def test_whole_rows_are_read(tmp_path: Path) -> None:
    for row in (CHOICE, OPEN, SPAN):
        (_, result) = read(tmp_path, json.dumps(row))
        assert result == grade(result)
        assert (result.correct, result.reference) == (True, _tuples(row["reference"]))
    for name, valid in VALID.items():
        for value in VALUES:
            if repr(value) in valid:
                read(tmp_path, json.dumps(CHOICE | {name: value}))


def test_every_wrong_shape_is_named(tmp_path: Path) -> None:
    tried = 0
    for name, row in mutations():
        problem = row_problem(row)
        assert re.match(rf"{name} is .*, expected ", problem), row
        assert len(problem) < 420
        if tried % 40 == 0:
            with pytest.raises(ValueError, match=rf"p.jsonl:2: {re.escape(problem)}"):
                read(tmp_path, json.dumps(row))
        tried += 1
    assert tried > 800


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not valid JSON"),
        ("", "not valid JSON"),
        ("[1]", r"the row is \[1\], expected an object"),
        ("null", "the row is None, expected an object"),
        ("NaN", "the row is nan, expected an object"),
        ("[" * 200_000, "nested too deep"),
        ('{"id": ' + "9" * 5_000 + "}", "not valid JSON: Exceeds the limit"),
        ('{"id": "a", "id": "b"}', "'id' is there twice, expected once"),
        ('{"id": "first", "corpus": "c", "video_id": "v"}', "id is 'first', expected one that"),
        ('{"manifest": {}}', "id is missing, expected a text"),
    ],
)
def test_lines_that_are_no_rows(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"p.jsonl:2: .*{message}"):
        read(tmp_path, line)
    (tmp_path / "p.jsonl").write_bytes(b'{"id": "\xff"}\n')
    with pytest.raises(ValueError, match=r"p.jsonl:1: not UTF-8"):
        read_predictions(tmp_path / "p.jsonl")
    (tmp_path / "p.jsonl").write_text('{"manifest": 3}\n')
    with pytest.raises(ValueError, match=r"p.jsonl:1: manifest is 3, expected an object"):
        read_predictions(tmp_path / "p.jsonl")


def test_half_a_character_is_kept(tmp_path: Path) -> None:
    (_, row) = read(tmp_path, json.dumps(OPEN | {"output": "a \ud800"}))
    write_predictions(tmp_path / "p.jsonl", [row])
    assert read_predictions(tmp_path / "p.jsonl") == [row]


CHOSEN = Example(
    id="nextqa:val:7_0", corpus="nextqa", media="7.mp4", video_id="7", prompt="why", response="b",
    options=("a", "b", "c"), answer_index=1,
)  # fmt: skip
ASKED = replace(CHOSEN, options=(), answer_index=None, answers=("ball",))
OE = replace(ASKED, id="nextqa_open_ended:val:7_0", corpus="nextqa_open_ended")
ACTIVITYNET = replace(ASKED, id="activitynet_qa:val:7_0", corpus="activitynet_qa")


def test_official_files_in_every_wrong_shape(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    wrong: list[tuple[Example, Any]] = [
        *((CHOSEN, value) for value in VALUES if value != {}),
        *((CHOSEN, {"7_0": value}) for value in VALUES),
        *((CHOSEN, {"7_0": {"prediction": value}}) for value in VALUES if value not in (0, -1)),
        (CHOSEN, {"7_0": {"prediction": True}}),
        *(
            (CHOSEN, {"7_0": {"prediction": 1, "answer": value}})
            for value in VALUES
            if value is not None
        ),
        *((OE, value) for value in VALUES if value != {}),
        *((OE, {"7": value}) for value in VALUES),
        *((OE, {"7": {"0": value}}) for value in VALUES if not isinstance(value, str)),
        (OE, {"7": {"0": "x"}, "7_0": {}, "": {"7_0": "y"}}),
        *((ACTIVITYNET, value) for value in VALUES),
        *((ACTIVITYNET, [{"question_id": value, "answer": "x"}]) for value in VALUES),
        *(
            (ACTIVITYNET, [{"question_id": "7_0", "answer": value}])
            for value in VALUES
            if not isinstance(value, str)
        ),
    ]
    for example, content in wrong:
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=r"p\.json"):
            read_official_predictions(path, [example])
    for text in ('{"7_0": {"prediction": 1}, "7_0": {"prediction": 2}}', "{", "[" * 200_000, ""):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"p\.json: not valid JSON"):
            read_official_predictions(path, [CHOSEN])


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
