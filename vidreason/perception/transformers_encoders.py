"""Encoders read with their sizes and preprocessing from a folder of transformers (3.1.1).

``vjepa2`` attends over space and time jointly, in tubes of frames. ``image`` is any image encoder
that gives a token a patch, frame by frame: a stand-in where no video encoder is at hand, which sees
no motion inside a clip.

Shapes: B batch, N clips, F frames, h x w the patch grid, D width, S image side in pixels.
"""

import inspect
from typing import Any, Self

import torch
import transformers
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoVideoProcessor,
)

from vidreason.perception.config import VideoEncoderConfig, VideoEncoderSizes
from vidreason.perception.model_folder import (
    check_model_folder,
    foreign_errors,
    load_pretrained,
)
from vidreason.perception.video_encoder import EncodedClips, VideoEncoder, arrange_clips
from vidreason.perception.weights import local_folder
from vidreason.video.transforms import FrameTransform, Interpolation

_VISION_HALVES = {"clip": "CLIPVisionModel", "siglip": "SiglipVisionModel"}
"""By the type of a model that pairs images with text, the class of its vision half, which is all
that is built, from the whole model's weights as well as from its own."""

_DROPPED_PREFIXES = (
    *("text_model.", "text_projection.", "visual_projection.", "logit_scale", "logit_bias"),
    *("classifier.", "lm_head.", "decoder.", "pooler.", "predictor."),
)
"""Text towers, projections and heads in the weights that the encoders have no use for."""

_UNUSED_PREFIXES = ("pooler.", "predictor.", "embeddings.mask_token")
"""Parameters of transformers' classes that may be missing: no token depends on them."""

_INTERPOLATIONS: dict[int, Interpolation] = {2: "antialiased-bilinear", 3: "antialiased-bicubic"}
"""By Pillow's numbers, which image processors store."""

_PREFIX_TOKENS = ("cls_token", "class_embedding", "register_tokens", "distillation_token")
"""Parameters that stand before the patches in a sequence of tokens, one row a token."""


class _PretrainedEncoder(VideoEncoder):
    """An encoder around a model of transformers."""

    def __init__(
        self, model: nn.Module, sizes: VideoEncoderSizes, transform: FrameTransform
    ) -> None:
        super().__init__(sizes, transform)
        self.model = model

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode: a stray ``.train()`` must not switch dropout on."""
        del mode
        return super().train(False)


class VJEPA2Encoder(_PretrainedEncoder):
    """V-JEPA 2 as a video encoder.

    It has no [CLS], and the attentive pooler belongs to fine-tuned classifiers only: the clip token
    is the mean of the tokens. Rotary positions take any number of tubes. The predictor is not kept.
    """

    def forward(self, frames: Tensor) -> EncodedClips:
        """Encode ``(B, N, F, 3, S, S)`` normalised frames; every clip is encoded by itself."""
        clips = frames.flatten(0, 1).to(next(self.model.parameters()).dtype)  # (B * N, F, 3, S, S)
        tokens: Tensor = self.model(clips).last_hidden_state  # (B * N, F' * h * w, D)
        side = self.image_size // self.patch_size
        # (B * N, F' * h * w, D) -> (B * N, F', h, w, D)
        patches = tokens.view(len(tokens), -1, side, side, self.width)
        return arrange_clips(frames, tokens.mean(dim=1), patches)


class ImageEncoder(_PretrainedEncoder):
    """An image encoder as a video encoder.

    Every frame is encoded by itself. Its own token is the [CLS], or, where the model has none
    (SigLIP), what it pools from the patches; the clip token is the mean of those of its frames.
    CLIP normalises only its [CLS]; here the same norm is applied to its patches.
    """

    def __init__(
        self, model: nn.Module, sizes: VideoEncoderSizes, transform: FrameTransform
    ) -> None:
        super().__init__(model, sizes, transform)
        prefix = {
            name.rsplit(".", 1)[-1]: parameter
            for name, parameter in model.named_parameters()
            if name.endswith(_PREFIX_TOKENS)
        }
        self.num_prefix_tokens = sum(p.numel() // sizes.width for p in prefix.values())
        self.has_cls = "cls_token" in prefix or "class_embedding" in prefix
        self.arguments: dict[str, bool] = {}
        if sizes.image_size != sizes.trained_image_size and (
            "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
        ):
            self.arguments["interpolate_pos_encoding"] = True

    def forward(self, frames: Tensor) -> EncodedClips:
        """Encode ``(B, N, F, 3, S, S)`` normalised frames; every frame is encoded by itself.

        Raises:
            ValueError: The model gives other tokens than a patch grid after its prefix tokens.
        """
        # Every frame by itself: (B, N, F, 3, S, S) -> (B * N * F, 3, S, S)
        pixels = frames.flatten(0, 2).to(next(self.model.parameters()).dtype)
        output: Any = self.model(pixel_values=pixels, **self.arguments)
        tokens: Tensor = output.last_hidden_state
        side = self.image_size // self.patch_size
        expected = (self.num_prefix_tokens + side * side, self.width)
        if tuple(tokens.shape[1:]) != expected:
            raise ValueError(
                f"{type(self.model).__name__}: expected (tokens, width) {expected}, which is "
                f"{self.num_prefix_tokens} tokens before a grid of {side} x {side}, found "
                f"{tuple(tokens.shape[1:])}; only encoders with one token a patch can be used"
            )
        if isinstance(self.model, transformers.CLIPVisionModel):
            tokens = getattr(self.model, "vision_model", self.model).post_layernorm(tokens)
        # The patch grid, and one token a frame: (B * N * F, h, w, D), (B * N * F, D)
        patches = tokens[:, self.num_prefix_tokens :].reshape(len(tokens), side, side, self.width)
        pooled = getattr(output, "pooler_output", None)
        if self.has_cls:
            frame_tokens = tokens[:, 0]
        else:
            frame_tokens = patches.mean(dim=(1, 2)) if pooled is None else pooled
        # Their mean over the clip: (B * N, F, D) -> (B * N, D)
        clip_tokens = frame_tokens.view(-1, frames.shape[2], self.width).mean(dim=1)
        patches = patches.view(len(clip_tokens), -1, side, side, self.width)
        return arrange_clips(frames, clip_tokens, patches)


def pretrained_sizes(config: VideoEncoderConfig) -> VideoEncoderSizes:
    """Sizes of the encoder in the folder ``config.weights``.

    Raises:
        ValueError: The folder is missing, or its model or preprocessing cannot be used.
    """
    _, model_config = _model_class(config)
    transform = _transform(config)
    tubelet_size = model_config.tubelet_size if config.name == "vjepa2" else 1
    trained_side = model_config.crop_size if config.name == "vjepa2" else model_config.image_size
    sizes = VideoEncoderSizes(
        width=model_config.hidden_size,
        image_size=transform.size,
        patch_size=_side(config, "patch_size", model_config.patch_size),
        num_frames=config.frames_per_clip,
        tubelet_size=tubelet_size,
        num_layers=model_config.num_hidden_layers,
        num_heads=model_config.num_attention_heads,
        trained_image_size=_side(config, "image_size", trained_side),
        trained_frames=config.frames_per_clip,
    )
    if config.name == "vjepa2" and sizes.image_size != sizes.trained_image_size:
        raise ValueError(
            f"{_where(config)} preprocesses to {sizes.image_size} pixels, "
            f"but its model takes {sizes.trained_image_size}; they must be the same"
        )
    if sizes.image_size % sizes.patch_size or sizes.num_frames % tubelet_size:
        raise ValueError(
            f"{_where(config)} has patches of {sizes.patch_size} pixels and {tubelet_size} frames"
            f", which do not divide {sizes.image_size} pixels and num_frames {sizes.num_frames}"
        )
    return sizes


def build_pretrained_encoder(
    config: VideoEncoderConfig, device: torch.device, dtype: torch.dtype
) -> VideoEncoder:
    """Build ``vjepa2`` or ``image`` from the folder ``config.weights``, strictly.

    Raises:
        ValueError: The folder is missing, or its weights are not exactly those of its model; the
            message names the first offending keys.
    """
    model_class, model_config = _model_class(config)
    sizes, transform = pretrained_sizes(config), _transform(config)
    model = load_pretrained(
        model_class,
        model_config,
        local_folder(config.weights),
        _where(config),
        device=device,
        dtype=dtype,
        unused_prefixes=_UNUSED_PREFIXES,
        dropped_prefixes=(*_DROPPED_PREFIXES, *config.ignored_keys),
    )
    if config.name == "vjepa2":
        return VJEPA2Encoder(model.encoder, sizes, transform).to(device)
    return ImageEncoder(model, sizes, transform).to(device)


def _model_class(config: VideoEncoderConfig) -> tuple[Any, Any]:
    """The class to build, and its configuration."""
    if not config.weights:
        raise ValueError(
            f"perceiver.video_encoder.weights: empty, but {config.name!r} needs a folder of "
            "transformers, or a repository of the Hugging Face Hub"
        )
    folder = local_folder(config.weights)
    check_model_folder(folder)
    with foreign_errors(_where(config)):
        model_config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if config.name == "vjepa2":
        if model_config.model_type != "vjepa2":
            raise ValueError(
                f"{_where(config)} holds a model of type {model_config.model_type!r}, not 'vjepa2'"
            )
        return transformers.VJEPA2Model, model_config
    # Of a model of pictures and texts the half that sees, with a configuration of its own.
    kind = model_config.model_type.removesuffix("_vision_model")
    if kind in _VISION_HALVES:
        vision_config = getattr(model_config, "vision_config", model_config)
        return getattr(transformers, _VISION_HALVES[kind]), vision_config
    missing = [
        name
        for name in ("hidden_size", "image_size", "patch_size", "num_hidden_layers")
        if not hasattr(model_config, name)
    ]
    if missing or type(model_config) not in transformers.MODEL_MAPPING:
        raise ValueError(
            f"{_where(config)} holds a model of type "
            f"{model_config.model_type!r}, which is not an image encoder with one token a patch, "
            "such as clip, siglip or dinov2"
        )
    return transformers.MODEL_MAPPING[type(model_config)], model_config


def _transform(config: VideoEncoderConfig) -> FrameTransform:
    """The preprocessing that the folder's own processor does, as a transform of frames."""
    auto: Any = AutoVideoProcessor if config.name == "vjepa2" else AutoImageProcessor
    with foreign_errors(_where(config)):
        processor: Any = auto.from_pretrained(local_folder(config.weights), trust_remote_code=False)
    size = processor.size
    crop = processor.crop_size if processor.do_center_crop else None
    # Two ways to a square: squash both sides, or scale the short one and cut the middle out.
    squashed = size["height"] if size["height"] == size["width"] else None
    short_side = size["shortest_edge"] if size["longest_edge"] is None else None
    if squashed and (crop is None or crop["height"] == crop["width"] == squashed):
        side, short_side = squashed, None
    elif short_side and crop and crop["height"] == crop["width"]:
        side = crop["height"]
    else:
        raise ValueError(
            f"{_where(config)} preprocesses to size {dict(size)} and crop "
            f"{dict(crop) if crop else None}; only a squash to a square, or a short side and a "
            "square centre crop, can be followed by masks"
        )
    if processor.resample not in _INTERPOLATIONS or not (
        processor.do_resize and processor.do_rescale and processor.do_normalize
    ):
        raise ValueError(
            f"{_where(config)} preprocesses with resample "
            f"{processor.resample}, do_resize {processor.do_resize}, do_rescale "
            f"{processor.do_rescale}, do_normalize {processor.do_normalize}; expected bilinear (2) "
            "or bicubic (3), and all three done"
        )
    red, green, blue = processor.image_mean
    red_deviation, green_deviation, blue_deviation = processor.image_std
    return FrameTransform(
        size=side,
        short_side=short_side,
        crop_rounding="down",
        interpolation=_INTERPOLATIONS[processor.resample],
        mean=(red, green, blue),
        std=(red_deviation, green_deviation, blue_deviation),
    )


def _where(config: VideoEncoderConfig) -> str:
    return f"perceiver.video_encoder.weights: {config.weights!r}"


def _side(config: VideoEncoderConfig, name: str, value: int | list[int]) -> int:
    sides = {value} if isinstance(value, int) else set(value)
    if len(sides) != 1:
        raise ValueError(f"{_where(config)} has {name} {value}; only squares can be used")
    return sides.pop()
