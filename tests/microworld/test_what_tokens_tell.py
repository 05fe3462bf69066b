"""Objects add little here: the clip tokens of the microworld tell the same facts themselves."""

import numpy as np
import pytest
import torch

from experiments.experiment_config import ExperimentConfig
from vidreason.config import merge_config
from vidreason.microworld.encoder_pretraining import clip_fact_names, clip_facts
from vidreason.microworld.renderer import write_video
from vidreason.microworld.scenes import draw_rollouts
from vidreason.microworld.simulation import VIDEO_SECONDS
from vidreason.perception.perceiver import build_perceiver
from vidreason.perception.visual_tokens import OBJECT_TOKEN, VisualTokens

NUM_VIDEOS = 500
NUM_TEST_VIDEOS = 100
PENALTIES = (1e-2, 1e-1, 1.0, 10.0)


def clip_features(tokens: VisualTokens) -> torch.Tensor:
    return tokens.features[tokens.kinds != OBJECT_TOKEN].flatten()


def object_features(tokens: VisualTokens, num_key_frames: int) -> torch.Tensor:
    """Mean and maximum over the objects of each key frame, of what they look like and where."""
    is_object = tokens.kinds == OBJECT_TOKEN
    described = torch.cat([tokens.features, tokens.boxes, tokens.areas[:, None]], dim=1)[is_object]
    frames = (tokens.spans[is_object, 0] / VIDEO_SECONDS * num_key_frames).long()
    pooled = torch.zeros(num_key_frames, 2, described.shape[1])
    for frame in frames.unique():
        objects = described[frames == frame]
        pooled[frame] = torch.stack([objects.mean(0), objects.amax(0)])
    return pooled.flatten()


def ridge(features: torch.Tensor, truth: torch.Tensor, penalty: float) -> torch.Tensor:
    gram = features.T @ features / len(features)
    ridge = penalty * torch.eye(features.shape[1], dtype=features.dtype)
    return torch.linalg.solve(gram + ridge, features.T @ truth / len(features))


def area_under_curve(scores: torch.Tensor, truth: torch.Tensor) -> float:
    """Return how often a fact that holds has a higher score than one that does not."""
    truth = truth.flatten().bool()
    ranks = scores.flatten().argsort().argsort() + 1.0
    num_true, num_false = int(truth.sum()), int((~truth).sum())
    above = ranks[truth].sum() - num_true * (num_true + 1) / 2
    return float(above / (num_true * num_false))


def probed(features: torch.Tensor, truth: torch.Tensor) -> float:
    """The curve's area on the test videos; the penalty is chosen on a fifth of the others."""
    train = features[NUM_TEST_VIDEOS:]
    features = ((features - train.mean(0)) / (train.std(0) + 1e-6)).double()
    tests, others = features[:NUM_TEST_VIDEOS], features[NUM_TEST_VIDEOS:]
    truth = truth.double()
    known, held_out = truth[NUM_TEST_VIDEOS:], truth[:NUM_TEST_VIDEOS]
    mean = known.mean(0)
    held_out = torch.arange(len(others)) % 5 == 0

    def error(penalty: float) -> float:
        weights = ridge(others[~held_out], known[~held_out] - mean, penalty)
        return float((others[held_out] @ weights + mean - known[held_out]).square().mean())

    weights = ridge(others, known - mean, min(PENALTIES, key=error))
    return area_under_curve(tests @ weights + mean, held_out)


@pytest.mark.slow
def test_clip_tokens_tell_more_than_objects_and_nearly_all_that_both_do(tmp_path):
    perceiver = build_perceiver(
        merge_config(ExperimentConfig, ["experiments/configs/microworld.yaml"]).perceiver
    )
    num_key_frames = perceiver.config.sampling.num_key_frames
    clips, objects, truth = [], [], []
    times = np.linspace(0.0, VIDEO_SECONDS, 16, endpoint=False)
    for number, (_, rollout) in enumerate(draw_rollouts("what tokens tell", NUM_VIDEOS)):
        path = tmp_path / f"{number}.mp4"
        write_video(rollout, path)
        tokens = perceiver.perceive(str(path))
        clips.append(clip_features(tokens))
        objects.append(object_features(tokens, num_key_frames))
        facts = clip_facts(rollout, times, 0.0, VIDEO_SECONDS)
        truth.append(torch.tensor([name in facts for name in clip_fact_names()]))
    features = {"clips": torch.stack(clips), "objects": torch.stack(objects)}
    features["both"] = torch.cat(list(features.values()), dim=1)
    areas = {name: probed(value, torch.stack(truth)) for name, value in features.items()}
    print({name: round(area, 3) for name, area in areas.items()})
    assert areas["clips"] > areas["objects"] > 0.7
    assert areas["both"] < areas["clips"] + 0.03
