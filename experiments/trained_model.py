"""Load the result of ``fit``: the reasoner, and the perceiver that it was trained with."""

from collections.abc import Sequence
from pathlib import Path

import torch

from experiments.experiment_config import ExperimentConfig
from vidreason.devices import torch_device
from vidreason.model import VideoReasoner
from vidreason.perception.visual_tokens import VisualTokens, collate_visual_tokens
from vidreason.pretrained.folder import existing_folder, read_perceiver
from vidreason.pretrained.folder_config import read_config
from vidreason.pretrained.hub import local_reasoner_folder
from vidreason.pretrained.identity import ReasonerIdentity, reasoner_identity
from vidreason.reasoning.reasoner_config import DecodingConfig
from vidreason.store.visual_token_source import VisualTokenSource
from vidreason.video.reader import VideoReader

REASONER_FOLDER = "reasoner"


def reasoner_folder(config: ExperimentConfig) -> str:
    """The folder or repository that ``config`` names, or else its own run's folder."""
    return config.model or str(Path(config.run_dir) / REASONER_FOLDER)


def trained_steps(config: ExperimentConfig) -> int | None:
    """Return after how many steps of its run the reasoner was written.

    None if that is not known, or if it is the reasoner of another run, whose steps are others.
    """
    folder = Path(reasoner_folder(config))
    # A link, or a relative path, may lead to the run's own folder.
    if folder.resolve() != Path(config.run_dir, REASONER_FOLDER).resolve():
        return None
    return read_config(existing_folder(folder)).step


def trained_model_identity(config: ExperimentConfig) -> ReasonerIdentity:
    """Return the identity of the reasoner, without loading it.

    Raises:
        ValueError: The folder is missing or does not hold a reasoner.
    """
    return reasoner_identity(local_reasoner_folder(_checked_folder(config)))


def load_trained_model(
    config: ExperimentConfig, device: torch.device | None = None
) -> tuple[VideoReasoner, VisualTokenSource]:
    """The reasoner, in evaluation mode, with its source of visual tokens.

    The perceiver's configuration comes with the reasoner; only the store is the experiment's.

    Args:
        config: The experiment's.
        device: Where to; None for the configured one.

    Raises:
        ValueError: The folder is missing or does not hold a reasoner.
    """
    name = _checked_folder(config)
    device = torch_device(config.device) if device is None else device
    reasoner = VideoReasoner.from_pretrained(name, device, frozen_parts=config.frozen_parts)
    # The folder says how its tokens are made; another perceiver would mean nothing to it.
    assert reasoner.perceiver is not None  # it comes with every folder
    reader = VideoReader(config.data.decode_timeout_seconds)
    return reasoner, VisualTokenSource(reasoner.perceiver, config.store, device, reader)


def trained_token_source(config: ExperimentConfig) -> VisualTokenSource:
    """The source of the reasoner's visual tokens, without the reasoner.

    Raises:
        ValueError: The folder is missing or does not hold a reasoner, or its frozen parts are not
            at hand.
    """
    folder = local_reasoner_folder(_checked_folder(config))
    return VisualTokenSource(
        read_perceiver(folder, config.frozen_parts),
        config.store,
        torch_device(config.device),
        VideoReader(config.data.decode_timeout_seconds),
    )


def answer_prompts(
    reasoner: VideoReasoner, tokens: VisualTokens, prompts: Sequence[str], decoding: DecodingConfig
) -> list[str]:
    """Return the answer of ``reasoner`` to each of ``prompts`` about one video."""
    # A row of the batch for each prompt, all of one video.
    return reasoner.generate(collate_visual_tokens([tokens] * len(prompts)), prompts, decoding)


def _checked_folder(config: ExperimentConfig) -> str:
    name = reasoner_folder(config)
    if not config.model and not existing_folder(Path(name)).is_dir():
        raise ValueError(
            f"there is no reasoner folder {name!r}: train one with experiments.fit, or set "
            "model=FOLDER"
        )
    return name
