"""The perturbation of futures is as large as what is left uncertain when the tokens are read."""

import math
from collections import defaultdict
from pathlib import Path

import pytest

from experiments.experiment_config import ExperimentConfig
from vidreason.config import merge_config
from vidreason.microworld.perceived_state import StateProbe
from vidreason.microworld.renderer import write_video
from vidreason.microworld.scenes import (
    DIRECTION_UNCERTAINTY,
    POSITION_UNCERTAINTY,
    SPEED_UNCERTAINTY,
    draw_rollouts,
)
from vidreason.microworld.simulation import VIDEO_SECONDS, Rollout
from vidreason.perception.perceiver import Perceiver, build_perceiver
from vidreason.perception.visual_tokens import VisualTokens

NUM_PROBED, NUM_TESTED = 500, 150


def perceived(
    perceiver: Perceiver, split: str, count: int, folder: Path
) -> list[tuple[VisualTokens, Rollout]]:
    videos = []
    for number, rollout in draw_rollouts(split, count):
        path = folder / f"{split}-{number}.mp4"
        write_video(rollout, path)
        videos.append((perceiver.perceive(str(path)), rollout))
    return videos


def usual(errors: list[float]) -> float:
    """Return the error that 68 % stay below: a standard deviation without the outliers."""
    return sorted(map(abs, errors))[int(0.68 * len(errors))]


@pytest.mark.slow
def test_futures_differ_as_much_as_readings_of_the_tokens_err(tmp_path: Path) -> None:
    config = merge_config(ExperimentConfig, ["experiments/configs/microworld.yaml"]).perceiver
    perceiver = build_perceiver(config)
    probe = StateProbe(perceived(perceiver, "uncertainty probe", NUM_PROBED, tmp_path))
    errors: dict[str, list[float]] = defaultdict(list)
    for tokens, rollout in perceived(perceiver, "uncertainty test", NUM_TESTED, tmp_path):
        colors = {body.color for body in rollout.scene.bodies}
        for body in probe.bodies(tokens):
            # The last key frame says what is about to happen.
            if body.time < 0.75 * VIDEO_SECONDS or body.color not in colors:
                continue
            x, y, velocity_x, velocity_y = rollout.state(body.color, body.time)
            if (velocity_x, velocity_y) == (0, 0) or (body.velocity_x, body.velocity_y) == (0, 0):
                continue
            errors["position"] += [body.x - x, body.y - y]
            said = math.hypot(body.velocity_x, body.velocity_y)
            errors["speed"].append(math.log(said / math.hypot(velocity_x, velocity_y)))
            turn = math.atan2(body.velocity_y, body.velocity_x) - math.atan2(velocity_y, velocity_x)
            errors["direction"].append((math.degrees(turn) + 180) % 360 - 180)
    usual_errors = {name: usual(values) for name, values in errors.items()}
    print({name: round(value, 3) for name, value in usual_errors.items()}, len(errors["speed"]))
    for name, assumed in (
        ("position", POSITION_UNCERTAINTY),
        ("speed", SPEED_UNCERTAINTY),
        ("direction", DIRECTION_UNCERTAINTY),
    ):
        assert 0.5 * assumed < usual_errors[name] < 2 * assumed
