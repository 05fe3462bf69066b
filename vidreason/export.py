"""A reasoner from a training checkpoint, to be saved: the work of ``vidreason export``."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from vidreason.config import config_from_values
from vidreason.model import Provenance, VideoReasoner, build_reasoner
from vidreason.perception.added_origins import check_named_modules
from vidreason.perception.config import PerceiverConfig
from vidreason.perception.models import video_encoder_sizes
from vidreason.perception.weights import check_keys
from vidreason.pretrained.frozen_parts import PARTS, content_hash
from vidreason.reasoning.language_model import load_tokenizer
from vidreason.reasoning.reasoner_config import ReasonerConfig
from vidreason.training.checkpoint import PREFIX, find_checkpoint
from vidreason.training.checkpoint_files import read_weights_and_record
from vidreason.training.checkpoint_format import check_frozen, read_record
from vidreason.training.trainable import part_names, set_trainable


def reasoner_of_checkpoint(
    path: str | Path, frozen_parts: Mapping[str, str] | None = None
) -> tuple[VideoReasoner, Provenance]:
    """Build the reasoner that a checkpoint of ``experiments.fit`` holds, for it to be saved.

    Only what was trained has values; the language model's weights stay on the meta device, since
    neither form of :meth:`VideoReasoner.save_pretrained` needs them.

    Args:
        path: A run folder, of which the newest checkpoint is taken, or a checkpoint in one.
        frozen_parts: Paths of frozen parts that differ from the run's configuration, by
            ``language_model``, ``video_encoder`` and ``segmenter``.

    Returns:
        The reasoner, and the provenance for its model card.

    Raises:
        ValueError: There is no such checkpoint, or it is damaged or not of ``experiments.fit``.
    """
    checkpoint = find_checkpoint(path)
    content = read_weights_and_record(checkpoint)
    record = read_record(content, repr(str(checkpoint)))
    values = _configuration(record, checkpoint)
    config = config_from_values(ReasonerConfig, values["reasoner"], str(checkpoint))
    perceiver = config_from_values(PerceiverConfig, values["perceiver"], str(checkpoint))
    check_named_modules(str(checkpoint), perceiver)
    _set_paths(config, perceiver, frozen_parts or {})
    state = {key.removeprefix(PREFIX): value for key, value in content["state_dict"].items()}
    reasoner = reasoner_of_values(
        state,
        config,
        video_encoder_sizes(perceiver.video_encoder).width,
        perceiver,
        source=str(checkpoint),
        description="the reasoner that its configuration describes",
    )
    # No weights of the language model were read: its hash tells whether it is the same.
    recorded_hash = record["frozen"].get("language_model")
    if recorded_hash is not None:
        model = config.language_model
        present = content_hash(model.name_or_path, model.revision)
        check_frozen(
            {"language_model": recorded_hash}, {"language_model": present}, str(checkpoint)
        )
    return reasoner, _provenance(values, checkpoint, int(content["global_step"]))


def reasoner_of_values(
    values: Mapping[str, Tensor],
    config: ReasonerConfig,
    visual_dim: int,
    perceiver: PerceiverConfig | None,
    *,
    source: str,
    description: str,
) -> VideoReasoner:
    """Build a reasoner in which only trained parameters have values; its folder needs no others.

    Args:
        values: The trained parameters, by the reasoner's names.
        config: Its configuration. Adapters that are not among ``values`` are left out: they add
            nothing.
        visual_dim: Width of the visual tokens.
        perceiver: Configuration of their perceiver.
        source: Origin of the values, for messages.
        description: The reasoner that they should fit, for messages.

    Raises:
        ValueError: ``values`` are not those of such a reasoner.
    """
    if not any(".lora_" in name for name in values):
        config = replace(config, lora=None)
    built = build_reasoner(config, visual_dim, "meta", perceiver)
    # Everything that a stage may have trained has to be there, and nothing else.
    trained = part_names(built, "fusion") | values.keys()
    if config.lora is not None:
        trained |= part_names(built, "lora")
    shapes = {name: tuple(value.shape) for name, value in built.named_parameters()}
    check_keys(
        source,
        description,
        {PREFIX + name: shapes[name] for name in sorted(trained & shapes.keys())},
        {PREFIX + name: tuple(value.shape) for name, value in values.items()},
        {},
    )
    # Values take the places of meta tensors; all that is frozen stays without.
    built.load_state_dict(values, strict=False, assign=True)
    set_trainable(built, trained)
    tokenizer = load_tokenizer(config.language_model)
    return VideoReasoner(
        config, visual_dim, built.fusion, built.language_model, tokenizer, perceiver
    )


def _configuration(record: Mapping[str, Any], checkpoint: Path) -> dict[str, Any]:
    """Return the configuration that the checkpoint was made with."""
    values: dict[str, Any] = record["config"]
    missing = [name for name in ("reasoner", "perceiver", "stage", "data") if name not in values]
    if missing:
        raise ValueError(
            f"{str(checkpoint)!r} says nothing of {', '.join(missing)} in its configuration: "
            "it was not made by experiments.fit"
        )
    return values


def _set_paths(
    config: ReasonerConfig, perceiver: PerceiverConfig, frozen_parts: Mapping[str, str]
) -> None:
    for name, path in frozen_parts.items():
        if name == "language_model":
            config.language_model.name_or_path = path
        elif name == "video_encoder":
            perceiver.video_encoder.weights = path
        elif name == "segmenter":
            perceiver.segmenter.weights = path
        else:
            raise ValueError(f"there is no frozen part {name!r}; the parts are {', '.join(PARTS)}")


def _provenance(values: Mapping[str, Any], checkpoint: Path, step: int) -> Provenance:
    corpora = [f"{corpus['reader']} ({corpus['split']})" for corpus in values["data"]["train"]]
    return Provenance(
        stage=values["stage"], training_data=corpora, checkpoint=checkpoint.name, step=step
    )
