"""A GPU sees in a video what the CPU sees: the microworld's encoder and segmenter, on its videos.

Not run on a GPU so far: none was at hand.
"""

import dataclasses

import pytest
import torch
from gpu_twins import DEVICES
from torch.nn.functional import cosine_similarity
from torchvision.ops import box_iou

from vidreason.microworld import parts
from vidreason.microworld.corpora import WorldConfig, write_world
from vidreason.perception.perceiver import build_perceiver
from vidreason.perception.visual_tokens import OBJECT_TOKEN


@pytest.fixture(scope="module")
def perceive(tmp_path_factory):
    """``perceive(device)`` gives the visual tokens of one video."""
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, WorldConfig(num_videos={"train": 1}))
    video = str(next((folder / "webvid" / "videos").rglob("*.mp4")))
    config = parts.perceiver_config()
    config = dataclasses.replace(
        config,
        video_encoder=dataclasses.replace(config.video_encoder, weights=str(parts.ENCODER_WEIGHTS)),
        segmenter=dataclasses.replace(config.segmenter, weights=str(parts.SEGMENTER_WEIGHTS)),
    )
    return lambda device: build_perceiver(config, device).perceive(video)


@pytest.mark.parametrize("device", DEVICES)
def test_a_device_sees_what_the_cpu_sees(perceive, device):
    expected, actual = perceive("cpu"), perceive(device)
    assert actual.features.device.type == "cpu"
    clips = expected.kinds != OBJECT_TOKEN
    torch.testing.assert_close(
        actual.features[actual.kinds != OBJECT_TOKEN],
        expected.features[clips],
        atol=1e-2,
        rtol=1e-2,
    )
    # A mask at a threshold may be there on one device only, and borders differ by rounding.
    assert (~clips).sum() >= 4
    overlaps = box_iou(actual.boxes[actual.kinds == OBJECT_TOKEN], expected.boxes[~clips])
    alike = cosine_similarity(
        actual.features[actual.kinds == OBJECT_TOKEN][:, None],
        expected.features[~clips][None],
        dim=2,
    )
    seen_again = ((overlaps > 0.8) & (alike > 0.99)).any(0)
    assert seen_again.float().mean() >= 0.75
