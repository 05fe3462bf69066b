"""Video encoders and segmenters from outside of this project: their classes, and their checks.

They are named by ``perceiver.video_encoder.name`` and ``perceiver.segmenter.name``; see
:mod:`vidreason.added_parts`. Each has a version that stands in the fingerprint of what a perceiver
sees: raise it whenever the same configuration and weights give other numbers, so that no store
serves old ones.

Shapes: B batch, N clips, F frames, h x w the patch grid, D width, S image side in pixels.
"""

from collections.abc import Callable, Sequence, Sized
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from vidreason.added_parts import (
    check_methods,
    load_class,
    part_errors,
    part_name,
)
from vidreason.perception.config import (
    ENCODER_GROUP,
    SEGMENTER_GROUP,
    SEGMENTERS,
    SIZE_FIELDS,
    VIDEO_ENCODERS,
    SegmenterConfig,
    VideoEncoderConfig,
    VideoEncoderSizes,
)
from vidreason.perception.segmenter import ObjectMask, Segmenter
from vidreason.perception.video_encoder import EncodedClips, VideoEncoder
from vidreason.perception.weights import frozen_model, load_weights
from vidreason.video.transforms import FrameTransform

C = TypeVar("C", VideoEncoderConfig, SegmenterConfig)
M = TypeVar("M", bound=nn.Module)


class AddedVideoEncoder(VideoEncoder):
    """A video encoder from outside of this project; a subclass is made with its sizes.

    A call encodes ``(B, N, F, 3, S, S)`` float32 frames, as its transform normalises them, to
    :class:`EncodedClips`; it brings them to the dtype of its parameters. It is built on the
    ``meta`` device, and :meth:`load` then gives it its weights: what it computes with is a
    parameter or a persistent buffer.

    Args:
        sizes: As :meth:`sizes_of` gives them. A subclass takes these alone.
        transform: From a decoded frame to network input; None squashes it to the square and
            normalises it as for ImageNet.
    """

    version: ClassVar[int]
    """See the module."""
    size_fields: ClassVar[tuple[str, ...]] = ("num_frames", "image_size")
    """Sizes of :class:`VideoEncoderConfig` that :meth:`sizes_of` reads; others are refused."""

    def __init__(self, sizes: VideoEncoderSizes, transform: FrameTransform | None = None) -> None:
        super().__init__(sizes, transform or FrameTransform(size=sizes.image_size))

    @classmethod
    def sizes_of(cls, config: VideoEncoderConfig) -> VideoEncoderSizes:
        """Return the sizes that a configuration means, without building anything.

        Raises:
            ValueError: The configuration has a size that the encoder cannot take.
        """
        raise NotImplementedError

    def forward(self, frames: Tensor) -> EncodedClips:
        """Encode ``(B, N, F, 3, S, S)`` normalised frames."""
        raise NotImplementedError

    def load(self, path: str, device: torch.device, ignored_keys: Sequence[str] = ()) -> None:
        """Load weights whose keys are the module's; override it for files with other keys.

        Args:
            path: File or folder, as :func:`vidreason.perception.weights.load_weights` reads it.
            device: Where the weights go.
            ignored_keys: Beginnings of keys in the file that are not wanted.

        Raises:
            ValueError: The file is missing or does not fit; the message names the first keys.
        """
        load_weights(self, path, device=device, dropped_prefixes=ignored_keys)


class AddedSegmenter(nn.Module):
    """A segmenter from outside of this project; a subclass is made with its configuration.

    It is a :class:`~vidreason.perception.segmenter.Segmenter`. A network that answers points is
    wrapped in :class:`~vidreason.perception.mask_generation.GridSegmenter` in :meth:`segment`. It
    is built on the ``meta`` device, as :class:`AddedVideoEncoder` is.
    """

    version: ClassVar[int]
    """See the module."""

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        self.config = config

    def load(self, path: str, device: torch.device) -> None:
        """Load weights whose keys are the module's; override it for files with other keys.

        Raises:
            ValueError: The file is missing or does not fit; the message names the first keys.
        """
        load_weights(self, path, device=device)

    def segment(self, frames: Tensor) -> list[list[ObjectMask]]:
        """Return the objects on uint8 RGB frames ``(n, 3, H, W)`` on CPU, a list for each frame.

        Masks of one frame have one size, that of the frame with its longer side at most
        ``config.max_frame_side``; they may overlap, and there may be none.
        """
        raise NotImplementedError


def added_encoder_sizes(config: VideoEncoderConfig) -> VideoEncoderSizes:
    """Return the sizes of the configured encoder.

    Raises:
        ValueError: It cannot be imported, or is no encoder, or has no such sizes.
    """
    encoder_class = _encoder_class(config.name)
    given = [name for name in SIZE_FIELDS if getattr(config, name) is not None]
    surplus = [name for name in given if name not in encoder_class.size_fields]
    if surplus:
        raise ValueError(
            f"perceiver.video_encoder.{surplus[0]}: {getattr(config, surplus[0])}, but it is no "
            f"choice of {config.name!r}, which takes {', '.join(encoder_class.size_fields)}; leave "
            "it out"
        )
    with part_errors(ENCODER_GROUP, config.name):
        sizes = encoder_class.sizes_of(config)
    if not isinstance(sizes, VideoEncoderSizes):
        raise ValueError(
            f"{part_name(ENCODER_GROUP, config.name)}: sizes_of gives a {type(sizes).__name__}; it "
            "has to give a vidreason.perception.config.VideoEncoderSizes"
        )
    if sizes.num_frames != config.frames_per_clip:
        raise ValueError(
            f"{part_name(ENCODER_GROUP, config.name)} takes clips of {sizes.num_frames} frames, but"
            f" perceiver.video_encoder.num_frames is {config.frames_per_clip}: set it, and "
            f"perceiver.sampling.frames_per_clip, to {sizes.num_frames}"
        )
    return sizes


def build_added_encoder(
    config: VideoEncoderConfig, device: torch.device, dtype: torch.dtype
) -> AddedVideoEncoder:
    """Build the configured encoder in eval mode with frozen weights.

    Args:
        config: Architecture and weights.
        device: Where to build it. On ``meta`` no weights are needed nor read.
        dtype: Of the weights.

    Raises:
        ValueError: It cannot be imported, or is no encoder, or its weights are missing or do not
            fit.
    """
    sizes = added_encoder_sizes(config)

    def build() -> AddedVideoEncoder:
        with part_errors(ENCODER_GROUP, config.name):
            return _encoder_class(config.name)(sizes).to(dtype)

    encoder: AddedVideoEncoder = frozen_model(
        "perceiver.video_encoder",
        _weights_choice(config, build),
        device,
        build=build,
        load=lambda encoder: encoder.load(config.weights, device, config.ignored_keys),
    )
    return _whole(encoder, device, part_name(ENCODER_GROUP, config.name))


def build_added_segmenter(config: SegmenterConfig, device: torch.device) -> AddedSegmenter:
    """Build the configured segmenter with frozen weights.

    Args:
        config: Model, weights and filters.
        device: Where to build it. On ``meta`` no weights are needed nor read.

    Raises:
        ValueError: It cannot be imported, or is no segmenter, or its weights are missing or do not
            fit.
    """

    def build() -> AddedSegmenter:
        with part_errors(SEGMENTER_GROUP, config.name):
            return _segmenter_class(config.name)(config)

    segmenter: AddedSegmenter = frozen_model(
        "perceiver.segmenter",
        _weights_choice(config, build),
        device,
        build=build,
        load=lambda segmenter: segmenter.load(config.weights, device),
    )
    return _whole(segmenter, device, part_name(SEGMENTER_GROUP, config.name))


def check_added_encoder(config: VideoEncoderConfig) -> None:
    """Make sure that the configured encoder gives tokens of its sizes; reads no weights.

    Raises:
        ValueError: It cannot be built, or a call gives something else.
    """
    sizes = added_encoder_sizes(config)
    encoder = build_added_encoder(config, torch.device("meta"), torch.float32)
    with part_errors(ENCODER_GROUP, config.name), torch.no_grad():
        side, grid = sizes.image_size, sizes.image_size // sizes.patch_size
        tubes = sizes.num_frames // sizes.tubelet_size
        square = encoder.transform.size
        # Two videos of two clips, without values: (B, N, F, 3, S, S).
        frames = torch.empty(2, 2, sizes.num_frames, 3, side, side, device="meta")
        encoded = EncodedClips(*encoder(frames))
        shapes = (tuple(encoded.clip_tokens.shape), tuple(encoded.patch_tokens.shape))
    expected = ((2, 2, sizes.width), (2, 2, tubes, grid, grid, sizes.width))
    if shapes != expected:
        raise ValueError(
            f"{part_name(ENCODER_GROUP, config.name)} gives clip tokens of shape {shapes[0]} and "
            f"patch tokens of shape {shapes[1]} for frames {tuple(frames.shape)}; by its sizes they"
            f" have to be {expected[0]} = (B, N, D) and {expected[1]} = (B, N, F / tubelet_size, "
            "h, w, D)"
        )
    if square != side or side % sizes.patch_size:
        raise ValueError(
            f"{part_name(ENCODER_GROUP, config.name)}: its transform gives squares of {square} "
            f"pixels, its image_size is {side} and its patch_size {sizes.patch_size}; give the "
            "first two one value, which the third divides"
        )


def segmented(segmenter: Segmenter, frames: Tensor) -> list[list[ObjectMask]]:
    """Segment frames, and make sure of what a segmenter from outside gives.

    Raises:
        ValueError: It fails, or gives something else than a list of masks for each frame; the
            message names it.
    """
    if not isinstance(segmenter, AddedSegmenter):
        return segmenter.segment(frames)
    name = segmenter.config.name
    with part_errors(SEGMENTER_GROUP, name):
        objects = segmenter.segment(frames)
        wrong = _unlike_masks(objects, frames)
    if wrong:
        raise ValueError(
            f"{part_name(SEGMENTER_GROUP, name)} gives {wrong} for frames {tuple(frames.shape)}; "
            "it has to give a list for each frame, of vidreason.perception.segmenter.ObjectMask, "
            "whose masks are bool, (h, w), of one size, and lie within their boxes"
        )
    return objects


def _unlike_masks(objects: Any, frames: Tensor) -> str:  # noqa: ANN401 - what a part gives
    """Say what is not as a segmenter's result; nothing if all is."""
    if not isinstance(objects, list) or len(objects) != len(frames):
        size = f" of {len(objects)}" if isinstance(objects, Sized) else ""
        return f"a {type(objects).__name__}{size}"
    sizes = set()
    for each in (each for of_frame in objects for each in of_frame):
        if not isinstance(each, ObjectMask):
            return f"a {type(each).__name__}"
        if each.mask.dtype != torch.bool or each.mask.dim() != 2:
            return f"a mask {tuple(each.mask.shape)} of {each.mask.dtype}"
        x0, y0, x1, y1 = each.box
        if not 0 <= x0 < x1 <= each.mask.shape[1] or not 0 <= y0 < y1 <= each.mask.shape[0]:
            return f"the box {each.box} of a mask {tuple(each.mask.shape)}"
        if int(each.mask.sum()) != int(each.mask[y0:y1, x0:x1].sum()):
            return f"a mask that is larger than its box {each.box}"
        sizes.add(tuple(each.mask.shape))
    return f"masks of sizes {sorted(sizes)}" if len(sizes) > 1 else ""


def added_identity(model: str, name: str) -> dict[str, Any]:
    """Return what a fingerprint says of a part besides its configuration and weights.

    Args:
        model: ``video_encoder`` or ``segmenter``.
        name: Of the part; nothing is said of those of this project.

    Raises:
        ValueError: It cannot be imported, or has no version.
    """
    if model == "video_encoder" and name not in VIDEO_ENCODERS:
        return {"version": _encoder_class(name).version}
    if model == "segmenter" and name not in SEGMENTERS:
        return {"version": _segmenter_class(name).version}
    return {}


def _encoder_class(name: str) -> type[AddedVideoEncoder]:
    kind = f"{__name__}.{AddedVideoEncoder.__name__}"
    part = load_class(ENCODER_GROUP, name, AddedVideoEncoder, kind)
    check_methods(ENCODER_GROUP, name, part, AddedVideoEncoder, ("load",), ("sizes_of", "forward"))
    return _versioned(ENCODER_GROUP, name, part)


def _segmenter_class(name: str) -> type[AddedSegmenter]:
    kind = f"{__name__}.{AddedSegmenter.__name__}"
    part = load_class(SEGMENTER_GROUP, name, AddedSegmenter, kind)
    check_methods(SEGMENTER_GROUP, name, part, AddedSegmenter, ("load",), ("segment",))
    return _versioned(SEGMENTER_GROUP, name, part)


def _versioned(group: str, name: str, part: type[M]) -> type[M]:
    version = getattr(part, "version", None)
    if not isinstance(version, int) or version < 1:
        raise ValueError(
            f"{part_name(group, name)}: the version of {part.__name__} is {version!r}; give the "
            "class `version = 1`, and raise it whenever the same configuration and weights give "
            "other numbers: stores tell old tokens from new ones by it"
        )
    return part


def _weights_choice(config: C, build: Callable[[], nn.Module]) -> C:
    """Let a part that has nothing to load be built without a file of weights."""
    if config.weights:
        return config
    with torch.device("meta"):
        has_weights = bool(build().state_dict())
    return config if has_weights else replace(config, allow_random_weights=True)


def _whole(model: M, device: torch.device, where: str) -> M:
    """Make sure that everything in a model has values."""
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    empty = [name for name, tensor in tensors.items() if tensor.device.type == "meta"]
    if empty and device.type != "meta":
        raise ValueError(
            f"{where}: {empty[0]} has no values after its weights were loaded; make it a parameter "
            "or a persistent buffer of the weights file, or give it values in load"
        )
    return model
