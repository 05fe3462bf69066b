"""Review files: what may stand in them, and what several reviewers together do to a row."""

import json
import math

import pytest
from reviewed_set import accepted_row, review_of, write_rows

from vidreason.reasoning.predictions import Prediction
from vidreason.teacher.draft import Draft, Step
from vidreason.teacher.reviews import EDITED_DIFFERENTLY, Reviews, read_reviews, row_sha

ROW = accepted_row(1)
EDIT = review_of(ROW, "edit")


def reviews_of(tmp_path, *rows):
    return read_reviews(write_rows(tmp_path / "review-ann.jsonl", list(rows)))


def outcome(tmp_path, *rows, row=ROW):
    """Name of the decision on a row, and the row, after reviews in a file each."""
    reviews = [
        one
        for number, review in enumerate(rows)
        for one in read_reviews(write_rows(tmp_path / f"{number}.jsonl", [review]))
    ]
    return Reviews(reviews).apply(row)


def test_a_file_is_read_whole(tmp_path):
    accept, reject, edit = reviews_of(
        tmp_path,
        review_of(ROW, "accept"),
        review_of(accepted_row(2), "reject", reason="harmful"),
        review_of(accepted_row(3), "edit"),
    )
    assert (accept.id, accept.decision, accept.draft) == ("world-0001", "accept", None)
    assert (reject.reason, reject.reviewer) == ("harmful", "ann")
    assert edit.reviewed_at.isoformat() == "2026-02-01T10:00:00+00:00"
    assert edit.draft == Draft(
        steps=(Step("The ball was kicked.", 0.5, 1.0),),
        predictions=(Prediction("It stays.", "", 0.9),),
    )


def test_what_is_wrong_is_named_with_file_line_and_field(tmp_path):
    long = "x" * 4001
    steps, predictions = EDIT["steps"], EDIT["predictions"]
    wrong = {
        "'id'": [{"id": ""}, {"id": 7}, {"id": "a\u202eb"}, {"id": "\ud800"}],
        "'row_sha'": [{"row_sha": "12"}, {"row_sha": None}],
        "'decision'": [{"decision": "maybe"}, {"decision": ["accept"]}],
        "'reason'": [
            *({"reason": "harmful"}, {"reason": 1}),
            *({"decision": "reject", "reason": reason} for reason in (None, "bad", ["other"])),
        ],
        "'reviewer'": [{"reviewer": " "}, {"reviewer": "x" * 61}, {"reviewer": "a\nb"}],
        "'reviewed_at'": [{"reviewed_at": "yesterday"}, {"reviewed_at": "2026-02-01T10:00:00"}],
        "'place'": [{"place": 1}],
        "'steps'": [
            {"steps": None},
            {"steps": "text"},
            {"steps": ["text"]},
            {"steps": [], "predictions": []},
            {"steps": steps * 65},
        ],
        "'steps[0].text'": [{"steps": [{"text": text}]} for text in ("", " ", None, long, "a\0")],
        "'steps[0].start'": [
            {"steps": [{"text": "a", "start": start}]}
            for start in (-1, "1", True, math.inf, 10**400)
        ],
        "'steps[1].end'": [{"steps": [*steps, {"text": "a", "start": 2, "end": 1}]}],
        "'predictions'": [{"predictions": predictions * 4}],
        "'predictions[0].confidence'": [
            {"predictions": [{"text": "a", "confidence": value}]} for value in (1.1, math.nan, "1")
        ]
        + [{"predictions": [{"text": "a"}, {"text": "b"}]}],
        "'predictions[0].justification'": [
            {"predictions": [{"text": "a", "confidence": 1, "justification": 3}]}
        ],
    }
    unnoticed = []
    for field, changes in wrong.items():
        for change in changes:
            path = write_rows(
                tmp_path / "r.jsonl", [review_of(accepted_row(2), "accept"), EDIT | change]
            )
            try:
                read_reviews(path)
            except ValueError as error:
                start = f"{path}:2: field {field} is "
                if str(error).startswith(start) and str(error).endswith("from the review page"):
                    continue
                unnoticed.append((field, change, str(error)))
            else:
                unnoticed.append((field, change, "read"))
    assert not unnoticed


def test_an_edit_without_the_word_and_rejections_without_a_reason_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"field 'steps' is .* none for the decision 'accept'"):
        reviews_of(tmp_path, EDIT | {"decision": "accept"})
    with pytest.raises(ValueError, match="field 'reason' is '', expected one of not_visible"):
        reviews_of(tmp_path, review_of(ROW, "reject", reason=None))
    with pytest.raises(ValueError, match=r":2: 'ann' reviewed 'world-0001' already"):
        reviews_of(tmp_path, review_of(ROW, "accept"), EDIT)
    with pytest.raises(ValueError, match="there is no file"):
        read_reviews(tmp_path / "absent.jsonl")
    (tmp_path / "cut.jsonl").write_text(json.dumps(EDIT)[:-5])
    with pytest.raises(ValueError, match=r"cut.jsonl:1: not valid JSON"):
        read_reviews(tmp_path / "cut.jsonl")


def test_rows_are_kept_left_out_or_changed(tmp_path):
    assert outcome(tmp_path).row == ROW
    assert outcome(tmp_path, review_of(ROW, "accept")).row == ROW
    assert outcome(tmp_path, review_of(ROW, "reject")).row is None
    changed = outcome(tmp_path, EDIT).row
    assert changed is not None
    assert {name for name in ROW if ROW[name] != changed[name]} == {
        *("causal_explanation", "step_times", "prediction", "predictions")
    }
    assert changed["causal_explanation"] == ["The ball was kicked."]
    assert changed["step_times"] == [{"start": 0.5, "end": 1.0}]
    assert changed["predictions"] == [{"text": "It stays.", "confidence": 0.9, "justification": ""}]
    alone = [{"text": "It stays.", "confidence": None, "justification": "so"}]
    changed = outcome(tmp_path, EDIT | {"predictions": alone, "steps": []}).row
    assert changed is not None
    assert [changed[name] for name in ("causal_explanation", "prediction", "predictions")] == [
        *([], "It stays.", [])
    ]


def test_a_review_of_another_version_is_counted_and_does_nothing(tmp_path):
    other = ROW | {"causal_explanation": ["Another text."]}
    assert outcome(tmp_path, review_of(ROW, "reject"), row=other) == (other, None, 1)
    # What is not shown as the answer may change.
    later = ROW | {"created": "2027", "teacher": "renamed", "flags": ["x"], "new": 1}
    assert outcome(tmp_path, review_of(ROW, "reject"), row=later).row is None
    assert row_sha({"start": None, "prediction": ""}) == row_sha({})
    # One that is out of date does not hide the older one that is not.
    stale = review_of(other, "accept", reviewed_at="2026-03-01T10:00:00Z")
    assert outcome(tmp_path, review_of(ROW, "reject"), stale).row is None


def test_reviewers_who_differ(tmp_path):
    accept, reject = review_of(ROW, "accept"), review_of(ROW, "reject")
    bob = {"reviewer": "bob"}
    other_edit = EDIT | bob | {"steps": [{"text": "Something else."}]}
    judge = {"reviewer": "adjudicator", "reviewed_at": "2026-01-01T10:00:00Z"}
    later = {"reviewed_at": "2026-02-01T11:00:00+00:00"}
    earlier = {"reviewed_at": "2026-02-01T10:30:00+02:00"}  # 8:30 UTC
    decisions = {
        "accept": [
            *((accept, accept | bob), (accept | later, reject), (reject | earlier, accept)),
            (reject, EDIT | bob, accept | judge),
        ],
        "reject": [
            *((accept, reject | bob), (EDIT, reject | bob), (accept, reject | later)),
            (accept, accept | bob, reject | judge),
        ],
        "edit": [(accept, EDIT | bob), (EDIT, EDIT | bob), (reject, EDIT | judge)],
    }
    wrong = []
    for decision, cases in decisions.items():
        for case in cases:
            for order in (case, case[::-1]):
                _, ruling, _ = outcome(tmp_path, *order)
                if ruling is None or ruling.decision != decision:
                    wrong.append((decision, order, ruling))
    assert not wrong
    _, ruling, _ = outcome(tmp_path, EDIT, other_edit)
    assert ruling is not None
    assert (ruling.decision, ruling.reason) == ("reject", EDITED_DIFFERENTLY)
    assert ruling.reviewers == ("ann", "bob")
