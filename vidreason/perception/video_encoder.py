"""Video encoders (3.1.1): their configuration and sizes, and the protocol that they fulfil.

Shapes: B batch, N clips, F frames, h x w the patch grid, D width, S image side in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from torch import Tensor, nn

from vidreason.ranges import check_ranges
from vidreason.video.transforms import FrameTransform

_VIT_B16 = {"image_size": 224, "patch_size": 16, "width": 768, "num_layers": 12, "num_heads": 12}
_VIT_L14 = {"image_size": 224, "patch_size": 14, "width": 1024, "num_layers": 24, "num_heads": 16}
_RELEASED_SIZES: dict[str, dict[str, int]] = {
    "viclip-b16": _VIT_B16 | {"num_frames": 8, "output_dim": 512},
    "viclip-l14": _VIT_L14 | {"num_frames": 8, "output_dim": 768},
    "internvideo-mm-b16": _VIT_B16 | {"num_frames": 8, "output_dim": 512, "num_global_layers": 4},
    "videomae-b16": _VIT_B16 | {"num_frames": 16},
}
"""Sizes of the released models, from the builders of OpenGVLab/InternVideo at 3965eef16e2d."""
_SIZED_BY_FIELDS = {
    "viclip": tuple(_RELEASED_SIZES["viclip-b16"]),
    "internvideo-mm": tuple(_RELEASED_SIZES["internvideo-mm-b16"]),
    "videomae": tuple(_RELEASED_SIZES["videomae-b16"]),
}
SIZED_BY_FOLDER = ("vjepa2", "image")
_DEFAULT_FRAMES = 8
"""Frames of a clip for encoders that take any number."""
_SIZE_FIELDS = tuple(_RELEASED_SIZES["internvideo-mm-b16"])
_LARGEST_SIZES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("width", "output_dim"), (1, 2**16)),
    **dict.fromkeys(("num_layers", "num_heads", "num_global_layers"), (1, 512)),
    **dict.fromkeys(("image_size", "patch_size", "num_frames"), (1, 2**13)),
}


@dataclass(kw_only=True)
class VideoEncoderConfig:
    """Architecture, sizes and weights of the video encoder. The defaults are ViCLIP-B/16."""

    name: Literal[
        "viclip-b16",
        "viclip-l14",
        "internvideo-mm-b16",
        "videomae-b16",
        "vjepa2",
        "image",
        "viclip",
        "internvideo-mm",
        "videomae",
    ] = "viclip-b16"
    """Which model. ``viclip-b16`` and ``viclip-l14`` have one [CLS] token a clip and attend over
    space and time jointly, as the paper describes; ``internvideo-mm-b16`` attends inside frames and
    gathers the clip in one token; ``videomae-b16`` and ``vjepa2`` have no [CLS]: their clip token
    is the mean. ``image`` is any image encoder of transformers (CLIP, SigLIP, DINOv2), frame by
    frame. ``viclip``, ``internvideo-mm`` and ``videomae`` have the sizes of the fields below."""
    weights: str = ""
    """What holds the weights. ``viclip-*``: ``model.safetensors`` of OpenGVLab/ViCLIP-B-16-hf or
    the official ``.pth``; ``internvideo-mm-b16``: the official ``.ckpt``; ``videomae-b16``: the
    official ``.pth``, of pre-training or fine-tuned, or a folder of transformers; ``vjepa2`` and
    ``image``: a folder of transformers, or a repository on the Hugging Face Hub."""
    ignored_keys: list[str] = field(default_factory=list)
    """Beginnings of further keys in the weights file that are not wanted. Text towers, decoders and
    heads of the released files are left out without it; any other surplus key is an error."""
    allow_random_weights: bool = False
    """Build with weights drawn from ``seed`` when ``weights`` is empty: for tests and for
    pre-training."""
    seed: int = 0
    """Seed of the random weights."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number type of the weights and of the forward pass. Tokens come out as float32 in either
    case."""
    image_size: int | None = None
    """Side S in pixels of the square network input. None takes the named model's; another value
    resizes the position embeddings of the weights."""
    patch_size: int | None = None
    """Side of a patch in pixels; divides ``image_size``."""
    width: int | None = None
    """Width D of the tokens."""
    num_layers: int | None = None
    """Transformer blocks."""
    num_heads: int | None = None
    """Attention heads; divides ``width``."""
    num_frames: int | None = None
    """Frames F in a clip. None takes the named model's, and 8 for ``vjepa2`` and ``image``; another
    value resizes the position embeddings of the weights."""
    output_dim: int | None = None
    """Width of the contrastive projection. Perception does not use it; checkpoints contain it."""
    num_global_layers: int | None = None
    """Of ``internvideo-mm``: after how many of the last blocks the clip's token is updated."""

    def __post_init__(self) -> None:
        given = [name for name in _SIZE_FIELDS if getattr(self, name) is not None]
        for name in given:
            if getattr(self, name) < 1:
                raise ValueError(
                    f"video_encoder.{name}: expected at least 1, found {getattr(self, name)}"
                )
        check_ranges("video_encoder", self, **_LARGEST_SIZES)
        if self.name in _SIZED_BY_FIELDS:
            takes: Sequence[str] = _SIZED_BY_FIELDS[self.name]
            missing = [name for name in takes if name not in given]
            if missing:
                raise ValueError(
                    f"video_encoder.{missing[0]}: empty, but {self.name!r} takes its sizes from "
                    "the fields; give it, or name a released model"
                )
        else:
            takes = (
                ("num_frames",) if self.name in SIZED_BY_FOLDER else ("num_frames", "image_size")
            )
        surplus = [name for name in given if name not in takes]
        if surplus:
            raise ValueError(
                f"video_encoder.{surplus[0]}: {getattr(self, surplus[0])}, but it is no choice of "
                f"{self.name!r}, which takes {', '.join(takes)}; leave it out, or name 'viclip', "
                "'internvideo-mm' or 'videomae' for sizes of your own"
            )
        if self.name not in SIZED_BY_FOLDER:
            _check_sizes(named_sizes(self))

    @property
    def frames_per_clip(self) -> int:
        """Frames F in a clip, configured or the named model's; reads no file."""
        released = _RELEASED_SIZES.get(self.name, {}).get("num_frames", _DEFAULT_FRAMES)
        return self.num_frames or released


@dataclass(frozen=True, kw_only=True)
class VideoEncoderSizes:
    """All sizes of an encoder."""

    width: int
    """Width D of the tokens."""
    image_size: int
    """Side S in pixels of the square network input."""
    patch_size: int
    """Side of a patch in pixels."""
    num_frames: int
    """Frames F in a clip."""
    tubelet_size: int = 1
    """Frames that share one patch token."""
    num_layers: int
    """Transformer blocks."""
    num_heads: int
    """Attention heads."""
    output_dim: int = 0
    """Width of the contrastive projection; 0 without one."""
    num_global_layers: int = 0
    """Blocks of InternVideo-MM after which the clip's token is updated."""
    trained_image_size: int
    """``image_size`` of the weights, which their position embeddings belong to."""
    trained_frames: int
    """``num_frames`` of the weights."""


class EncodedClips(NamedTuple):
    """The last layer's tokens of ``N`` clips of ``B`` videos, after the final layer norm."""

    clip_tokens: Tensor
    """``(B, N, D)``: the token of each clip; its [CLS] where the encoder has one."""
    patch_tokens: Tensor
    """``(B, N, F / tubelet_size, h, w, D)``: the patch tokens of each frame, or of each
    ``tubelet_size`` frames that share theirs, row by row from the top left."""


class VideoEncoder(Protocol):
    """A frozen video backbone. Clips are independent of one another."""

    width: int
    image_size: int
    patch_size: int
    num_frames: int
    tubelet_size: int
    """Frames that share one patch token; the patches of frame f are those of number ``f //
    tubelet_size``."""
    transform: FrameTransform
    """How a decoded frame becomes network input; masks follow it to the patch grid."""

    def __call__(self, frames: Tensor) -> EncodedClips:
        """Encode ``(B, N, F, 3, S, S)`` normalised frames."""
        ...


class SizedEncoder(nn.Module):
    """The attributes of a :class:`VideoEncoder`, from its sizes; what it computes is a subclass's.

    Args:
        sizes: Of the encoder.
        transform: From a decoded frame to network input.
    """

    def __init__(self, sizes: VideoEncoderSizes, transform: FrameTransform) -> None:
        super().__init__()
        self.width = sizes.width
        self.image_size = sizes.image_size
        self.num_frames = sizes.num_frames
        self.patch_size = sizes.patch_size
        self.tubelet_size = sizes.tubelet_size
        self.transform = transform


def arrange_clips(frames: Tensor, clip_tokens: Tensor, patch_tokens: Tensor) -> EncodedClips:
    """Put the tokens of ``B * N`` clips in the order of ``frames``, ``(B, N, ...)``, as float32."""
    return EncodedClips(
        clip_tokens=clip_tokens.float().reshape(*frames.shape[:2], *clip_tokens.shape[1:]),
        patch_tokens=patch_tokens.float().reshape(*frames.shape[:2], *patch_tokens.shape[1:]),
    )


def check_clips(frames: Tensor, num_frames: int, image_size: int) -> None:
    """Make sure that ``frames`` are clips ``(B, F, 3, S, S)`` as an encoder was built for.

    Raises:
        ValueError: They have another number or size.
    """
    expected = (num_frames, 3, image_size, image_size)
    if frames.dim() != 5 or tuple(frames.shape[1:]) != expected:
        raise ValueError(
            f"frames: expected clips of shape (B, {', '.join(map(str, expected))}) = (batch, "
            f"num_frames, 3, image_size, image_size), found {tuple(frames.shape)}; sample "
            "num_frames frames a clip and resize them to image_size"
        )


def named_sizes(config: VideoEncoderConfig) -> VideoEncoderSizes:
    """Sizes of an encoder that is configured by its name and fields; reads no file.

    Those of ``vjepa2`` and ``image`` lie in their folder:
    :func:`vidreason.perception.models.video_encoder_sizes` knows all.
    """
    released = _RELEASED_SIZES.get(config.name, {})
    given = {name: getattr(config, name) for name in _SIZE_FIELDS}
    sizes = {**released, **{name: value for name, value in given.items() if value is not None}}
    return VideoEncoderSizes(
        **sizes,
        tubelet_size=2 if config.name.startswith("videomae") else 1,
        trained_image_size=released.get("image_size", sizes["image_size"]),
        trained_frames=released.get("num_frames", sizes["num_frames"]),
    )


def _check_sizes(sizes: VideoEncoderSizes) -> None:
    for whole, part in (
        ("image_size", "patch_size"),
        ("width", "num_heads"),
        ("num_frames", "tubelet_size"),
    ):
        if getattr(sizes, whole) % getattr(sizes, part):
            raise ValueError(
                f"video_encoder.{whole}: {getattr(sizes, whole)} is not a multiple of {part} "
                f"{getattr(sizes, part)}; choose sizes of which one divides the other"
            )
    if sizes.num_global_layers > sizes.num_layers:
        raise ValueError(
            f"video_encoder.num_global_layers: {sizes.num_global_layers} is more than num_layers "
            f"{sizes.num_layers}; choose at most as many"
        )
