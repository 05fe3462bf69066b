"""What trains: sets of parameter names, from here only (section 3.4).

Read by the optimizer, the freeze schedule and the checkpoints. Names are those of
``reasoner.named_parameters()``.
"""

from collections.abc import Collection
from typing import Literal

from vidreason.model import VideoReasoner

Stage = Literal["alignment", "instruction"]
Part = Literal["fusion", "lora", "language_model"]
PARTS: tuple[Part, ...] = ("fusion", "lora", "language_model")

STAGE_PARTS: dict[Stage, tuple[Part, ...]] = {
    "alignment": ("fusion",),
    "instruction": ("fusion", "lora"),
}


def part_of(name: str) -> Part:
    """The part that a parameter of a reasoner belongs to."""
    if name.startswith("fusion."):
        return "fusion"
    assert name.startswith("language_model."), name
    return "lora" if ".lora_" in name else "language_model"


def part_names(reasoner: VideoReasoner, part: Part) -> frozenset[str]:
    """The parameters of a part: the fusion core, the LoRA adapters, or the model's own weights.

    Raises:
        ValueError: The part is ``lora`` and the reasoner has no adapters.
    """
    found = frozenset(n for n, _ in reasoner.named_parameters() if part_of(n) == part)
    if part == "lora" and not found:
        raise ValueError(
            "the reasoner has no LoRA adapters to train: set reasoner.lora (rank and alpha), as "
            "experiments/configs/stage2_instruction.yaml does"
        )
    return found


def trainable_names(reasoner: VideoReasoner, stage: Stage) -> frozenset[str]:
    """The parameters that a stage trains: the fusion core, and in stage 2 the LoRA adapters.

    Raises:
        ValueError: Stage 2 and the reasoner has no adapters.
    """
    return frozenset[str]().union(*(part_names(reasoner, part) for part in STAGE_PARTS[stage]))


def set_trainable(reasoner: VideoReasoner, names: Collection[str]) -> None:
    """Let exactly ``names`` require gradients; what no longer trains goes into eval mode."""
    for name, parameter in reasoner.named_parameters():
        parameter.requires_grad_(name in names)
    reasoner.train(reasoner.training)
