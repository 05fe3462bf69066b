"""Objects that are the cells of a grid: each is one patch of its key frame."""

from pathlib import Path

import pytest
import torch
from tiny_perceiver import tiny_encoder

from vidreason.perception.config import PerceiverConfig, SegmenterConfig
from vidreason.perception.perceiver import build_perceiver, perceiver_fingerprint
from vidreason.perception.visual_tokens import CLIP_TOKEN, OBJECT_TOKEN
from vidreason.video.config import SamplingConfig

SAMPLE = Path(__file__).parents[2] / "vidreason" / "microworld" / "samples" / "hit.mp4"


def config(side: int = 2, **fields: object) -> PerceiverConfig:
    return PerceiverConfig(
        sampling=SamplingConfig(num_clips=2, frames_per_clip=2, num_key_frames=4),
        video_encoder=tiny_encoder(),
        segmenter=SegmenterConfig(name="patches", points_per_side=side),
        **fields,
    )


def test_each_object_is_a_patch_of_the_encoder() -> None:
    perceiver = build_perceiver(config())
    tokens = perceiver.perceive(str(SAMPLE))
    objects = tokens.kinds == OBJECT_TOKEN
    assert tokens.kinds.tolist() == [CLIP_TOKEN] * 2 + [OBJECT_TOKEN] * 16
    index = perceiver.reader.index(str(SAMPLE))
    times = (torch.arange(4) + 0.5) / 4 * tokens.duration_seconds
    chosen = [int((torch.tensor(index.timestamps) <= time + 1e-9).sum()) - 1 for time in times]
    frames = perceiver.reader.read_frames(index, chosen)
    pixels = perceiver.encoder.transform.apply(frames).view(1, 2, 2, 3, 16, 16)
    with torch.no_grad():
        patches = perceiver.encoder(pixels).patch_tokens  # (1, 2, 2, h, w, D)
    torch.testing.assert_close(tokens.features[objects], patches.reshape(16, -1))
    # Row by row from the top left, and a cell is the same track on every key frame.
    assert tokens.boxes[objects][:4].tolist() == [
        [0, 0, 0.5, 0.5],
        [0.5, 0, 1, 0.5],
        [0, 0.5, 0.5, 1],
        [0.5, 0.5, 1, 1],
    ]
    assert tokens.areas[objects].tolist() == [0.25] * 16
    assert tokens.track_ids[objects].tolist() == [0, 1, 2, 3] * 4
    shown = torch.tensor(index.timestamps)[chosen].repeat_interleave(4)
    torch.testing.assert_close(tokens.spans[objects], shown[:, None].expand(-1, 2).float())
    assert tokens.masks[3] == {"size": [2, 2], "counts": [2, 1, 1]}  # top right, by columns


def test_a_coarser_grid_gives_means_of_patches() -> None:
    fine, coarse = (
        build_perceiver(config(side, max_object_share=1.0)).perceive(str(SAMPLE)) for side in (2, 1)
    )
    means = fine.features[2:].view(4, 4, -1).mean(dim=1)
    torch.testing.assert_close(coarse.features[2:], means)


def test_what_does_not_fit_the_grid_is_named() -> None:
    with pytest.raises(ValueError, match=r"objects_per_key_frame is 16, but .* makes 25 patches"):
        config(5)
    with pytest.raises(ValueError, match=r"leave out patches, which are 1\.000 of the frame"):
        config(1)
    with pytest.raises(ValueError, match="'patches' has none; leave it empty"):
        SegmenterConfig(name="patches", weights="sam.pth")
    assert perceiver_fingerprint(config(2)) != perceiver_fingerprint(config(3))
