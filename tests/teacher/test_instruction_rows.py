"""Rows of an instruction set: what was said is what is read, and what cannot be read is named."""

import json
from dataclasses import replace
from math import inf, isnan, nan
from pathlib import Path
from typing import Any

import pytest
from instruction_samples import DRAFT, LONE, PROVENANCE, clip, failed, rejected
from tiny_corpora import examples_in

from data_modules.causal_vid_instruct import OUTSIDE_VIDEOS, SINGLE_PREDICTION_PROMPT
from data_modules.corpora import CorpusConfig
from data_modules.readers import read_corpus
from data_modules.skipped_rows import SkippedRows
from vidreason.example import Example
from vidreason.reasoning.outcomes import Outcome, outcome_of
from vidreason.reasoning.predictions import Prediction, parse_predictions
from vidreason.reasoning.prompts import EVENT_REASONING_PROMPT
from vidreason.teacher.draft import Draft, Step
from vidreason.teacher.provenance import TeacherProvenance
from vidreason.teacher.published import published, published_provenance
from vidreason.teacher.rows import UnwritableRowError, instruction_row, json_line, unused_row


def row_of(draft: Draft = DRAFT, media: str = "", **fields: Any) -> dict[str, Any]:
    return instruction_row(clip(**fields), draft, PROVENANCE, "2026-03-01", ("short",), media=media)


def read(
    tmp_path: Path, *rows: dict[str, Any], skipped: SkippedRows | None = None
) -> list[Example]:
    (tmp_path / "train.jsonl").write_bytes(b"".join(map(json_line, rows)))
    return examples_in("causal_vid_instruct", tmp_path, "train", skipped)


def test_a_row_reads_as_the_draft_said(tmp_path: Path) -> None:
    row = row_of(media="ego4d/a.mp4")
    explanation, prediction = read(tmp_path, row)
    assert explanation.response == "1. The red ball rolls.\n2. It hits the wall, so it stops."
    assert explanation.prompt == EVENT_REASONING_PROMPT
    assert parse_predictions(prediction.response).items == DRAFT.predictions
    for example in (explanation, prediction):
        assert example.media == str(tmp_path / "videos/ego4d/a.mp4")
        assert (example.start_seconds, example.end_seconds) == (1.5, 4.0)
        assert example.meta["license_tag"] == "ego4d"
        assert example.meta["teacher_prompt_sha"] == "ab" * 32
    assert row["step_times"] == [{"start": 0.25, "end": 1.0}, {"start": 1.0, "end": None}]
    assert (row["flags"], row["created"]) == (["short"], "2026-03-01")


def test_what_a_draft_does_not_say_is_not_invented(tmp_path: Path) -> None:
    untimed = Draft(steps=(Step("It falls."),))
    lone, steps = row_of(LONE), row_of(untimed, start_seconds=None, end_seconds=None)
    prediction, explanation = read(tmp_path, lone, steps | {"id": "other"})
    assert (prediction.prompt, prediction.response) == (SINGLE_PREDICTION_PROMPT, "The ball rests")
    assert (lone["predictions"], lone["instruction"], lone["step_times"]) == ([], "", [])
    assert (explanation.question_type, explanation.start_seconds) == ("explanation", None)
    assert explanation.media == str(tmp_path / "videos/video0.mp4")
    assert list(lone) == list(steps)  # one schema


def test_what_really_came_next_is_the_answer(tmp_path: Path) -> None:
    outcome = Outcome("The ball falls off.", "annotated", 1.25)
    row = row_of(replace(LONE, outcome=outcome))
    (prediction,) = read(tmp_path, row)
    assert prediction.answers == ("The ball falls off.",)
    assert outcome_of(prediction.meta) == outcome
    with pytest.raises(UnwritableRowError, match="without a text or without a prediction"):
        row_of(replace(LONE, outcome=Outcome("None", "annotated")))


HOSTILE_TEXTS = [
    "", " ", "None", "nan", "a\0b", "a\ud800b", "x" * 2**20,
    "<script>alert(1)</script>", "a\u2028b\u2029c\x85d\ve\fg", "line\r\nbreak", "\x1b[31mred",
    "\u202eright to left", '"}\n{"id":"x"}', "${oc.env:HOME}", "| a | b |", "<|begin|>",
]  # fmt: skip
HOSTILE_IDS = [
    "../../etc/passwd", "/etc/passwd", "..", "a/../../b", "s3://bucket/a", "nan", "1.0", "1e5",
    "a\0b", "\ud800", "a\nb", "<b>", "a" * 300, " padded ", "\u2028",
]  # fmt: skip


def test_a_hostile_text_is_refused_or_reads_back_as_one_row(tmp_path: Path) -> None:
    refused = 0
    for text in HOSTILE_TEXTS:
        for draft in (
            Draft(steps=(Step("One."), Step(text))),
            Draft(predictions=(Prediction(text, "", 0.5), Prediction("b", "", 0.25))),
            Draft(predictions=(Prediction(text, "", nan),)),
        ):
            try:
                row = row_of(draft)
            except UnwritableRowError:
                refused += 1
                continue
            line = json_line(row)
            assert line.isascii()
            assert len(line.splitlines()) == 1
            (example,) = read(tmp_path, row)
            assert text.strip() in example.response
    assert refused == 3 * 7


def test_a_hostile_id_is_refused_or_leads_to_nothing_outside(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    refused = 0
    for video_id in HOSTILE_IDS:
        try:
            row = row_of(video_id=video_id)
        except UnwritableRowError:
            refused += 1
            continue
        (root / "train.jsonl").write_bytes(json_line(row) + json_line(row_of() | {"id": "good"}))
        config = CorpusConfig(reader="causal_vid_instruct", root=str(root))
        for example in read_corpus(config, skipped=SkippedRows(quiet=True)):
            assert Path(example.media).resolve().is_relative_to(root)
            assert "etc" not in example.media or example.video_id not in example.media
    assert refused == 6  # nan, 1.0, 1e5, a null character, half a surrogate pair, a blank


def test_a_row_names_media_only_below_videos(tmp_path: Path) -> None:
    outside = ["../train.jsonl", "/etc/passwd", "a/../../b.mp4", "http://127.0.0.1/a.mp4",
               "file:///etc/passwd", "simplecache::s3://b/a.mp4"]  # fmt: skip
    rows = [row_of() | {"id": str(number), "media": media} for number, media in enumerate(outside)]
    skipped = SkippedRows(quiet=True)
    (only,) = read(tmp_path, *rows, row_of(LONE), skipped=skipped)
    assert only.media.endswith("videos/video0.mp4")
    assert skipped.causes == {OUTSIDE_VIDEOS: len(outside)}
    for media in (7, ["a"], {"path": "a"}):
        with pytest.raises(ValueError, match="field 'media' must be a text"):
            read(tmp_path, row_of() | {"media": media})


@pytest.mark.parametrize(
    ("draft", "fields", "message"),
    [
        (Draft(), {}, "neither steps nor predictions"),
        (Draft(predictions=(Prediction("a", "", 1.5),)), {}, "confidences are"),
        (Draft(predictions=(Prediction("a", "", inf),)), {}, "confidences are"),
        (Draft(predictions=(Prediction("a", "", nan),) * 2), {}, "confidences are"),
        (Draft(predictions=(Prediction("a", "", 0.1),) * 4), {}, "at most 3"),
        (DRAFT, {"start_seconds": 4.0}, "span from 4.0 to 4.0"),
        (DRAFT, {"start_seconds": nan}, "span from nan"),
        (DRAFT, {"end_seconds": 1e12}, "span from 1.5 to 1000"),
        (DRAFT, {"video_id": "1053841541.0"}, "table program"),
        (DRAFT, {"licence": "a\0"}, "null character"),
        (DRAFT, {"media": "a.mp4 "}, "blank at an end"),
    ],
)
def test_what_the_reader_would_leave_out_is_named(
    draft: Draft, fields: dict[str, Any], message: str
) -> None:
    media = fields.pop("media", "")
    with pytest.raises(UnwritableRowError, match=message):
        row_of(draft, media, **fields)


def test_an_unused_row_says_why_whatever_the_answer_was() -> None:
    broken = Draft(steps=(Step("a\ud800", inf, nan),), predictions=(Prediction("b", "", -inf),))
    row = json.loads(json_line(unused_row(rejected(clip(), "schema", broken, "no list"))))
    assert (row["ended"], row["cause"], row["detail"]) == ("rejected", "schema", "no list")
    assert row["causal_explanation"] == ["a\ud800"]
    assert row["step_times"] == [{"start": None, "end": None}]
    huge = Draft(steps=(Step("x" * 10_000_000),))
    assert len(json_line(unused_row(rejected(clip(), "length", huge)))) < 1000
    row = unused_row(failed(clip(), "endpoint", "timed out"))
    assert (row["ended"], row["cause"], row["detail"]) == ("failed", "endpoint", "timed out")
    assert row["causal_explanation"] == []


def test_what_is_published_has_no_secret_and_no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_API_KEY", "sk-planted-0123456789abcdef")
    assert published("/home/me/models/qwen at http://user:pw@host/v1?key=x") == (
        ".../qwen at http://[secret]@host/v1?key=[secret]"
    )
    kept = "https://arxiv.org/abs/2507.1 and/or 3/4 <b>x</b> s3://bucket/a/b a/b/c videos/<source>"
    assert published(kept) == kept
    assert published("file:///home/me/a.mp4, '/data/x/y'") == "file://.../a.mp4, '.../y'"
    assert published("in ~/models/a (/mnt/disk/b)") == "in .../a (.../b)"
    provenance = published_provenance(
        TeacherProvenance(
            teacher="/mnt/models/teacher",
            prompt="/not/a/path sk-planted-0123456789abcdef",
            parameters={"x": ["/mnt/a/b", {"y": "sk-planted-0123456789abcdef"}], "n": 3},
        )
    )
    assert provenance.teacher == ".../teacher"
    assert provenance.prompt == "/not/a/path [secret]"
    assert provenance.parameters == {"x": [".../b", {"y": "[secret]"}], "n": 3}


def test_a_lone_prediction_keeps_no_confidence() -> None:
    assert isnan(LONE.predictions[0].confidence)
    assert "NaN" not in json_line(row_of(LONE)).decode()
