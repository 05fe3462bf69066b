"""Configuration of the quality gate."""

from dataclasses import dataclass
from math import inf
from typing import Literal

from vidreason.ranges import ABOVE_0, check_ranges


@dataclass(kw_only=True)
class GateConfig:
    """Bounds that an answer has to keep to; one that does not is rejected."""

    min_steps: int = 1
    """Fewest steps of an explanation, also after unsupported ones were dropped."""
    max_steps: int = 12
    """Most steps of an explanation."""
    min_words: int = 2
    """Fewest words of a step and of a predicted event."""
    max_words: int = 80
    """Most words of a step, of a predicted event and of its justification."""
    max_repeats: int = 1
    """Times that an earlier step may be said again at other times; without times, never."""
    predictions_may_repeat: bool = False
    """True if a predicted event may be word for word one that the explanation has already told, as
    in worlds where the same happens again and again."""
    partial_times: bool = True
    """True if some steps of an answer may have times where others have none."""
    time_tolerance: float = 0.5
    """Seconds by which a time may lie beyond the clip's end, or before an earlier step's."""
    leakage_similarity: float = 0.7
    """Least similarity to a text of an evaluation set, of which an answer then says the same:
    the share of three-word sequences that are in both. 1 takes equal texts alone."""
    near_duplicate_similarity: float | None = 0.8
    """Least similarity of an answer's whole text to that of an earlier accepted one, of which it is
    then a near-duplicate; null for no such check. In 60 words, 0.8 is about two changed ones. What
    is made from templates says the same of many clips: raise it there, or compare nothing."""
    near_duplicate_text: Literal["answer", "explanation"] = "answer"
    """Text that is compared: steps and predicted events, or steps alone."""
    unsupported: Literal["drop", "flag", "reject"] = "drop"
    """Fate of a step that the verifier does not see: it is left out; it stays, and the answer is
    flagged for a reviewer; or the answer is rejected."""
    min_supported: float = 0.5
    """Least share of the steps that must be seen for an answer from which others are dropped."""

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ValueError: A value is out of its range.
        """
        check_ranges(
            "gate",
            self,
            min_steps=(0, inf),
            max_steps=(max(self.min_steps, 1), inf),
            min_words=(1, inf),
            max_words=(self.min_words, inf),
            max_repeats=(0, inf),
            time_tolerance=(0, inf),
            leakage_similarity=(ABOVE_0, 1),
            near_duplicate_similarity=(ABOVE_0, 1),
            min_supported=(0, 1),
        )
