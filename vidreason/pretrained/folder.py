"""The folder of a reasoner: what is in it, and how it is written and read.

::

    config.json                 form, configurations, references to the frozen parts
    fusion.safetensors          the fusion core
    generation_config.json      how it answers if nothing else is said
    README.md                   the model card
    language_model/             tokenizer, and
      adapter_config.json, adapter_model.safetensors      form "trained", with LoRA: as peft has it
      config.json, model*.safetensors, ...                form "merged": as transformers has it

The form ``trained`` holds what was trained and refers to everything else. The form ``merged`` has
the language model in it, with the adapters added to its weights.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedTokenizerBase

from vidreason.finite_values import describe_nonfinite, nonfinite_names
from vidreason.fusion.config import FUSION_FILE
from vidreason.fusion.fusion_core import Fusion, build_fusion
from vidreason.json_object import read_json_object
from vidreason.perception.added_origins import added_origins
from vidreason.perception.config import PerceiverConfig
from vidreason.perception.weights import hash_file, load_weights
from vidreason.pretrained import adapters
from vidreason.pretrained.folder_config import (
    CARD_FILE,
    CONFIG_FILE,
    FORMAT_VERSION,
    GENERATION_FILE,
    LANGUAGE_MODEL_FOLDER,
    FolderConfig,
    Form,
    read_config,
    write_config,
)
from vidreason.pretrained.frozen_parts import (
    content_hash_of_file,
    is_in_package,
    locate,
    locate_parts,
    perceiver_parts,
    portable,
    reference,
)
from vidreason.pretrained.model_card import Provenance, model_card
from vidreason.reasoning.decoding import decoding_config, generation_config
from vidreason.reasoning.language_model import (
    load_language_model,
    load_tokenizer,
    merge_lora,
    trained_names,
    word_embedding_size,
)
from vidreason.reasoning.reasoner_config import DecodingConfig, LanguageModelConfig, ReasonerConfig
from vidreason.reasoning.tokenization import stop_ids

PREVIOUS = ".previous"
"""Behind the name of a folder that is being replaced."""
_PARTIAL = ".partial"


@dataclass(kw_only=True)
class ReasonerParts:
    """The parts of a reasoner."""

    config: ReasonerConfig
    visual_dim: int
    """Width of the visual tokens."""
    fusion: Fusion
    language_model: nn.Module
    """A model of transformers, or one with peft's adapters around it."""
    tokenizer: PreTrainedTokenizerBase
    perceiver: PerceiverConfig
    """Configuration that the visual tokens are made with: the reasoner is of no use with another
    perceiver."""
    decoding: DecodingConfig


def write_folder(
    parts: ReasonerParts,
    folder: Path,
    form: Form,
    provenance: Provenance | None = None,
    known_hashes: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a folder that :func:`read_folder` reads, replacing one that is there.

    A process killed in here leaves no half-written folder of this name, and never fewer than one
    good one where one was: what is replaced is kept as ``<name>.previous`` until the new one is in
    its place, and :func:`read_folder` finds it there.

    Args:
        parts: What to write.
        folder: Where to.
        form: See :class:`vidreason.model.VideoReasoner`.
        provenance: For the model card.
        known_hashes: Content hashes of the perceiver's weights by location; these need not be
            there.
        dtype: Of the trained weights in the files, for the form ``trained``; they load as float32.
            None for the dtype that they have.

    Raises:
        ValueError: ``folder`` is there and no reasoner folder; the form ``trained`` cannot hold
            what was trained; ``dtype`` is given for the form ``merged``; or a frozen part is not
            where its configuration says.
    """
    _check_target(parts, folder, form)
    if dtype is not None and form == "merged":
        raise ValueError(
            f"dtype is {dtype}, and the form is 'merged', whose language model has its own dtype "
            "(reasoner.language_model.dtype): leave dtype out, or use form='trained'"
        )
    partial = folder.with_name(folder.name + _PARTIAL)
    previous = folder.with_name(folder.name + PREVIOUS)
    shutil.rmtree(partial, ignore_errors=True)  # what a killed process has left
    (partial / LANGUAGE_MODEL_FOLDER).mkdir(parents=True)
    provenance = provenance or Provenance()
    config = _folder_config(parts, form, known_hashes or {})
    config.step = provenance.step
    _write_language_model(parts, partial / LANGUAGE_MODEL_FOLDER, config, dtype)
    state = parts.fusion.state_dict()
    fusion = {name: value.to(dtype).contiguous() for name, value in state.items()}
    _check_finite({f"fusion.{name}": value for name, value in fusion.items()}, folder)
    save_file(fusion, partial / FUSION_FILE, metadata={"format": "pt"})
    generation_config(parts.decoding, stop_ids(parts.tokenizer)).save_pretrained(partial)
    card = model_card(
        parts.config,
        parts.perceiver,
        config.frozen_parts,
        provenance,
        base_model=portable(parts.config.language_model.name_or_path),
        added_parts=config.added_parts,
    )
    (partial / CARD_FILE).write_text(card)
    # The configuration has the hashes of all weights, so they are there before it.
    config.weights = {
        file.relative_to(partial).as_posix(): hash_file(str(file))
        for file in sorted(partial.rglob("*.safetensors"))
    }
    write_config(config, partial / CONFIG_FILE)
    mode = (partial / CONFIG_FILE).stat().st_mode
    for file in partial.rglob("*"):
        if file.is_file():
            file.chmod(mode)  # safetensors lets nobody but the owner read what it writes
            # On the disk before the folder gets its name.
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
    # Two renames: between them, existing_folder finds the former one under its other name.
    if folder.exists():
        shutil.rmtree(previous, ignore_errors=True)
        os.replace(folder, previous)
    os.replace(partial, folder)
    shutil.rmtree(previous, ignore_errors=True)


def read_folder(
    folder: Path, device: str | torch.device = "cpu", frozen_parts: Mapping[str, str] | None = None
) -> ReasonerParts:
    """Read a folder written by :func:`write_folder`.

    Args:
        folder: The folder.
        device: Where the weights go.
        frozen_parts: Where parts lie that are not where the folder says: paths, or repositories of
            the Hub, by ``language_model``, ``video_encoder`` or ``segmenter``.

    Raises:
        ValueError: Something in the folder is missing, damaged, unexpected or of another version of
            the format, or a frozen part is missing or has another content.
    """
    folder = existing_folder(folder)
    config = _located_config(folder, frozen_parts or {})
    language_model = _read_language_model(folder, config, device)
    output_dim, output_scale = word_embedding_size(language_model)
    # Shapes alone: the tensors of the file take the places of the parameters.
    with torch.device("meta"):
        fusion = build_fusion(config.reasoner.fusion, config.visual_dim, output_dim, output_scale)
    load_weights(fusion, str(folder / FUSION_FILE), device=device)
    _check_weights(folder, config)  # last: missing files, keys and shapes have better messages
    return ReasonerParts(
        config=config.reasoner,
        visual_dim=config.visual_dim,
        fusion=fusion,
        language_model=language_model,
        tokenizer=load_tokenizer(
            LanguageModelConfig(name_or_path=str(folder / LANGUAGE_MODEL_FOLDER))
        ),
        perceiver=config.perceiver,
        decoding=replace(
            decoding_config(
                read_json_object(folder / GENERATION_FILE), str(folder / GENERATION_FILE)
            ),
            futures=config.futures,
        ),
    )


def _check_weights(folder: Path, config: FolderConfig) -> None:
    """Make sure that the folder's own weights are those that were written."""
    for name, expected in config.weights.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{str(folder)!r} is incomplete: it has no {name}; copy it again")
        actual = content_hash_of_file(path)
        if actual != expected:
            raise ValueError(
                f"{str(path)!r} is damaged, or was exchanged: its sha256 is {actual[:12]}..., and "
                f"it was written with {expected[:12]}...; copy the folder again; or, "
                f"if that was on purpose, take its line out of 'weights' in {CONFIG_FILE}"
            )


def _check_finite(values: Mapping[str, torch.Tensor], folder: Path) -> None:
    if names := nonfinite_names(values):
        raise ValueError(
            f"{str(folder)!r} is not written: {describe_nonfinite(names)}; take a checkpoint from "
            "before the training went wrong"
        )


def read_perceiver(folder: Path, frozen_parts: Mapping[str, str] | None = None) -> PerceiverConfig:
    """The configuration of the perceiver that a folder's reasoner was trained with.

    Nothing is loaded, but the frozen parts must be there.

    Args:
        folder: The folder.
        frozen_parts: As for :func:`read_folder`.

    Raises:
        ValueError: As :func:`read_folder`.
    """
    return _located_config(existing_folder(folder), frozen_parts or {}).perceiver


def _located_config(folder: Path, frozen_parts: Mapping[str, str]) -> FolderConfig:
    """The folder's configuration, with the locations of its parts on this machine."""
    config = read_config(folder)
    locations = locate_parts(
        config.frozen_parts,
        frozen_parts,
        config.reasoner.language_model.revision,
        str(folder),
    )
    if config.form == "merged":
        locations["language_model"] = str(folder / LANGUAGE_MODEL_FOLDER)
    _set_locations(config, locations)
    return config


def _read_language_model(
    folder: Path, config: FolderConfig, device: str | torch.device
) -> nn.Module:
    wanted = config.reasoner.language_model
    try:
        model = load_language_model(wanted, device, strict=config.form == "merged")
    except SafetensorError as error:
        raise ValueError(
            f"the weights of the language model {wanted.name_or_path!r} are truncated or damaged "
            f"({error}); copy or write them again"
        ) from error
    if config.reasoner.lora is None:
        return model
    return adapters.load_adapters(model, folder / LANGUAGE_MODEL_FOLDER, config.reasoner.lora)


def check_replaceable(folder: Path) -> None:
    """Make sure that :func:`write_folder` may write ``folder``.

    Raises:
        ValueError: Something else than a reasoner is there, which would be lost.
    """
    # Nothing is lost with an empty folder.
    empty = folder.is_dir() and not any(folder.iterdir())
    if folder.exists() and not empty and not (folder / CONFIG_FILE).is_file():
        raise ValueError(
            f"{str(folder)!r} is there and is no reasoner folder; it would be replaced: choose "
            "another folder, or remove it"
        )


def _check_target(parts: ReasonerParts, folder: Path, form: Form) -> None:
    check_replaceable(folder)
    if form == "merged":
        return
    trained = trained_names(parts.language_model)
    if trained:
        raise ValueError(
            f"{len(trained)} of the language model's own weights were trained "
            f"({min(trained)}, ...), which the form 'trained' cannot hold: use form='merged'"
        )
    source = Path(parts.config.language_model.name_or_path)
    if source.exists() and source.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"{str(folder)!r} holds the language model itself, which would be replaced by a "
            "reference to it: choose another folder, or form='merged'"
        )


def _folder_config(
    parts: ReasonerParts, form: Form, known_hashes: Mapping[str, str]
) -> FolderConfig:
    references = {
        name: reference(location, sha256=known_hashes.get(location))
        for name, location in perceiver_parts(parts.perceiver).items()
    }
    config = parts.config
    if form == "merged":
        # What is merged is the unquantised model, and it is the folder's own.
        unquantised = replace(config.language_model, revision=None, quantization="none")
        config = replace(config, lora=None, language_model=unquantised)
    else:
        references["language_model"] = reference(
            config.language_model.name_or_path, config.language_model.revision
        )
    return FolderConfig(
        format_version=FORMAT_VERSION,
        form=form,
        visual_dim=parts.visual_dim,
        reasoner=config,
        perceiver=parts.perceiver,
        futures=parts.decoding.futures,
        frozen_parts={str(name): part for name, part in references.items()},
        added_parts=added_origins(parts.perceiver),
    )


def _write_language_model(
    parts: ReasonerParts, folder: Path, config: FolderConfig, dtype: torch.dtype | None
) -> None:
    parts.tokenizer.save_pretrained(str(folder))
    if config.form == "merged":
        _check_finite(_adapter_values(parts.language_model), folder)  # peft has no such message
        merged = merge_lora(parts.language_model, parts.config.language_model)
        _check_finite(dict(merged.named_parameters()), folder)
        merged.generation_config = generation_config(parts.decoding, stop_ids(parts.tokenizer))
        merged.save_pretrained(str(folder))
    elif isinstance(parts.language_model, PeftModel):
        _check_finite(_adapter_values(parts.language_model), folder)
        base = config.frozen_parts["language_model"]
        # Plain peft finds a base by its path alone. One in the package has another on each machine,
        # so what ships in it, and what is published, does not name that.
        path = base.source if is_in_package(folder) else locate(base)
        revision = parts.config.language_model.revision
        adapters.save_adapters(parts.language_model, folder, path, revision, dtype)


def _adapter_values(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value for name, value in model.named_parameters() if ".lora_" in name}


def _set_locations(config: FolderConfig, locations: Mapping[str, str]) -> None:
    for name, location in locations.items():
        if name == "language_model":
            config.reasoner.language_model.name_or_path = location
        else:
            getattr(config.perceiver, name).weights = location


def existing_folder(folder: Path) -> Path:
    """``folder``, or what it replaces while a killed process has left it without its name."""
    previous = folder.with_name(folder.name + PREVIOUS)
    if not folder.exists() and previous.is_dir():
        return previous  # the process that was replacing it was killed between two renames
    return folder
