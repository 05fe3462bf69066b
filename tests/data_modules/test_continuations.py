"""Continuations of videos: times, causes, and the benchmark that words alone cannot answer."""

import json
from math import inf, isnan, nan
from pathlib import Path
from typing import Any

import pytest
from sound_sentences import assert_sound
from text_only import text_only_accuracy
from tiny_corpora import TINY_CORPORA, examples_in

from data_modules import continuation as causes
from data_modules.annotated_spans import (
    NO_CAPTION,
    NO_SPAN,
    NO_TIMES,
    AnnotatedSpan,
    annotated_spans,
    tracks,
)
from data_modules.continuation import Continuation, continuations
from data_modules.continuation_benchmark import accuracy_by_length, continuation_benchmark
from data_modules.corpora import CorpusConfig
from data_modules.example_kinds import caption_example, open_ended_example
from data_modules.readers import read_corpus
from data_modules.skipped_rows import SkippedRows
from data_modules.teacher_free_config import SpanRules, TeacherFreeConfig
from experiments.data.__main__ import main as data_program
from vidreason.example import Example

RULES = SpanRules(gap_seconds=0.5, horizon_seconds=10, max_clip_seconds=30, max_steps=3)
TINY = {corpus.reader: corpus for corpus in TINY_CORPORA}


def span(start: float, end: float, text: str, video: str = "v", **more: Any) -> AnnotatedSpan:
    fields: dict[str, Any] = {"corpus": "activitynet_captions", "media": f"{video}.mp4", **more}
    return AnnotatedSpan(video_id=video, start_seconds=start, end_seconds=end, text=text, **fields)


def made(
    *spans: AnnotatedSpan, rules: SpanRules = RULES
) -> tuple[list[Continuation], dict[str, int]]:
    skipped = SkippedRows(quiet=True)
    result = list(continuations(spans, rules, skipped))
    assert len(result) == skipped.num_read
    assert len(result) + skipped.num_skipped == len(spans)
    check_times(result, rules)
    return result, dict(skipped.causes)


def check_times(result: list[Continuation], rules: SpanRules) -> None:
    """Every clip ends before its target begins, and holds all its steps."""
    for one in result:
        clip, draft = one.clip, one.draft
        assert clip.start_seconds is not None
        assert clip.end_seconds is not None
        assert clip.end_seconds <= one.target.start_seconds - rules.gap_seconds
        assert 0 <= clip.start_seconds < clip.end_seconds
        assert 1 <= len(draft.steps) <= rules.max_steps
        for step in draft.steps:
            assert step.start_seconds is not None
            assert step.end_seconds is not None
            assert 0 <= step.start_seconds < step.end_seconds
            assert step.end_seconds <= clip.end_seconds - clip.start_seconds + 1e-3
            assert_sound(step.text)
        (prediction,) = draft.predictions
        assert isnan(prediction.confidence)
        assert draft.outcome is not None
        assert (draft.outcome.text, draft.outcome.kind) == (prediction.event, "annotated")
        assert_sound(prediction.event)


def test_the_next_annotation_is_the_prediction() -> None:
    result, left_out = made(
        span(1, 4, "A man sits."), span(5, 8, "He stands up."), span(9, 12, "A dog barks loudly.")
    )
    assert [one.draft.predictions[0].event for one in result] == [
        "He stands up.",
        "A dog barks loudly.",
    ]
    assert [one.clip.end_seconds for one in result] == [4.5, 8.5]
    assert [[tuple(step) for step in one.draft.steps] for one in result] == [
        [("A man sits.", 0.5, 3.5)],
        [("A man sits.", 0.0, 3.0), ("He stands up.", 4.0, 7.0)],
    ]
    assert left_out == {causes.FIRST: 1}


@pytest.mark.parametrize(
    ("spans", "cause"),
    [
        ([(0, 4, "A man sits."), (3, 8, "He stands up.")], causes.OVERLAPS),
        ([(0, 60, "A man cooks."), (20, 30, "He stands up.")], causes.OVERLAPS),
        ([(0, 2, "A man sits."), (14, 18, "He stands up.")], causes.TOO_FAR),
        ([(0, 4, "A man sits."), (5, 8, "a man, sits.")], causes.REPEATS),
        ([(0, 4, "The red ball hits it."), (5, 8, "It hits the red ball.")], causes.REPEATS),
        ([(0, 40, "A man sits."), (40, 44, "He stands up.")], causes.TOO_EARLY),
        ([(0, 0.4, "A man sits."), (0.4, 4, "He stands up.")], causes.TOO_EARLY),
    ],
)
def test_targets_that_cannot_be_predicted_are_counted(
    spans: list[tuple[float, float, str]], cause: str
) -> None:
    result, left_out = made(*(span(*one) for one in spans))
    assert result == []
    assert left_out == {causes.FIRST: 1, cause: 1}


def test_of_two_events_that_begin_together_neither_is_next() -> None:
    result, left_out = made(
        span(0, 4, "A man sits."), span(5, 8, "He stands up."), span(5, 6, "A dog barks.")
    )
    assert result == []
    assert left_out[causes.OVERLAPS] == 2


def test_steps_are_the_last_ones_within_the_clip() -> None:
    spans = [span(2 * n, 2 * n + 1.5, f"A man waves at person{n} again.") for n in range(20)]
    spans = [
        span(s.start_seconds, s.end_seconds, f"He takes object{n} from shelf{n}.")
        for n, s in enumerate(spans)
    ]
    result, _ = made(*spans, rules=SpanRules(max_steps=3))
    last = result[-1]
    assert [step.text.split()[2] for step in last.draft.steps] == [
        "object16",
        "object17",
        "object18",
    ]
    assert last.clip.start_seconds == 32.0


def test_annotators_are_never_mixed_and_points_get_spans(tmp_path: Path) -> None:
    corpus = TINY["ego4d"]
    one, two = (
        [{"timestamp_sec": moment, "narration_text": f"#C C {text}"} for moment, text in narrations]
        for narrations in (
            [(2.0, "opens a box"), (3.5, "takes a knife"), (3.9, "looks up"), (8, "cuts bread")],
            [(2.1, "opens the box"), (7.9, "cuts the bread")],
        )
    )
    passes = {"narration_pass_1": {"narrations": one}, "narration_pass_2": {"narrations": two}}
    corpus.write(tmp_path, [{"aa-1": passes}])
    skipped = SkippedRows(quiet=True)
    # By whatever name the corpus goes.
    config = CorpusConfig(reader="ego4d", root=str(tmp_path), name="kitchens")
    examples = list(read_corpus(config))
    first, second = tracks(annotated_spans(examples, skipped))
    assert [(s.start_seconds, s.end_seconds) for s in first] == [
        *((1.0, 2.5), (2.5, 3.5), (2.9, 6.9), (7.0, 11.0))
    ]
    assert [s.text for s in second] == [
        "The camera wearer opens the box.",
        "The camera wearer cuts the bread.",
    ]
    result = list(continuations([*first, *second], RULES, skipped))
    check_times(result, RULES)
    # He looks up 0.4 s after he takes the knife: which of the two comes next, nobody knows.
    assert [one.draft.predictions[0].event for one in result] == [
        "The camera wearer takes a knife.",
        "The camera wearer cuts bread.",
        "The camera wearer cuts the bread.",
    ]
    assert skipped.causes[causes.OVERLAPS] == 1


def test_hostile_annotations_are_counted_by_cause() -> None:
    def caption(text: str, start: float | None, end: float | None) -> Example:
        return caption_example(
            text, id=f"x:train:{text}{start}", media="a.mp4", video_id="a", span=(start, end)
        )

    skipped = SkippedRows(quiet=True)
    examples = [
        caption("A dog runs.", 1.0, 2.0),
        *(caption("A dog runs.", *times) for times in ((nan, 2.0), (1.0, nan), (3.0, 2.0))),
        *(caption("A dog runs.", *times) for times in ((-1.0, 2.0), (1.0, inf), (2.0, 2.0))),
        caption("A dog runs.", None, None),
        caption("A dog runs.", 1.0, None),
        *(caption(text, 1.0, 2.0) for text in ("", "<script>x</script> y", "It.", "a\x1b[2J dog")),
        open_ended_example("why?", "no", id="x:train:q", media="a.mp4", video_id="a"),
    ]
    assert [one.text for one in annotated_spans(examples, skipped)] == ["A dog runs."]
    assert skipped.causes == {
        NO_SPAN: 6,
        NO_TIMES: 2,
        NO_CAPTION: 1,
        "its text is empty": 1,
        "its text has markup": 1,
        "its text is a single word": 1,
        "its text has control characters": 1,
    }


def test_captions_that_say_their_times_give_events() -> None:
    text = "a wall at c8. a red square enters after 1.5 seconds. it hits a wall after 2.0 seconds."
    example = caption_example(text, id="webvid:train:a", media="a.mp4", video_id="a")
    found_spans = list(annotated_spans([example], SkippedRows(quiet=True)))
    assert [(s.start_seconds, s.end_seconds, s.text) for s in found_spans] == [
        (1.25, 1.75, "A red square enters."),
        (1.75, 2.25, "It hits a wall."),
    ]


@pytest.mark.parametrize("reader", ["hd_vila", "activitynet_captions"])
def test_corpora_of_captions_with_spans_give_continuations(reader: str, tmp_path: Path) -> None:
    corpus = TINY[reader]
    corpus.write(tmp_path)
    skipped = SkippedRows(quiet=True)
    spans = annotated_spans(examples_in(reader, tmp_path, "train"), skipped)
    result = list(continuations(spans, SpanRules(), skipped))
    check_times(result, SpanRules())
    assert skipped.causes[causes.FIRST] == 2


def test_rules_that_cannot_be_kept_are_refused() -> None:
    for fields, message in (
        ({"gap_seconds": 0.0}, "gap_seconds is 0.0; it must be above 0"),
        ({"gap_seconds": 5.0, "horizon_seconds": 2.0}, "must be at most spans.horizon_seconds"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"min_clip_seconds": 90.0}, "min_clip_seconds is 90"),
    ):
        with pytest.raises(ValueError, match=message):
            SpanRules(**fields)  # type: ignore[arg-type]
    for split in ("val", "test"):
        with pytest.raises(ValueError, match=f"split '{split}'.* is no training split"):
            TeacherFreeConfig(corpora=[CorpusConfig(reader="nextqa", root="x", split=split)])


def moments(num_videos: int) -> list[Continuation]:
    # Long and frequent events, and rare short ones: what a guesser would go by.
    spans = []
    for video in range(num_videos):
        for number in range(6):
            verb = ("opens", "takes", "very slowly puts down")[(video + number) % 3]
            text = f"The man {verb} the object{(video * 7 + number) % 11} of kind{number}."
            spans.append(span(20.0 * number, 20.0 * number + 14, text, video=f"v{video}"))
    return list(continuations(spans, SpanRules(), SkippedRows(quiet=True)))


def test_words_alone_are_at_chance_in_the_benchmark() -> None:
    skipped = SkippedRows(quiet=True)
    rows = list(continuation_benchmark(moments(30), 10.0, 0, skipped))
    assert len(rows) > 100
    assert len(rows) % 4 == 0
    groups = [rows[first : first + 4] for first in range(0, len(rows), 4)]
    for group in groups:
        assert len({row["group_id"] for row in group}) == 1
        assert len({tuple(row["options"]) for row in group}) == 1
        assert sorted(row["answer_index"] for row in group) == [0, 1, 2, 3]
        assert len(set(group[0]["options"])) == 4
        # Another moment of the same video, and two events of another one.
        assert [row["video_id"] for row in group].count(group[0]["video_id"]) == 2
        assert len({row["video_id"] for row in group}) == 2
    assert len({row["id"] for row in rows}) == len(rows)
    asked_at = {row["id"]: row for row in rows}
    for moment in moments(30):
        row = asked_at.get(moment.clip.id)
        if row is not None:
            assert row["options"][row["answer_index"]] == moment.target.text
            assert row["end_seconds"] <= moment.target.start_seconds - 0.5
    for longest in (True, False):
        assert accuracy_by_length(rows, longest=longest) == pytest.approx(0.25)
    examples = [
        Example(
            id=row["id"],
            corpus="huggingface",
            media=row["media"],
            video_id=row["video_id"],
            prompt=row["prompt"],
            response=row["options"][row["answer_index"]],
            options=tuple(row["options"]),
            answer_index=row["answer_index"],
            meta={"question": row["prompt"]},
        )
        for row in rows
    ]
    half = len(examples) // 8 * 4
    # Even a guesser that has seen the answers.
    assert text_only_accuracy(examples[:half], examples[half:]) == 0.25
    assert text_only_accuracy(examples, examples) == 0.25
    assert rows == list(continuation_benchmark(moments(30), 10.0, 0, SkippedRows(quiet=True)))


def test_moments_without_a_partner_are_counted() -> None:
    skipped = SkippedRows(quiet=True)
    alone = moments(1)
    assert list(continuation_benchmark(alone, 10.0, 0, skipped)) == []
    assert skipped.num_skipped == len(alone)


def test_the_program_writes_what_a_reader_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDREASON_CACHE", str(tmp_path / "cache"))
    videos = {
        f"v_{video}": {
            "duration": 100,
            "timestamps": [[20.0 * n, 20.0 * n + 14] for n in range(5)],
            "sentences": [f"A man lifts tool{video}{n} beside door{n}." for n in range(5)],
        }
        for video in range(6)
    }
    root = tmp_path / "captions"
    root.mkdir()
    (root / "val_1.json").write_text(json.dumps(videos))
    command = [
        *("continuation", f"run_dir={tmp_path / 'run'}"),
        f"data.benchmark=[{{reader: activitynet_captions, root: {root}, split: val}}]",
    ]
    assert data_program(command) == 0
    printed = capsys.readouterr().out
    assert "the longest option is right in 25.0%, the shortest in 25.0%" in printed
    folder = tmp_path / "run" / "continuation"
    examples = examples_in("huggingface", folder, "val")
    assert len(examples) >= 16
    assert {len(example.options) for example in examples} == {4}
    assert len({example.group_id for example in examples}) == len(examples) / 4
    assert all(
        example.response == example.options[example.answer_index or 0] for example in examples
    )
    assert all((example.end_seconds or 0) % 20 == 19.5 for example in examples)
    assert (
        data_program([command[0], command[1], command[2].replace("split: val", "split: train")])
        == 2
    )
    assert "is for training" in capsys.readouterr().err
