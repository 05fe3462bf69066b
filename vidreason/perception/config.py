"""Configuration of perception: video encoder, segmenter, tracks. Nothing here imports torch."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Literal

from vidreason.added_parts import check_part
from vidreason.ranges import ABOVE_0, check_ranges
from vidreason.video.config import SamplingConfig

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
VIDEO_ENCODERS = (*_RELEASED_SIZES, *SIZED_BY_FOLDER, *_SIZED_BY_FIELDS)
"""Names of the video encoders of this project."""
ENCODER_GROUP = "vidreason.video_encoders"
"""Group of the entry points by which installed packages add video encoders: subclasses of
:class:`vidreason.perception.added_models.AddedVideoEncoder`."""
_DEFAULT_FRAMES = 8
"""Frames of a clip for encoders that take any number."""
SIZE_FIELDS = tuple(_RELEASED_SIZES["internvideo-mm-b16"])
"""Fields of :class:`VideoEncoderConfig` that are sizes."""
_ENCODER_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("width", "output_dim"), (1, 2**16)),
    **dict.fromkeys(("num_layers", "num_heads", "num_global_layers"), (1, 512)),
    **dict.fromkeys(("image_size", "patch_size", "num_frames"), (1, 2**13)),
}


@dataclass(kw_only=True)
class VideoEncoderConfig:
    """Architecture, sizes and weights of the video encoder. The defaults are ViCLIP-B/16."""

    name: str = "viclip-b16"
    """Which model. ``viclip-b16`` and ``viclip-l14`` have one [CLS] token a clip and attend over
    space and time jointly, as the paper describes; ``internvideo-mm-b16`` attends inside frames and
    gathers the clip in one token; ``videomae-b16`` and ``vjepa2`` have no [CLS]: their clip token
    is the mean. ``image`` is any image encoder of transformers (CLIP, SigLIP, DINOv2), frame by
    frame. ``viclip``, ``internvideo-mm`` and ``videomae`` have the sizes of the fields below.
    Further ones are entry points of the group ``vidreason.video_encoders`` that an installed
    package declares, or ``package.module:object``."""
    weights: str = ""
    """File or folder of the weights. ``viclip-*``: ``model.safetensors`` of
    OpenGVLab/ViCLIP-B-16-hf or the official ``.pth``; ``internvideo-mm-b16``: the official
    ``.ckpt``; ``videomae-b16``: the official ``.pth``, of pre-training or fine-tuned, or a folder
    of transformers; ``vjepa2`` and ``image``: a folder of transformers, or a repository on the
    Hugging Face Hub."""
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
    """Frames F in a clip. None takes the named model's, and 8 for all that is not one of
    ``viclip-*``, ``internvideo-mm-b16`` and ``videomae-b16``; another value resizes the position
    embeddings of the weights."""
    output_dim: int | None = None
    """Width of the contrastive projection. Perception does not use it; checkpoints contain it."""
    num_global_layers: int | None = None
    """Number of last blocks of ``internvideo-mm`` after which the clip's token is updated."""

    def __post_init__(self) -> None:
        check_part("perceiver.video_encoder.name", self.name, ENCODER_GROUP, VIDEO_ENCODERS)
        given = [name for name in SIZE_FIELDS if getattr(self, name) is not None]
        check_ranges("perceiver.video_encoder", self, **_ENCODER_RANGES)
        if self.name in _SIZED_BY_FIELDS:
            takes: Sequence[str] = _SIZED_BY_FIELDS[self.name]
            missing = [name for name in takes if name not in given]
            if missing:
                raise ValueError(
                    f"perceiver.video_encoder.{missing[0]}: empty, but {self.name!r} takes its "
                    "sizes from the fields; give it, or name a released model"
                )
        elif self.name not in VIDEO_ENCODERS:
            takes = SIZE_FIELDS  # it says itself which, when it is imported
        else:
            takes = (
                ("num_frames",) if self.name in SIZED_BY_FOLDER else ("num_frames", "image_size")
            )
        surplus = [name for name in given if name not in takes]
        if surplus:
            raise ValueError(
                f"perceiver.video_encoder.{surplus[0]}: {getattr(self, surplus[0])}, but it is no "
                f"choice of {self.name!r}, which takes {', '.join(takes)}; leave it out, or name "
                "'viclip', 'internvideo-mm' or 'videomae' for sizes of your own"
            )
        if self.name in (*_RELEASED_SIZES, *_SIZED_BY_FIELDS):
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
    num_layers: int = 0
    """Transformer blocks; 0 without any."""
    num_heads: int = 0
    """Attention heads; 0 without any."""
    output_dim: int = 0
    """Width of the contrastive projection; 0 without one."""
    num_global_layers: int = 0
    """Blocks of InternVideo-MM after which the clip's token is updated."""
    trained_image_size: int = 0
    """``image_size`` of the weights, which their position embeddings belong to; 0 without any."""
    trained_frames: int = 0
    """``num_frames`` of the weights; 0 where it does not matter."""


def named_sizes(config: VideoEncoderConfig) -> VideoEncoderSizes:
    """Sizes of an encoder that is configured by its name and fields; reads no file.

    Those of ``vjepa2`` and ``image`` lie in their folder:
    :func:`vidreason.perception.models.video_encoder_sizes` knows all.
    """
    released = _RELEASED_SIZES.get(config.name, {})
    given = {name: getattr(config, name) for name in SIZE_FIELDS}
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
                f"perceiver.video_encoder.{whole}: {getattr(sizes, whole)} is not a multiple of "
                f"{part} {getattr(sizes, part)}; choose sizes of which one divides the other"
            )
    if sizes.num_global_layers > sizes.num_layers:
        raise ValueError(
            f"perceiver.video_encoder.num_global_layers: {sizes.num_global_layers} is more than "
            f"num_layers {sizes.num_layers}; choose at most as many"
        )


SAM_SIZES = ("sam-vit-b", "sam-vit-l", "sam-vit-h", "custom")
SEGMENTERS = (*SAM_SIZES, "sam", "sam-hq", "sam2", "sam3-tracker", "patches")
"""Names of the segmenters of this project."""
SEGMENTER_GROUP = "vidreason.segmenters"
"""Group of the entry points by which installed packages add segmenters: subclasses of
:class:`vidreason.perception.added_models.AddedSegmenter`."""
_SEGMENTER_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("encoder_layers", "decoder_layers"), (1, 512)),
    **dict.fromkeys(("encoder_width", "prompt_dim", "decoder_mlp_dim"), (1, 2**16)),
    **dict.fromkeys(("image_size", "max_frame_side"), (1, 2**14)),
    **dict.fromkeys(("patch_size", "encoder_heads", "decoder_heads"), (1, 2**10)),
    **dict.fromkeys(("points_per_side", "frames_per_batch"), (1, 2**10)),
    **dict.fromkeys(("points_per_batch",), (1, 2**20)),
    **dict.fromkeys(("window_size",), (0, 2**10)),
}


@dataclass(kw_only=True)
class SegmenterConfig:
    """Model, weights and mask filters of the segmenter.

    The filters' defaults are segment_anything's, which it set for ViT-H.
    """

    name: str = "sam-vit-h"
    """``sam-vit-b``, ``sam-vit-l`` or ``sam-vit-h``, the sizes of SAM that Meta released;
    ``custom``, SAM with the sizes of the fields from ``image_size`` to ``decoder_mlp_dim``, which
    the others do not read; or a class of transformers: ``sam`` (SamModel), ``sam-hq``, ``sam2`` or
    ``sam3-tracker``. ``patches`` is no model: each cell of a grid of ``points_per_side`` cells a
    side is an object, for rivals that see patches. Further ones are entry points of the group
    ``vidreason.segmenters`` that an installed package declares, or ``package.module:object``."""
    weights: str = ""
    """Path of the official ``sam_vit_*.pth`` (only its tensors are unpickled) or of a safetensors
    file of those keys; for a class of transformers, a folder in the Hugging Face layout or a
    repository of the Hub."""
    allow_random_weights: bool = False
    """Build with weights drawn from ``seed`` when ``weights`` is empty: for tests and for
    pre-training. Classes of transformers need ``weights``, which also say their sizes."""
    seed: int = 0
    """Seed of the random weights."""
    points_per_side: int = 32
    """The prompts are a grid of ``points_per_side`` x ``points_per_side`` points over the frame."""
    frames_per_batch: int = 1
    """Key frames that the image encoder sees at once. A large ViT is busy with one, for which ViT-H
    takes 1 GB of attention bias; small models gain from more."""
    points_per_batch: int = 64
    """Points decoded at once, over all key frames of a batch. Each has image tokens of its own: in
    the released SAMs 4 MB, several times over."""
    pred_iou_threshold: float = 0.88
    """Masks whose quality the model itself predicts at or below this are dropped."""
    stability_threshold: float = 0.95
    """Masks whose stability (IoU of the mask at a higher and a lower cut-off) is below this are
    dropped."""
    stability_offset: float = 1.0
    """How far those two cut-offs lie from the mask threshold, in logits."""
    box_nms_threshold: float = 0.7
    """Overlap (IoU) of the boxes of two masks above which only the better one is kept."""
    max_frame_side: int = 1024
    """Frames whose longer side has more pixels than this are segmented, and their masks kept, at
    this size. The network sees ``image_size`` pixels in any case; this bounds memory and time."""
    image_size: int = 1024
    """Side in pixels of the square network input; the frame's longer side is resized to it."""
    patch_size: int = 16
    """Side of a patch in pixels; divides ``image_size``."""
    encoder_width: int = 768
    """Width of the image encoder."""
    encoder_layers: int = 12
    """Blocks of the image encoder."""
    encoder_heads: int = 12
    """Attention heads of the image encoder; divides ``encoder_width``."""
    window_size: int = 14
    """Side in patches of the windows that most blocks attend in; 0 makes every block global."""
    global_attention_layers: list[int] = field(default_factory=lambda: [2, 5, 8, 11])
    """Blocks that attend over the whole image."""
    prompt_dim: int = 256
    """Width of prompts, mask tokens and image embedding; a multiple of 8."""
    decoder_layers: int = 2
    """Two-way blocks of the mask decoder."""
    decoder_heads: int = 8
    """Attention heads of the mask decoder; divides half of ``prompt_dim``."""
    decoder_mlp_dim: int = 2048
    """Hidden width of the mask decoder's MLPs."""

    def __post_init__(self) -> None:
        check_part("perceiver.segmenter.name", self.name, SEGMENTER_GROUP, SEGMENTERS)
        check_ranges("perceiver.segmenter", self, **_SEGMENTER_RANGES)
        if self.name == "patches" and self.weights:
            raise ValueError(
                f"perceiver.segmenter.weights is {self.weights!r}, but 'patches' has none; leave "
                "it empty"
            )
        multiples = (
            ("image_size", self.image_size, "patch_size", self.patch_size),
            ("encoder_width", self.encoder_width, "encoder_heads", self.encoder_heads),
            ("prompt_dim", self.prompt_dim, "8", 8),
            ("prompt_dim", self.prompt_dim, "twice decoder_heads", 2 * self.decoder_heads),
        )
        for name, value, divisor_name, divisor in multiples:
            if value % divisor:
                raise ValueError(
                    f"perceiver.segmenter.{name}: {value} is not a multiple of {divisor_name} "
                    f"({divisor}); change one of them"
                )


@dataclass(kw_only=True)
class TrackConfig:
    """Thresholds for two masks to be of one object.

    The defaults were set on 60 videos of the microworld, whose objects move by up to half a frame
    between key frames; no real encoder has been measured.
    """

    overlap_weight: float = 0.2
    """The likeness of two objects is the cosine of their tokens plus this much of their masks'
    IoU. With more weight, an object that takes the place of another one gets its id."""
    min_likeness: float = 0.35
    """Less alike objects are two. Encoders whose tokens are all alike need more."""
    same_object_overlap: float = 0.8
    """Masks of one key frame with at least this IoU are one object. Parts of a thing have less."""

    def __post_init__(self) -> None:
        names = ("overlap_weight", "min_likeness", "same_object_overlap")
        check_ranges("perceiver.tracks", self, **dict.fromkeys(names, (ABOVE_0, 1)))


@dataclass(kw_only=True)
class PerceiverConfig:
    """Everything that decides which visual tokens a video has."""

    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """Which frames are looked at."""
    video_encoder: VideoEncoderConfig = field(default_factory=VideoEncoderConfig)
    """The backbone that clip tokens and patch tokens come from."""
    use_objects: bool = True
    """True to segment key frames. Without it there are clip tokens only, and no segmenter is built.
    To leave out objects that a store holds, set ``kept_objects`` to 0 instead."""
    segmenter: SegmenterConfig = field(default_factory=SegmenterConfig)
    """The model that finds objects on key frames."""
    objects_per_key_frame: int = 16
    """At most this many objects of a key frame become tokens, the largest and most stable first.
    Set ``use_objects=false`` for clip tokens only."""
    kept_objects: int | None = None
    """At most this many of those are shown to the reasoner; 0 for clip tokens only, None for all.
    Applied after the store, so another number needs no perceiving."""
    min_object_share: float = 0.0
    """Masks that cover a smaller share of the frame are left out as specks."""
    max_object_share: float = 0.9
    """Masks that cover a larger share of the frame are left out as background."""
    tracks: TrackConfig = field(default_factory=TrackConfig)
    """Which objects of different key frames are one."""

    def __post_init__(self) -> None:
        if self.sampling.frames_per_clip != self.video_encoder.frames_per_clip:
            raise ValueError(
                f"perceiver.sampling.frames_per_clip: {self.sampling.frames_per_clip} is not the "
                f"encoder's video_encoder.num_frames {self.video_encoder.frames_per_clip}; give "
                "both the same value"
            )
        check_ranges("perceiver", self, objects_per_key_frame=(1, inf), kept_objects=(0, inf))
        if not 0 <= self.min_object_share < self.max_object_share <= 1:
            raise ValueError(
                "perceiver.min_object_share and max_object_share: expected 0 <= min < max <= 1, "
                f"found {self.min_object_share} and {self.max_object_share}"
            )
        if self.use_objects and self.segmenter.name == "patches":
            self._check_patches()

    def _check_patches(self) -> None:
        """Make sure that every cell of the grid becomes a token."""
        cells = self.segmenter.points_per_side**2
        if self.objects_per_key_frame < cells:
            raise ValueError(
                f"perceiver.objects_per_key_frame is {self.objects_per_key_frame}, but "
                f"segmenter.points_per_side {self.segmenter.points_per_side} makes {cells} patches "
                "of a key frame; raise it, or lower points_per_side"
            )
        if not self.min_object_share <= 1 / cells <= self.max_object_share:
            raise ValueError(
                f"perceiver.min_object_share and max_object_share leave out patches, which are "
                f"{1 / cells:.3f} of the frame; widen them"
            )
