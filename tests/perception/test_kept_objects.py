"""Leaving objects out of a video's tokens."""

import dataclasses

import pytest
import torch

from vidreason.perception.perceiver import PerceiverConfig, shown_tokens


@pytest.fixture
def video(make_visual_tokens):
    """Two clips, then three objects at second 1 and two at second 5."""
    tokens = make_visual_tokens(2, 5)
    times = torch.tensor([1.0, 1.0, 1.0, 5.0, 5.0])
    spans = torch.cat([tokens.spans[:2], times[:, None].repeat(1, 2)])
    return dataclasses.replace(tokens, spans=spans)


@pytest.mark.parametrize(
    ("limit", "indices"),
    [
        (0, [0, 1]),
        (1, [0, 1, 2, 5]),
        (2, [0, 1, 2, 3, 5, 6]),
        (3, [0, 1, 2, 3, 4, 5, 6]),
        (9, [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_each_key_frame_keeps_its_first_objects_and_clips_stay(video, limit, indices):
    shown = video.with_objects(limit)
    for name in ("features", "kinds", "spans", "boxes", "areas", "track_ids"):
        assert torch.equal(getattr(shown, name), getattr(video, name)[indices]), name
    assert shown.masks == tuple(video.masks[index] for index in indices)
    assert shown.duration_seconds == video.duration_seconds


def test_without_a_number_all_are_shown(video):
    assert shown_tokens(video, PerceiverConfig()) is video
    assert len(shown_tokens(video, PerceiverConfig(kept_objects=0))) == 2
