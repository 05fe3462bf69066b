"""SeViLA re-composed: the localizer's choice of frames, and what the answerer is then shown."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from tiny_key_frames import NUM_CELLS, NUM_QUERIES, frames_of, tiny_sevila

from vidreason.baselines.build import baseline_problems
from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.sevila_decoder.key_frames import (
    best_frames,
    check_sevila_part,
    key_frames,
    localizer_request,
    yes_scores,
)
from vidreason.baselines.sevila_decoder.localized_answerer import LocalizedAnswerer
from vidreason.baselines.sevila_decoder.pseudo_labels import (
    has_right_answer,
    pseudo_labels,
)
from vidreason.evaluation.benchmark import evaluate_examples
from vidreason.evaluation.config import Control, EvaluationConfig
from vidreason.evaluation.controls import controlled_source
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.reasoner_answerer import reasoner_answerer
from vidreason.example import Example, Turn
from vidreason.model import VideoReasoner
from vidreason.perception.visual_tokens import TokenSource, VisualTokens, collate_visual_tokens
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT
from vidreason.reasoning.reasoner_config import DecodingConfig
from vidreason.video.failures import VideoReadError

GREEDY = DecodingConfig(strategy="greedy", max_new_tokens=4)
CONFIG = EvaluationConfig(batch_size=16)
OPTIONS = ("red", "it")
FRAMES = 3
"""Frames of a video."""


@pytest.fixture(scope="module")
def localizer(tiny_language_model_folder: str) -> VideoReasoner:
    return tiny_sevila(tiny_language_model_folder, seed=1)


@pytest.fixture(scope="module")
def answerer(tiny_language_model_folder: str) -> VideoReasoner:
    return tiny_sevila(tiny_language_model_folder, seed=2)


def question(number: int, video: int, *, is_open: bool = False) -> Example:
    return Example(
        id=f"nextqa:test:{number}-{video}",
        corpus="nextqa",
        media=f"/v/{video}.mp4",
        video_id=str(video),
        prompt=f"what {number}",
        response="red",
        options=() if is_open else OPTIONS,
        answer_index=None if is_open else number % 2,
        answers=("red",) if is_open else (),
    )


def three_frames(media: str, start: float | None, end: float | None) -> VisualTokens:
    number = int(media.removeprefix("/v/").removesuffix(".mp4"))
    if number == 99:
        raise VideoReadError(media, "truncated")
    return frames_of(range(FRAMES * number, FRAMES * (number + 1)))


def localized(
    answerer: VideoReasoner,
    localizer: VideoReasoner,
    examples: Sequence[Example],
    *,
    source: TokenSource = three_frames,
    kept: int = 2,
    control: Control = "none",
    config: EvaluationConfig = CONFIG,
) -> list[BenchmarkPrediction]:
    system = LocalizedAnswerer(
        lambda: (answerer, controlled_source(source, examples, control)),
        lambda: localizer,
        kept,
        GREEDY,
        config.max_text_tokens,
    )
    return evaluate_examples(system, examples, config)


def test_key_frames_are_the_patches_of_each_moment() -> None:
    tokens = frames_of([5, 6, 7])
    frames = key_frames(tokens)
    assert [frame.spans[:, 0].tolist() for frame in frames] == [[0.0] * 2, [1.0] * 2, [2.0] * 2]
    assert torch.equal(torch.cat([frame.features for frame in frames]), tokens.features[1:])
    # A frame that is looked at twice is one; a video without patches has none.
    twice = VisualTokens.concatenate([frames[1], frames[0], frames[1]])
    assert [len(frame) for frame in key_frames(twice)] == [NUM_CELLS, 2 * NUM_CELLS]
    assert key_frames(tokens.without_tokens()) == []
    assert key_frames(tokens.select([0])) == []


def test_the_best_frames_come_in_the_order_of_the_video() -> None:
    assert best_frames([0.1, 3.0, 2.0, 3.5], 2) == [1, 3]
    assert best_frames([1.0, 2.0, 2.0, 1.0, 2.0], 2) == [1, 2]  # equal ones: the earlier
    assert best_frames([1.0], 4) == [0]


def test_a_score_is_how_much_likelier_yes_is_than_no(localizer: VideoReasoner) -> None:
    frames = key_frames(frames_of([1, 2]))
    before = (Turn("user", "hi"), Turn("assistant", "red"))
    # An answer that training learns, too, is no part of what is scored.
    learnt = (before[0], before[1]._replace(is_target=True))
    example = replace(question(0, 0), earlier_turns=learnt)
    scores = yes_scores(localizer, frames, example, 512)
    request, _ = localizer_request(example)
    assert request.startswith(example.prompt)
    for frame, score in zip(frames, scores, strict=True):
        visual = collate_visual_tokens([frame])
        texts = [localizer.encode_example(request, word, 512, before) for word in ("yes", "no")]
        with torch.no_grad():
            sums, _ = localizer.response_log_likelihoods(visual, [0, 0], texts)
        assert score == pytest.approx(float(sums[0] - sums[1]), abs=1e-4)
    assert abs(scores[0] - scores[1]) > 0.01  # the picture matters
    with pytest.raises(ValueError, match="max_tokens is 8"):
        yes_scores(localizer, frames, example, 8)


def test_the_planted_frame_is_chosen_wherever_it_is(
    localizer: VideoReasoner, answerer: VideoReasoner
) -> None:
    examples = [question(0, video) for video in range(3)]
    contents = [3, 4]
    scores = yes_scores(localizer, key_frames(frames_of(contents)), examples[0], 256)
    helpful, other = sorted(contents, key=lambda content: -scores[contents.index(content)])

    def planted(media: str, start: float | None, end: float | None) -> VisualTokens:
        rank = int(media.removeprefix("/v/").removesuffix(".mp4"))
        return frames_of([helpful if frame == rank else other for frame in range(FRAMES)])

    rows = localized(answerer, localizer, examples, source=planted, kept=1)
    assert [row.record["key_frames"] for row in rows] == [[0.0], [1.0], [2.0]]
    # The answerer is shown this frame, and nothing else.
    alone = evaluate_examples(
        reasoner_answerer(answerer, lambda *_: frames_of([helpful]), examples, CONFIG, GREEDY),
        examples,
        CONFIG,
    )
    for row, single in zip(rows, alone, strict=True):
        assert row.option_log_likelihoods == pytest.approx(single.option_log_likelihoods, abs=1e-5)
    shown_all = evaluate_examples(
        reasoner_answerer(answerer, planted, examples, CONFIG, GREEDY), examples, CONFIG
    )
    assert shown_all[0].option_log_likelihoods != pytest.approx(
        rows[0].option_log_likelihoods, abs=1e-3
    )


def test_what_is_chosen_does_not_depend_on_the_batch(
    localizer: VideoReasoner, answerer: VideoReasoner
) -> None:
    examples = [question(number, number // 2, is_open=number % 2 == 1) for number in range(5)]
    together = localized(answerer, localizer, examples)
    alone = [row for example in examples for row in localized(answerer, localizer, [example])]
    assert [row.record for row in together] == [row.record for row in alone]  # to the bit
    for row, single in zip(together, alone, strict=True):
        assert row.option_log_likelihoods == pytest.approx(single.option_log_likelihoods, abs=1e-5)
        assert (row.output, row.parsed) == (single.output, single.parsed)
    # Not always the same frames: the choice follows from the video.
    assert len({tuple(row.record["key_frames"]) for row in together}) > 1
    for row in together:
        scores = row.record["localizer_scores"]
        assert row.record["key_frames"] == [float(rank) for rank in best_frames(scores, 2)]


def test_visual_tokens_are_those_of_both_parts(
    localizer: VideoReasoner, answerer: VideoReasoner
) -> None:
    examples = [question(0, 0), question(1, 1, is_open=True)]
    rows = localized(answerer, localizer, examples)
    assert {row.num_visual_tokens for row in rows} == {NUM_QUERIES + FRAMES * NUM_QUERIES}
    # Without a choice, the localizer is not examples.
    controls: dict[Control, int] = {"single_frame": 1, "blind": 0}
    for control, shown in controls.items():
        for row in localized(answerer, localizer, examples, control=control):
            assert row.num_visual_tokens == NUM_QUERIES
            assert len(row.record["key_frames"]) == shown
            assert "localizer_scores" not in row.record


def test_an_unreadable_video_is_an_error_of_its_questions_alone(
    localizer: VideoReasoner, answerer: VideoReasoner
) -> None:
    examples = [question(0, 0), question(1, 99)]
    config = EvaluationConfig(batch_size=4, max_unreadable_fraction=0.5)
    rows = localized(answerer, localizer, examples, config=config)
    assert [bool(row.error) for row in rows] == [False, True]
    assert not rows[1].record


def test_pseudo_labels_say_which_frames_suffice_alone(answerer: VideoReasoner) -> None:
    examples = [question(0, 0), question(1, 0), question(2, 1), question(3, 50), question(4, 51)]

    def source(media: str, start: float | None, end: float | None) -> VisualTokens:
        tokens = three_frames(media, start, end)
        frames = key_frames(tokens)
        counts = {"/v/50.mp4": 2, "/v/51.mp4": 0}
        shown = frames[: counts.get(media, FRAMES)]
        return VisualTokens.concatenate(shown) if shown else tokens.without_tokens()

    num_frames = {one.media_span: len(key_frames(source(*one.media_span))) for one in examples}
    labels = pseudo_labels(answerer, source, examples, num_frames, CONFIG, GREEDY)
    assert [len(labels[one.id]) for one in examples] == [3, 3, 3, 2, 0]
    for example in examples:
        frames = key_frames(source(*example.media_span))
        for frame, label in zip(frames, labels[example.id], strict=True):
            [row] = evaluate_examples(
                reasoner_answerer(answerer, lambda *_, f=frame: f, [example], CONFIG, GREEDY),
                [example],
                CONFIG,
            )
            assert label == row.correct
    assert 0 < sum(map(sum, labels.values())) < sum(map(len, labels.values()))


def test_only_questions_with_a_right_answer_are_labelled() -> None:
    assert has_right_answer(question(0, 0))
    assert has_right_answer(question(0, 0, is_open=True))
    for changes in (
        {"prompt": FUTURE_PREDICTION_PROMPT, "options": (), "answers": ("it falls",)},
        {"options": (), "answer_index": None, "answers": ()},
        {"answer_index": None},
    ):
        fields = vars(question(0, 0)) | changes
        assert not has_right_answer(Example(**fields))


def test_mistakes_of_its_configuration_are_named(tiny_language_model_folder: str) -> None:
    folders = {"answerer": "a", "localizer": "b"}
    for weights, num_frames, message in (
        ({"answerer": "a"}, None, "made of {answerer: RUN/reasoner, localizer: RUN/reasoner}"),
        ({**folders, "localizer": ""}, None, "found {'answerer': 'a', 'localizer': ''}"),
        ({**folders, "model": "c"}, None, "'model': 'c'"),
        (folders, 5, "baselines.x.num_frames is 5; its answerer is shown at most 4"),
    ):
        config = BaselineConfig(kind="sevila_decoder", weights=weights, num_frames=num_frames)
        problems = baseline_problems("x", config, {"x": config}, GREEDY)
        assert any(message in problem for problem in problems), (message, problems)
    good = BaselineConfig(kind="sevila_decoder", weights=folders, num_frames=2)
    assert baseline_problems("x", good, {"x": good}, GREEDY) == []
    other = tiny_sevila(tiny_language_model_folder, kind="qformer")
    with pytest.raises(ValueError, match=r"weights\.answerer is a reasoner .*'qformer'"):
        check_sevila_part(other.config, "weights.answerer")
