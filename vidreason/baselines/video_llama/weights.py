"""Video-LLaMA's released files.

A checkpoint such as ``VL_LLaMA_2_7B_Finetuned.pth`` (DAMO-NLP-SG/Video-LLaMA-2-7B-Finetuned) holds
the video Q-Former, the frames' positions and the projection; the vision tower and the image
Q-Former are those of ``Salesforce/blip2-flan-t5-xxl``. The runner that wrote it keeps parameters
that were trained, and all buffers (DAMO-NLP-SG/Video-LLaMA@64888c0, runners/runner_base.py).
"""

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import torch

from vidreason.baselines.blip2_files import Blip2Folder
from vidreason.baselines.blip2_parts import (
    Names,
    below,
    folder_query_names,
    folder_vision_names,
    plain_names,
)
from vidreason.baselines.part_files import (
    Source,
    check_layers,
    check_stored_layers,
    convert,
    load_sources,
    module_dtype,
    stored_size,
    without_buffers,
    without_memory,
)
from vidreason.baselines.video_llama.model import (
    FRAME_PARTS,
    NUM_VIDEO_LAYERS,
    VideoLlamaVision,
    official_names,
)
from vidreason.perception.weights import Shape, open_weights

logger = logging.getLogger(__name__)

SOURCE = "DAMO-NLP-SG/Video-LLaMA@64888c0"
BLIP2_PREFIXES = ("vision_model.", "qformer.", "query_tokens")
"""Keys of a BLIP-2 folder that are needed."""

_AUDIO = "audio_"
_VIDEO = ("video_Qformer.bert.", "video_query_tokens", "video_frame_position_embedding.")
_PREFIXES = (
    *(*_VIDEO, "llama_proj."),
    *("visual_encoder.", "ln_vision.", "Qformer.bert.", "query_tokens"),
)


def load_vision(
    checkpoint: str, blip2: Blip2Folder, device: torch.device, dtype: torch.dtype
) -> VideoLlamaVision:
    """Load the vision-language branch.

    Args:
        checkpoint: An official file, or what :func:`convert_official` wrote.
        blip2: Where the parts are that it does not hold, and all sizes of these.
        device: Where the weights go.
        dtype: Of the vision tower; all else is float32.

    Raises:
        ValueError: Weights are missing, damaged or of another layout.
    """
    with ExitStack() as stack:
        trained = stack.enter_context(open_weights(checkpoint))
        rest = stack.enter_context(open_weights(str(blip2.path), BLIP2_PREFIXES))
        shapes = _vision_language_shapes(checkpoint, trained.shapes)
        where = f"{blip2.path}: config.json:"
        check_layers(blip2.vision.num_hidden_layers, rest, f"{where} vision_config layers")
        check_layers(blip2.queries.num_hidden_layers, rest, f"{where} qformer_config layers")
        sizes = _stored_sizes(checkpoint, shapes)
        with without_memory(blip2.path):
            model = VideoLlamaVision(
                blip2.vision, blip2.queries, num_frame_queries=blip2.num_queries, **sizes
            )
        official, others = _divided(model, shapes)
        sources = [
            Source(checkpoint, trained, official, shapes),
            Source(str(blip2.path), rest, others, _needed(rest.shapes, others)),
        ]

        # A checkpoint that holds everything leaves no names for the folder.
        used = [source for source in sources if source.names]
        load_sources(model, used, device, lambda key: module_dtype(key, ("vision.",), dtype))
    return model.requires_grad_(False).eval()


def convert_official(checkpoint: str, target: Path) -> None:
    """Write an official checkpoint as one safetensors file, which :func:`load_vision` takes too.

    Keys stay the official ones; those of the audio branch and buffers are left out.

    Raises:
        ValueError: The checkpoint is damaged, or not one of Video-LLaMA's vision-language branch.
    """
    with open_weights(checkpoint) as file:
        # An error where it is another model, before anything is written.
        _stored_sizes(checkpoint, _vision_language_shapes(checkpoint, file.shapes))
    metadata = {"source": SOURCE, "content": "Video-LLaMA, vision-language branch, official keys"}
    convert(checkpoint, target, _PREFIXES, [_AUDIO], metadata)


def _vision_language_shapes(path: str, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Leave buffers and the audio branch out, and say how much of that there is."""
    kept = without_buffers(shapes)
    video = {key: shape for key, shape in kept.items() if not key.startswith(_AUDIO)}
    if len(video) < len(kept):
        logger.info("%s: %d tensors of the audio branch are not used", path, len(kept) - len(video))
        if not any(key.startswith(_VIDEO) for key in video):
            raise ValueError(
                f"weights {path!r} hold the audio branch alone; take the file of the "
                "vision-language branch, which is named VL_... or finetune-..."
            )
    return video


def _stored_sizes(path: str, shapes: Mapping[str, Shape]) -> dict[str, int]:
    """Sizes of :class:`VideoLlamaVision` that no config.json says, from the stored tensors."""
    positions = "video_frame_position_embedding.weight"
    sizes = {
        "num_video_queries": stored_size(path, shapes, "video_query_tokens", 1),
        "max_frames": stored_size(path, shapes, positions, 0),
        "token_width": stored_size(path, shapes, "llama_proj.weight", 0),
    }
    # Were they counted, a file without the last would load as a smaller model.
    layers = "video_Qformer.bert.encoder.layer."
    check_stored_layers(path, shapes, layers, NUM_VIDEO_LAYERS)
    return sizes


def _divided(model: VideoLlamaVision, shapes: Mapping[str, Shape]) -> tuple[Names, Names]:
    """Names of what the checkpoint holds, and of what is in the BLIP-2 folder."""
    folder: dict[str, Names] = {
        "vision": folder_vision_names(model.vision),
        "vision_norm": plain_names(model.vision_norm, "vision_model.post_layernorm."),
        "frame_queries": folder_query_names(model.frame_queries),
    }
    trained: dict[str, tuple[str, ...]] = {}
    others: dict[str, tuple[str, ...]] = {}
    for part, names in official_names(model).items():
        held = any(key in shapes for keys in names.values() for key in keys)
        # A part of which a key is there must be there as a whole.
        if held or part not in FRAME_PARTS:
            trained |= names
        else:
            others |= below(part, folder[part])
    return trained, others


def _needed(shapes: Mapping[str, Shape], names: Names) -> dict[str, Shape]:
    """Keys of a BLIP-2 folder, less parts that the checkpoint holds."""
    wanted = {key for keys in names.values() for key in keys}
    parts = {key.split(".")[0] for key in wanted}
    stored = {key: shape for key, shape in shapes.items() if key.split(".")[0] in parts}
    # Keys of the tower and of its norm begin alike, but each may be in the checkpoint alone.
    norm = "vision_model.post_layernorm."
    if any(key.startswith(norm) for key in wanted):
        return stored
    return {key: shape for key, shape in stored.items() if not key.startswith(norm)}
