"""SeViLA's released files.

``sevila_pretrained.pth`` (Shoubin/SeViLA) holds the norms, Q-Formers and projections of localizer
and answerer; vision tower and T5 are those of ``Salesforce/blip2-flan-t5-xl``. The fine-tuned
checkpoints were never released.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import torch
from transformers import T5Config

from vidreason.baselines.blip2_files import Blip2Folder
from vidreason.baselines.blip2_parts import Names, below, folder_vision_names
from vidreason.baselines.part_files import (
    Source,
    check_layers,
    convert,
    load_sources,
    module_dtype,
    stored_size,
    without_buffers,
    without_memory,
)
from vidreason.baselines.sevila.model import SevilaModel, official_names, official_tower_names
from vidreason.perception.weights import Shape, open_weights

SOURCE = "Yui010206/SeViLA@419e728"
BLIP2_PREFIXES = ("vision_model.", "language_model.")
"""Keys of a BLIP-2 folder that are needed."""

_PREFIXES = (
    *("ln_vision.", "ln_vision_loc.", "Qformer.bert.", "Qformer_loc.bert."),
    *("query_tokens", "t5_proj.", "t5_proj_loc.", "visual_encoder."),
)
_LARGE = ("vision.", "t5.")
"""Beginnings of the model's keys that have the configured dtype."""
_UNUSED = "language_model.decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
"""In the first files of T5, and never used; transformers leaves it out as well."""
_COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
"""T5's other names of its one table of word embeddings, ``shared.weight``."""


def load_model(
    checkpoint: str, blip2: Blip2Folder, device: torch.device, dtype: torch.dtype
) -> SevilaModel:
    """Load SeViLA.

    Args:
        checkpoint: The official file, or what :func:`convert_official` wrote.
        blip2: Where vision tower and T5 are, and all sizes.
        device: Where the weights go.
        dtype: Of the vision tower and T5; all else is float32.

    Raises:
        ValueError: Weights are missing, damaged or of another layout.
    """
    if not isinstance(blip2.text, T5Config):
        raise ValueError(
            f"weights.blip2 {str(blip2.path)!r}: its language model is a "
            f"{blip2.text.model_type!r}; SeViLA needs one with a T5, such as "
            "Salesforce/blip2-flan-t5-xl"
        )
    # T5 1.0 scales what it decodes, and has plain layers; Flan-T5 is of the form 1.1.
    scaled = getattr(blip2.text, "scale_decoder_outputs", blip2.text.tie_word_embeddings)
    if scaled or not blip2.text.is_gated_act:
        raise ValueError(
            f"weights.blip2 {str(blip2.path)!r}: config.json describes a T5 1.0; SeViLA needs a "
            "Flan-T5, whose text_config has tie_word_embeddings false and a gated feed_forward_proj"
        )
    # Sizes come from the folder's configuration: they are compared with the files' tensors first.
    with ExitStack() as stack:
        trained = stack.enter_context(open_weights(checkpoint))
        rest = stack.enter_context(open_weights(str(blip2.path), BLIP2_PREFIXES))
        shapes = without_buffers(trained.shapes)
        # An error where the checkpoint has no localizer, before anything is built.
        stored_size(checkpoint, shapes, "query_tokens_loc", 1)
        where = f"{blip2.path}: config.json:"
        check_layers(blip2.vision.num_hidden_layers, rest, f"{where} vision_config layers")
        check_layers(blip2.text.num_layers, rest, f"{where} text_config.num_layers")
        check_layers(blip2.text.num_decoder_layers, rest, f"{where} text_config decoder layers")
        check_layers(blip2.queries.num_hidden_layers, trained, f"{where} qformer_config layers")
        with without_memory(blip2.path):
            model = SevilaModel(blip2.vision, blip2.queries, blip2.num_queries, blip2.text)
        # The trained file may hold the tower, too; then its tower is taken.
        names, tower = official_names(model), official_tower_names(model)
        others: Names = _text_names(model, rest.shapes)
        if any(key in shapes for keys in tower.values() for key in keys):
            names |= tower
        else:
            others = {**others, **below("vision", folder_vision_names(model.vision))}
        sources = [
            Source(checkpoint, trained, names, shapes),
            Source(str(blip2.path), rest, others, _needed(rest.shapes, others)),
        ]

        load_sources(model, sources, device, lambda key: module_dtype(key, _LARGE, dtype))
    return model.requires_grad_(False).eval()


def convert_official(checkpoint: str, target: Path) -> None:
    """Write the official checkpoint as one safetensors file, which :func:`load_model` takes too.

    Keys stay the official ones; buffers are left out.

    Raises:
        ValueError: The checkpoint is damaged, or not one of SeViLA.
    """
    with open_weights(checkpoint) as file:
        # An error where it is no SeViLA, before anything is written.
        stored_size(checkpoint, file.shapes, "query_tokens_loc", 1)
    metadata = {"source": SOURCE, "content": "SeViLA, localizer and answerer, official keys"}
    convert(checkpoint, target, _PREFIXES, (), metadata)


def _text_names(model: SevilaModel, shapes: Mapping[str, Shape]) -> Names:
    """Keys of T5. Its word embeddings have three names, of which a file may leave two out."""
    names = {}
    for key in model.t5.state_dict():
        stored = f"language_model.{key}"
        if key in _COPIES and stored not in shapes:
            stored = "language_model.shared.weight"
        names[f"t5.{key}"] = (stored,)
    return names


def _needed(shapes: Mapping[str, Shape], names: Names) -> dict[str, Shape]:
    """Keys of a BLIP-2 folder, less the tower's norm and what the checkpoint holds itself."""
    parts = {keys[0].split(".")[0] for keys in names.values()}
    return {
        key: shape
        for key, shape in shapes.items()
        if key.split(".")[0] in parts
        and not key.startswith("vision_model.post_layernorm.")
        and key != _UNUSED
    }
