"""Systems that predict the microworld without learning: the oracle, and straight lines."""

import random

import pytest
import torch

from vidreason.example import Example
from vidreason.microworld.answerers import ExtrapolationAnswerer, OracleAnswerer
from vidreason.microworld.language import next_sentence
from vidreason.microworld.perceived_state import StateProbe
from vidreason.microworld.renderer import FRAME_SIZE, render_bars, render_masks
from vidreason.microworld.scenes import draw_rollouts
from vidreason.microworld.simulation import COLORS, SHAPES, VIDEO_SECONDS, Rollout
from vidreason.perception.visual_tokens import OBJECT_TOKEN, VisualTokens
from vidreason.reasoning.predictions import parse_predictions
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT

KEY_FRAMES = (0.75, 2.25, 3.75, 5.25)


def true_tokens(rollout: Rollout) -> VisualTokens:
    """Object tokens that say what is there: colour, shape and velocity, with true boxes."""
    features, spans, boxes, areas = [], [], [], []
    for time in KEY_FRAMES:
        things = {**render_masks(rollout, time), **render_bars(rollout)}
        for name, mask in things.items():
            rows, columns = mask.nonzero()
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            feature = [float(name == thing) for thing in (*COLORS, "wall", "screen")]
            shape, motion = "", (0.0, 0.0)
            if name in COLORS:
                shape = rollout.body(name).shape
                motion = rollout.state(name, time)[2:]
            feature += [float(shape == known) for known in SHAPES]
            features.append([*feature, *motion])
            spans.append([time, time])
            boxes.append([edge / FRAME_SIZE for edge in box])
            areas.append(mask.mean())
    number = len(features)
    return VisualTokens(
        features=torch.tensor(features),
        kinds=torch.full((number,), OBJECT_TOKEN),
        spans=torch.tensor(spans),
        boxes=torch.tensor(boxes, dtype=torch.float32),
        areas=torch.tensor(areas, dtype=torch.float32),
        track_ids=torch.zeros(number, dtype=torch.int64),
        masks=(None,) * number,
        duration_seconds=VIDEO_SECONDS,
    )


@pytest.fixture(scope="module")
def rollouts() -> dict[str, Rollout]:
    return {str(index): rollout for index, rollout in draw_rollouts("answerers", 90)}


def questions(rollouts: dict[str, Rollout]) -> list[Example]:
    return [
        Example(
            id=video_id,
            corpus="causal_vid_instruct",
            media=video_id,
            video_id=video_id,
            prompt=FUTURE_PREDICTION_PROMPT,
            response="",
        )
        for video_id in rollouts
    ]


def hits(outputs: list[str], rollouts: dict[str, Rollout]) -> float:
    said = [parse_predictions(output).items[0].event for output in outputs]
    true = [next_sentence(rollout, rollout.next_event()) for rollout in rollouts.values()]
    return sum(a == b for a, b in zip(said, true, strict=True)) / len(true)


def test_the_oracle_is_mostly_right_and_knows_how_sure_it_is(rollouts: dict[str, Rollout]) -> None:
    oracle = OracleAnswerer(rollouts.__getitem__, num_futures=40)
    replies = oracle.predict(questions(rollouts))
    accuracy = hits([reply.output for reply in replies], rollouts)
    assert 0.8 < accuracy < 1
    for reply in replies:
        assert sum(future.probability for future in reply.futures) == pytest.approx(1)
    said = sum(reply.futures[0].probability for reply in replies) / len(replies)
    assert abs(said - accuracy) < 0.12
    assert oracle.capabilities == {"predict"}


def test_straight_lines_from_tokens_that_tell_all_reach_most_events(
    rollouts: dict[str, Rollout],
) -> None:
    tokens = {video_id: true_tokens(rollout) for video_id, rollout in rollouts.items()}
    probe = StateProbe((tokens[video_id], rollouts[video_id]) for video_id in list(rollouts)[:60])
    tested = dict(list(rollouts.items())[60:])
    answerer = ExtrapolationAnswerer(probe, lambda media, start, end: tokens[media])
    outputs = [reply.output for reply in answerer.predict(questions(tested))]
    assert hits(outputs, tested) > 0.6
    # Tokens of another video tell another future.
    others = list(tokens)
    random.Random(0).shuffle(others)
    exchanged = dict(zip(tokens, others, strict=True))
    blind = ExtrapolationAnswerer(probe, lambda media, start, end: tokens[exchanged[media]])
    outputs = [reply.output for reply in blind.predict(questions(tested))]
    assert hits(outputs, tested) < 0.5


def test_the_probe_reads_the_state_that_tokens_tell(rollouts: dict[str, Rollout]) -> None:
    tokens = {video_id: true_tokens(rollout) for video_id, rollout in rollouts.items()}
    probe = StateProbe((tokens[video_id], rollouts[video_id]) for video_id in list(rollouts)[:60])
    for video_id in list(rollouts)[60:]:
        rollout = rollouts[video_id]
        for body in probe.bodies(tokens[video_id]):
            x, y, velocity_x, velocity_y = rollout.state(body.color, body.time)
            assert (body.velocity_x, body.velocity_y) == pytest.approx(
                (velocity_x, velocity_y), abs=6
            )
            assert body.shape == rollout.body(body.color).shape
            assert (body.x, body.y) == pytest.approx((x, y), abs=7)


def test_a_probe_needs_bodies() -> None:
    with pytest.raises(ValueError, match="no object token shows a body"):
        StateProbe([])
