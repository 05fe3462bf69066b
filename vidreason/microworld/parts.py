"""The sizes of the microworld's three foundation models, and where their weights lie.

The weights in ``parts/`` were made by ``python -m experiments.pretrain_microworld``; they are half
precision on disk and load as float32.
"""

from pathlib import Path

from vidreason.perception.config import PerceiverConfig, SegmenterConfig, VideoEncoderConfig
from vidreason.video.config import SamplingConfig

PARTS_FOLDER = Path(__file__).parent / "parts"
ENCODER_WEIGHTS = PARTS_FOLDER / "encoder.safetensors"
SEGMENTER_WEIGHTS = PARTS_FOLDER / "segmenter.safetensors"
LANGUAGE_MODEL_FOLDER = PARTS_FOLDER / "language_model"
VOCAB_SIZE = 1536
WIDTH = 192
"""Width of the shipped language model."""
NUM_LAYERS = 6
"""Layers of the shipped language model."""


def perceiver_config() -> PerceiverConfig:
    """Return the perceiver's configuration without weights, from which pre-training starts."""
    return PerceiverConfig(
        sampling=SamplingConfig(num_clips=4, frames_per_clip=4, num_key_frames=8),
        video_encoder=VideoEncoderConfig(
            name="viclip",
            allow_random_weights=True,
            image_size=64,
            patch_size=8,  # 8 x 8 patches a frame
            width=128,
            num_layers=4,
            num_heads=4,
            num_frames=4,
            output_dim=64,
        ),
        segmenter=SegmenterConfig(
            name="custom",
            allow_random_weights=True,
            image_size=96,
            patch_size=8,  # 12 x 12 patches a frame
            encoder_width=96,
            encoder_layers=3,
            encoder_heads=4,
            window_size=0,  # no windows: every layer attends to the whole frame
            global_attention_layers=[],
            prompt_dim=64,
            decoder_layers=2,
            decoder_heads=4,
            decoder_mlp_dim=128,
            points_per_side=7,
            frames_per_batch=4,
            points_per_batch=196,  # the 7 x 7 points of four frames
            pred_iou_threshold=0.7,
            stability_threshold=0.8,
        ),
        objects_per_key_frame=8,
        max_object_share=0.5,
    )
