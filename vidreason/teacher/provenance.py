"""Provenance of the rows of an instruction set."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class TeacherProvenance:
    """All that one run's answers have in common."""

    teacher: str
    """Id of the model and where it answered, or ``templates`` or ``continuation``."""
    prompt: str = ""
    """The task as it was given; empty without a model."""
    prompt_sha: str = ""
    """:func:`vidreason.teacher.prompt.prompt_hash` of all that it was told."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Sampling parameters, frames and their sizes; JSON values."""
