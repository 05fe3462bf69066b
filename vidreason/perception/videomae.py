"""VideoMAE through transformers' class, with the official files re-keyed for it (3.1.1).

The official model is InternVideo:InternVideo1/Pretrain/VideoMAE (commit 3965eef16e2d): a ViT with
joint space-time attention over tubes of two frames, a fixed table of positions and no [CLS], so the
clip token is the mean of all tokens. Its files come in two forms: of pre-training (``encoder.*``,
tokens are normalised, then averaged) and fine-tuned (``fc_norm``: averaged, then normalised).

Shapes: B batch, N clips, F frames, h x w the patch grid, D width, S image side in pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import VideoMAEConfig, VideoMAEModel

from vidreason.perception.config import VideoEncoderSizes
from vidreason.perception.position_embeddings import sine_cosine_embeddings
from vidreason.perception.video_encoder import (
    EncodedClips,
    VideoEncoder,
    arrange_clips,
    check_clips,
)
from vidreason.perception.weights import Shape, local_folder, open_weights, read_weights
from vidreason.video.transforms import FrameTransform

_DROPPED_PREFIXES = ("decoder.", "encoder_to_decoder.", "mask_token", "head.", "classifier.")
"""The decoder of pre-training and the classifiers of fine-tuned models."""

_OFFICIAL_NAMES = {
    "attention.output.dense": "attn.proj",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
"""Official names of transformers' layers of a block, but for the packed attention."""


class VideoMAEEncoder(VideoEncoder):
    """The model as a video encoder.

    ``model`` gives the tokens without a norm. Patch tokens are normalised with ``norm`` in either
    form of the weights: the norm of pre-training is made for them, and the fine-tuned one for their
    mean, which is of the same scale as the clip token then.
    """

    def __init__(self, sizes: VideoEncoderSizes) -> None:
        transform = FrameTransform(size=sizes.image_size, short_side=sizes.image_size)
        super().__init__(sizes, transform)
        self.averages_first = False
        """True if the clip token is the norm of the mean (fine-tuned), not the mean of norms."""
        self.model = VideoMAEModel(
            VideoMAEConfig(
                image_size=sizes.image_size,
                patch_size=sizes.patch_size,
                num_frames=sizes.tubelet_size,  # or it computes its own table, for a second
                tubelet_size=sizes.tubelet_size,
                hidden_size=sizes.width,
                num_hidden_layers=sizes.num_layers,
                num_attention_heads=sizes.num_heads,
                intermediate_size=4 * sizes.width,
                layer_norm_eps=1e-6,
                use_mean_pooling=True,  # builds no norm: it is applied here
            )
        )
        with torch.device("cpu"):
            table = sine_cosine_embeddings(
                sizes.num_frames // sizes.tubelet_size,
                sizes.image_size // sizes.patch_size,
                sizes.width,
                released_slots=sizes.trained_frames // sizes.tubelet_size,
                released_side=sizes.trained_image_size // sizes.patch_size,
            )
        self.model.embeddings.position_embeddings = table[None]  # (1, slots * side * side, D)
        self.norm = nn.LayerNorm(sizes.width, eps=1e-6)

    def load(self, path: str, device: torch.device, ignored_keys: Sequence[str]) -> None:
        """Take the weights of an official file of either form, or of a folder of transformers.

        Raises:
            ValueError: As :func:`~vidreason.perception.weights.load_weights`.
        """
        if not Path(path).is_file():
            path = str(local_folder(path))
        with open_weights(path) as file:
            keys = list(file.shapes)
        dtype = self.norm.weight.dtype
        shapes = {key: tuple(tensor.shape) for key, tensor in self.model.state_dict().items()}
        key_biases = [key for key in shapes if key.endswith(".key.bias")]
        layout = _layout(keys, {key: shapes[key] for key in shapes if key not in key_biases})
        tensors = read_weights(
            path,
            layout.expected | dict.fromkeys(layout.norm_keys, (self.width,)),
            model=type(self).__name__,
            dropped_prefixes=(*_DROPPED_PREFIXES, *ignored_keys, *layout.unseen_keys),
            move=lambda _key, tensor: tensor.to(device, dtype),
        )
        # The official attention has queries, keys and values in one tensor, (3 D, D).
        state_dict = {
            f"model.{key}": tensors[name] if third is None else tensors[name].chunk(3)[third]
            for key, (name, third) in layout.sources.items()
        }
        # Transformers' classes before 5.2x have a bias of keys, which the official model has not.
        state_dict |= {
            f"model.{key}": torch.zeros(shapes[key], device=device, dtype=dtype)
            for key in key_biases
        }
        for key, parameter in zip(layout.norm_keys, ("norm.weight", "norm.bias"), strict=True):
            state_dict[parameter] = tensors[key]
        self.load_state_dict(state_dict, assign=True)
        self.averages_first = layout.norm_keys[0] == "fc_norm.weight"

    def raw_tokens(self, frames: Tensor) -> Tensor:
        """Tokens of clips ``(B, F, 3, S, S)`` as the last block leaves them, without a norm.

        Returns:
            ``(B, F / 2 * h * w, D)``, tube by tube and row by row.

        Raises:
            ValueError: The frames have another number or size than the model was built for.
        """
        check_clips(frames, self.num_frames, self.image_size)
        tokens: Tensor = self.model(frames.to(self.norm.weight.dtype)).last_hidden_state
        return tokens

    def forward(self, frames: Tensor) -> EncodedClips:
        """Encode ``(B, N, F, 3, S, S)`` normalised frames; every clip is encoded by itself."""
        raw = self.raw_tokens(frames.flatten(0, 1))  # (B * N, F / 2 * h * w, D)
        tokens = self.norm(raw)
        clip_tokens = self.norm(raw.mean(dim=1)) if self.averages_first else tokens.mean(dim=1)
        side = self.image_size // self.patch_size
        # (B * N, F' * h * w, D) -> (B * N, F', h, w, D)
        return arrange_clips(
            frames, clip_tokens, tokens.view(len(tokens), -1, side, side, self.width)
        )


@dataclass(frozen=True)
class _Layout:
    """A file's names of the model's tensors."""

    sources: dict[str, tuple[str, int | None]]
    """For each key of transformers' model the file's key, and which third of that tensor it is."""
    expected: dict[str, Shape]
    """Shapes of the file's tensors, but for the norm."""
    norm_keys: tuple[str, str]
    """Weight and bias of the norm after the last block."""
    unseen_keys: tuple[str, ...]
    """Keys of the file without any effect on what is computed."""


def _layout(keys: Sequence[str], shapes: Mapping[str, Shape]) -> _Layout:
    """The layout of a file with ``keys``, for a model with parameters of ``shapes``."""
    sources: dict[str, tuple[str, int | None]] = {}
    unseen_keys = []
    if any(".attention.attention." in key for key in keys):
        # A folder of transformers: as it was pre-trained, or below a head.
        prefix = "videomae." if any(key.startswith("videomae.") for key in keys) else ""
        norm = f"{prefix}layernorm"
        # Before version 5 of transformers, biases were parameters of the attention itself.
        old = any(key.endswith(".attention.attention.q_bias") for key in keys)
        for key in shapes:
            name = key
            if old:
                name = name.replace("attention.query.bias", "attention.q_bias")
                name = name.replace("attention.value.bias", "attention.v_bias")
            sources[key] = (prefix + name, None)
        # A bias of keys shifts all scores of a query alike, so the softmax does not see it.
        unseen_keys = [key for key in keys if key.endswith(".attention.attention.key.bias")]
    else:
        # An official file: of pre-training, which has a decoder beside the encoder, or fine-tuned.
        prefix = "encoder." if any(key.startswith("encoder.") for key in keys) else ""
        norm = f"{prefix}norm"
        for key in shapes:
            name, third = _official_key(key)
            sources[key] = (prefix + name, third)
    # Fine-tuned models have their norm behind the mean over the patches, under this name.
    if "fc_norm.weight" in keys and f"{norm}.weight" not in keys:
        norm = "fc_norm"
    # Official files have queries, keys and values in one tensor, three times as long.
    expected = {
        name: shapes[key] if third is None else (3 * shapes[key][0], *shapes[key][1:])
        for key, (name, third) in sources.items()
    }
    return _Layout(sources, expected, (f"{norm}.weight", f"{norm}.bias"), tuple(unseen_keys))


def _official_key(key: str) -> tuple[str, int | None]:
    """The official name of one of transformers' keys, and which third of that tensor it is."""
    if key.startswith("embeddings.patch_embeddings.projection."):
        return key.replace("embeddings.patch_embeddings.projection", "patch_embed.proj"), None
    _, _, number, layer = key.split(".", 3)
    block = f"blocks.{number}."
    thirds = [f"attention.attention.{name}.weight" for name in ("query", "key", "value")]
    if layer in thirds:
        return f"{block}attn.qkv.weight", thirds.index(layer)
    for name in ("query", "value"):
        if layer == f"attention.attention.{name}.bias":
            return f"{block}attn.{name[0]}_bias", None
    layer, kind = layer.rsplit(".", 1)
    return f"{block}{_OFFICIAL_NAMES[layer]}.{kind}", None
