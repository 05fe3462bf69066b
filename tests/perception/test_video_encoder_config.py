"""Names, sizes and what a configuration refuses."""

import pytest
from golden_weights import TINY

from vidreason.perception.config import VideoEncoderConfig
from vidreason.perception.models import build_video_encoder, video_encoder_sizes


def test_the_default_is_the_released_viclip_b16():
    config = VideoEncoderConfig()
    sizes = video_encoder_sizes(config)
    assert config.name == "viclip-b16"
    assert (sizes.width, sizes.image_size, sizes.patch_size) == (768, 224, 16)
    assert (sizes.num_frames, sizes.tubelet_size, sizes.output_dim) == (8, 1, 512)
    assert config.frames_per_clip == 8


@pytest.mark.parametrize(
    ("name", "frames", "tubelet_size"),
    [("viclip-l14", 8, 1), ("internvideo-mm-b16", 8, 1), ("videomae-b16", 16, 2)],
)
def test_released_names_know_their_sizes_and_transforms(name, frames, tubelet_size):
    config = VideoEncoderConfig(name=name)
    sizes = video_encoder_sizes(config)
    encoder = build_video_encoder(config, "meta")
    assert config.frames_per_clip == encoder.num_frames == sizes.num_frames == frames
    assert encoder.tubelet_size == sizes.tubelet_size == tubelet_size
    assert (encoder.width, encoder.patch_size) == (sizes.width, sizes.patch_size)
    assert encoder.transform.size == encoder.image_size == sizes.image_size == 224
    short_sides = {"viclip-l14": None, "internvideo-mm-b16": 256, "videomae-b16": 224}
    assert encoder.transform.short_side == short_sides[name]


@pytest.mark.parametrize("name", ["vjepa2", "image"])
def test_the_number_of_frames_is_known_without_the_folder(name):
    assert VideoEncoderConfig(name=name, weights="nowhere").frames_per_clip == 8
    assert VideoEncoderConfig(name=name, weights="nowhere", num_frames=4).frames_per_clip == 4


def test_frames_and_resolution_of_a_released_model_can_be_chosen():
    config = VideoEncoderConfig(name="viclip-b16", num_frames=16, image_size=288)
    sizes = video_encoder_sizes(config)
    assert (sizes.num_frames, sizes.image_size) == (16, 288)
    assert (sizes.trained_frames, sizes.trained_image_size) == (8, 224)
    assert build_video_encoder(config, "meta").transform.size == 288


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "viclip-b16", "width": 512}, r"width: 512, but it is no choice of 'viclip-b16'"),
        ({"name": "image", "image_size": 224}, r"image_size: 224, but it is no choice of 'image'"),
        (TINY["viclip"] | {"num_global_layers": 2}, "num_global_layers: 2, but it is no choice"),
        (TINY["viclip"] | {"width": None}, r"width: empty, but 'viclip' takes its sizes from"),
        (TINY["mm"] | {"num_global_layers": None}, "num_global_layers: empty"),
        (TINY["mm"] | {"num_global_layers": 5}, "num_global_layers: 5 is more than num_layers 4"),
        (TINY["viclip"] | {"image_size": 40}, "40 is not a multiple of patch_size 16"),
        (TINY["viclip"] | {"num_heads": 5}, "width: 64 is not a multiple of num_heads 5"),
        (TINY["videomae"] | {"num_frames": 5}, "num_frames: 5 is not a multiple of tubelet_size 2"),
        ({"num_frames": 0}, "num_frames is 0; it must be from 1 to 8,192"),
        ({"name": "viclip-l14", "image_size": 225}, "225 is not a multiple of patch_size 14"),
    ],
)
def test_sizes_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=rf"video_encoder\..*{message}"):
        VideoEncoderConfig(**changes)
