from itertools import combinations

import numpy as np
import torch
from segment_anything.utils.amg import rle_to_mask

from experiments.experiment_config import ExperimentConfig
from vidreason.config import merge_config
from vidreason.microworld.renderer import render_bars, render_masks, write_video
from vidreason.microworld.scenes import draw_rollouts
from vidreason.microworld.simulation import Rollout
from vidreason.perception.object_tracks import mask_overlaps
from vidreason.perception.perceiver import build_perceiver
from vidreason.perception.visual_tokens import OBJECT_TOKEN, VisualTokens


def true_names(tokens: VisualTokens, rollout: Rollout) -> dict[int, str]:
    """Return what each object token shows, by index; the best of several masks of one thing."""
    names = {}
    objects = tokens.kinds == OBJECT_TOKEN
    for time in tokens.spans[objects, 0].unique().tolist():
        things = render_masks(rollout, time)
        bodies = np.any(list(things.values()), axis=0)
        things |= {name: bar & ~bodies for name, bar in render_bars(rollout).items()}
        indices = (objects & (tokens.spans[:, 0] == time)).nonzero()[:, 0].tolist()
        masks = torch.stack(
            [torch.from_numpy(rle_to_mask(tokens.masks[p]).copy()) for p in indices]
        )
        true = torch.from_numpy(np.stack(list(things.values())))
        overlaps = mask_overlaps(masks, true)
        for column, name in enumerate(things):
            if overlaps[:, column].max() > 0.5:
                names[indices[int(overlaps[:, column].argmax())]] = name
    return names


def test_an_object_has_one_id_at_all_key_frames(tmp_path):
    """On videos that the thresholds were not chosen with."""
    config = merge_config(ExperimentConfig, ["experiments/configs/microworld.yaml"]).perceiver
    perceiver = build_perceiver(config)
    one, joined = [], []
    for number, (_, rollout) in enumerate(draw_rollouts("tracks of objects", 10)):
        write_video(rollout, tmp_path / f"{number}.mp4")
        tokens = perceiver.perceive(str(tmp_path / f"{number}.mp4"))
        names = true_names(tokens, rollout)
        for first, second in combinations(names, 2):
            if tokens.spans[first, 0] < tokens.spans[second, 0]:
                pairs = one if names[first] == names[second] else joined
                pairs.append(bool(tokens.track_ids[first] == tokens.track_ids[second]))
    assert len(one) > 80
    assert len(joined) > 150
    assert sum(one) >= 0.95 * len(one)
    assert sum(joined) <= 0.01 * len(joined)
