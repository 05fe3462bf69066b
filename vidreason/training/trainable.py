"""Sets of names of the parameters that train (section 3.4).

The optimizer, the freeze schedule and the checkpoints read them. Names are those of
``reasoner.named_parameters()``.
"""

from collections.abc import Collection

from vidreason.model import VideoReasoner
from vidreason.training.config import PARTS, Part, Stage

_NO_ADAPTERS = (
    "the reasoner has no LoRA adapters to train: set reasoner.lora (rank and alpha), as "
    "experiments/configs/stage2_instruction.yaml does, or train the language model's own weights "
    "by freeze_schedule=[{part: language_model}]"
)

STAGE_PARTS: dict[Stage, tuple[Part, ...]] = {
    "alignment": ("fusion",),
    "instruction": ("fusion", "lora"),
}
"""Parts that a stage trains: stage 1 the fusion core, on captions, before the frozen language model
(section 3.4.1); stage 2 the fusion core and the adapters, on instructions (section 3.4.2), or the
whole language model in the adapters' stead: :func:`trained_parts`."""


def trained_parts(
    stage: Stage, thawed: Collection[Part], *, has_adapters: bool
) -> tuple[Part, ...]:
    """Return the parts that train at some time of a run, in the order of :data:`PARTS`.

    Args:
        stage: What it trains is in :data:`STAGE_PARTS`.
        thawed: Parts of the freeze schedule, which train as well. Where the language model's own
            weights are among them, stage 2 needs no adapters: that is full fine-tuning.
        has_adapters: If the reasoner has LoRA adapters.

    Raises:
        ValueError: Adapters are to be trained, and there are none.
    """
    parts = {*STAGE_PARTS[stage], *thawed}
    if not has_adapters and "language_model" in parts and "lora" not in thawed:
        parts.discard("lora")
    if "lora" in parts and not has_adapters:
        raise ValueError(_NO_ADAPTERS)
    return tuple(part for part in PARTS if part in parts)


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
        raise ValueError(_NO_ADAPTERS)
    return names


def trainable_names(
    reasoner: VideoReasoner, stage: Stage, thawed: Collection[Part] = ()
) -> frozenset[str]:
    """Return the parameters of the :func:`trained_parts`.

    Raises:
        ValueError: Adapters are to be trained, and the reasoner has none.
    """
    has_adapters = any(part_of(name) == "lora" for name, _ in reasoner.named_parameters())
    parts = trained_parts(stage, thawed, has_adapters=has_adapters)
    return frozenset[str]().union(*(part_names(reasoner, part) for part in parts))


def set_trainable(reasoner: VideoReasoner, names: Collection[str]) -> None:
    """Let exactly ``names`` require gradients; modules that no longer train go into eval mode."""
    for name, parameter in reasoner.named_parameters():
        parameter.requires_grad_(name in names)
    reasoner.train(reasoner.training)
