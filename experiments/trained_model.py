"""Load what ``fit`` has left behind: the reasoner, and the perceiver it was trained behind."""

from pathlib import Path

from experiments.experiment_config import ExperimentConfig
from experiments.program import torch_device
from vidreason.model import VideoReasoner, load_reasoner
from vidreason.store.visual_token_source import VisualTokenSource

REASONER_FOLDER = "reasoner"


def reasoner_folder(config: ExperimentConfig) -> Path:
    """The reasoner folder that ``config`` names, or else its own run's."""
    return Path(config.model) if config.model else Path(config.run_dir) / REASONER_FOLDER


def load_trained_model(config: ExperimentConfig) -> tuple[VideoReasoner, VisualTokenSource]:
    """The reasoner, in evaluation mode, with its source of visual tokens.

    The perceiver's configuration comes with the reasoner; only the store is the experiment's.

    Raises:
        ValueError: The folder is missing or does not hold a reasoner.
    """
    folder = reasoner_folder(config)
    if not folder.is_dir():
        raise ValueError(
            f"there is no reasoner folder {str(folder)!r}: train one with experiments.fit, or set "
            "model=FOLDER"
        )
    device = torch_device(config.device)
    reasoner, perceiver = load_reasoner(folder, device)
    return reasoner, VisualTokenSource(perceiver, config.store, device)
