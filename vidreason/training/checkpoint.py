"""Checkpoints that hold what trains and nothing else: the frozen 8B are not written 100 times.

What the frozen language model was, a checkpoint does not say: continue with the same
``language_model.name_or_path``, as the run's recorded configuration has it.
"""

import re
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor

from vidreason.model import VideoReasoner

PREFIX = "reasoner."
"""Of a reasoner's names in a LightningModule's state."""
CHECKPOINT_FOLDER = "checkpoints"
"""In a run folder."""
LAST_CHECKPOINT = "last.ckpt"
_STEP_NAME = re.compile(r"step-(\d+)\.ckpt")


def only_trainable(state: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
    """The entries of a module's ``state`` that belong to the trainable parameters ``names``."""
    wanted = {PREFIX + name for name in names}
    kept = {name: value for name, value in state.items() if name in wanted}
    # A strategy that renames or flattens parameters would lose them here without a word.
    assert kept.keys() == wanted, f"not in the state to save: {sorted(wanted - kept.keys())}"
    return kept


def check_trainable(state: Mapping[str, Tensor], names: Collection[str], source: str) -> None:
    """Make sure that a checkpoint's ``state`` holds exactly the trainable parameters ``names``.

    Raises:
        ValueError: It does not; the message names the difference and ``source``.
    """
    wanted = {PREFIX + name for name in names}
    missing, unexpected = sorted(wanted - state.keys()), sorted(state.keys() - wanted)
    if missing or unexpected:
        raise ValueError(
            f"{source} does not hold what this run trains: missing {_some(missing)}, unexpected "
            f"{_some(unexpected)}; use the stage, fusion and lora settings that it was made with"
        )


def load_trainable(reasoner: VideoReasoner, path: str | Path, names: Collection[str]) -> None:
    """Give the parameters ``names`` of ``reasoner`` the values in a Lightning checkpoint.

    Raises:
        ValueError: There is no such file, or it does not hold exactly these parameters, or they
            have other shapes there.
    """
    if not Path(path).is_file():
        raise ValueError(
            f"there is no checkpoint {str(path)!r}; give the path of one that stage 1 has written"
        )
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    check_trainable(state, names, str(path))
    parameters = dict(reasoner.named_parameters())
    with torch.no_grad():
        for name in names:
            value = state[PREFIX + name]
            if value.shape != parameters[name].shape:
                raise ValueError(
                    f"{path}: {name} has shape {tuple(value.shape)}, the configuration makes it "
                    f"{tuple(parameters[name].shape)}"
                )
            parameters[name].copy_(value)


def newest_checkpoint(folder: str | Path) -> Path | None:
    """The checkpoint written last in ``folder``, or None where there is no complete one.

    It is what ``last.ckpt`` links to. Should that be missing or damaged, it is the complete one of
    the highest step.
    """
    folder = Path(folder)
    candidates = [folder / LAST_CHECKPOINT, *reversed(step_checkpoints(folder))]
    for candidate in candidates:
        if candidate.is_file() and zipfile.is_zipfile(candidate):
            return candidate.resolve()
    return None


def step_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints named by step, lowest step first."""
    return sorted(path for path in folder.glob("step-*.ckpt") if _STEP_NAME.fullmatch(path.name))


def _some(names: list[str]) -> str:
    return f"{len(names)} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
