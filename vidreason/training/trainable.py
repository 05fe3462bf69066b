"""Sets of names of the parameters that train (section 3.4).

The optimizer, the freeze schedule and the checkpoints read them. Names are those of
``reasoner.named_parameters()``.
"""

from collections.abc import Collection

from vidreason.model import VideoReasoner
from vidreason.training.config import Part, Stage

STAGE_PARTS: dict[Stage, tuple[Part, ...]] = {
    "alignment": ("fusion",),
    "instruction": ("fusion", "lora"),
}
"""Parts that a stage trains: stage 1 the fusion core, on captions, before the frozen language model
(section 3.4.1); stage 2 the fusion core and the adapters, on instructions (section 3.4.2)."""


def part_of(name: str) -> Part:
    """Return the part that a parameter of a reasoner belongs to."""
    if name.startswith("fusion."):
        return "fusion"
    assert name.startswith("language_model."), name
    return "lora" if ".lora_" in name else "language_model"


def part_names(reasoner: VideoReasoner, part: Part) -> frozenset[str]:
    """Return the parameters of a part: fusion core, LoRA adapters, or language model.

    Raises:
        ValueError: The part is ``lora`` and the reasoner has no adapters.
    """
    names = frozenset(n for n, _ in reasoner.named_parameters() if part_of(n) == part)
    if part == "lora" and not names:
        raise ValueError(
            "the reasoner has no LoRA adapters to train: set reasoner.lora (rank and alpha), as "
            "experiments/configs/stage2_instruction.yaml does"
        )
    return names


def trainable_names(reasoner: VideoReasoner, stage: Stage) -> frozenset[str]:
    """Return the parameters of the parts in :data:`STAGE_PARTS`.

    Raises:
        ValueError: Stage 2, and the reasoner has no adapters.
    """
    return frozenset[str]().union(*(part_names(reasoner, part) for part in STAGE_PARTS[stage]))


def set_trainable(reasoner: VideoReasoner, names: Collection[str]) -> None:
    """Let exactly ``names`` require gradients; modules that no longer train go into eval mode."""
    for name, parameter in reasoner.named_parameters():
        parameter.requires_grad_(name in names)
    reasoner.train(reasoner.training)
