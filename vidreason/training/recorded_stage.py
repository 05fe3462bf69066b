"""A checkpoint of ``fit`` by its record alone: what was trained, on which reasoner, and how."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from vidreason.config import config_from_values
from vidreason.model import ReasonerConfig, VideoReasoner, build_reasoner
from vidreason.perception.config import PerceiverConfig
from vidreason.perception.models import video_encoder_sizes
from vidreason.pretrained.frozen_parts import frozen_hashes
from vidreason.training.checkpoint import read_record_alone
from vidreason.training.checkpoint_format import RunIdentity, check_frozen
from vidreason.training.config import OptimizerConfig, Stage


class RecordedStage(NamedTuple):
    """The parts of a module that goes on from a checkpoint."""

    reasoner: VideoReasoner
    """Without the checkpoint's weights."""
    optimizer: OptimizerConfig
    total_steps: int
    """Steps that the checkpoint has behind it."""
    stage: Stage
    trainable: frozenset[str]
    """Names of what was trained; a freeze schedule may have added to what the stage trains."""
    identity: RunIdentity


def recorded_stage(
    path: Path, reasoner: VideoReasoner | None, optimizer: OptimizerConfig | None
) -> RecordedStage:
    """Build what the record of a checkpoint describes.

    Args:
        path: A checkpoint of any form.
        reasoner: To be used instead of building one; None to build it.
        optimizer: In place of the recorded one; None for that.

    Raises:
        ValueError: There is no such checkpoint, it is damaged, it does not say how to build what
            is not given, or frozen parts are not those that it was trained with.
    """
    record = read_record_alone(path)
    recorded = record["config"]
    given = {"reasoner": reasoner, "optimizer": optimizer}
    if any(part is None and name not in recorded for name, part in given.items()):
        raise ValueError(
            f"{path} was not written by experiments.fit and does not say how its reasoner was "
            "built: pass reasoner= and optimizer="
        )
    frozen: Callable[[], Mapping[str, str]] = dict
    if reasoner is None:
        config = config_from_values(ReasonerConfig, recorded["reasoner"], str(path))
        perceiver = config_from_values(PerceiverConfig, recorded["perceiver"], str(path))
        # Compared before the language model is loaded, which takes longer.
        frozen = partial(frozen_hashes, config.language_model, perceiver)
        check_frozen(record["frozen"], frozen(), str(path))
        visual_dim = video_encoder_sizes(perceiver.video_encoder).width
        reasoner = build_reasoner(config, visual_dim, perceiver=perceiver)
    if optimizer is None:
        optimizer = config_from_values(OptimizerConfig, recorded["optimizer"], str(path))
    return RecordedStage(
        reasoner,
        optimizer,
        int(record["global_step"]),
        record["stage"],
        frozenset(record["trainable"]),
        RunIdentity(recorded, frozen),
    )
