"""Prompts that leave no room for a response, found before training starts.

In a conversation the prompt of a later turn holds the turns before it, so that a few rows of a data
set may be many times as long as the others. ``data check`` and ``fit`` find them by this code.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from data_modules.corpora import LongPrompts
from data_modules.skipped_rows import SkippedRows
from vidreason.example import Example
from vidreason.reasoning.tokenization import encode_prompt

TOO_LONG = "its prompt leaves no room for a response within data.max_text_tokens"
CUT = "earlier turns are cut from its prompt, which is too long for data.max_text_tokens"

NUM_SHOWN = 3
_SLACK_TOKENS = 8
"""Tokens that a template or tokenizer may write more for one prompt than for another."""


class FittedPrompt(NamedTuple):
    """What becomes of one example's prompt."""

    prompt: str
    """As it is shown to the model."""
    num_cut: int
    """Earlier turns that were cut from it."""
    fits: bool
    """Whether there is room for a response; if not, the example is left out."""


class PromptLimit:
    """Decides which prompts are too long, counting tokens only where it has to.

    Args:
        tokenizer: The language model's.
        max_text_tokens: Longest prompt and response together; of the response at least one token
            has to fit.
        policy: What becomes of longer ones.
        system_prompt: The reasoner's.

    Attributes:
        max_prompt_bytes: A prompt of at most this size fits, without a look at its tokens: each is
            at least a byte of it, or of the template.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        max_text_tokens: int,
        policy: LongPrompts,
        system_prompt: str | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.system_prompt = system_prompt
        self.max_text_tokens = max_text_tokens
        self.policy = policy
        around = len(encode_prompt(tokenizer, "a", system_prompt)) + _SLACK_TOKENS
        self.max_prompt_bytes = max(max_text_tokens - 1 - around, 0)

    def fitted(self, example: Example) -> FittedPrompt:
        """The prompt of ``example``, cut if the policy says so and it has to be."""
        candidates = [example.prompt]
        if self.policy == "cut_earlier_turns":
            candidates += shortened_prompts(example)
        for num_cut, prompt in enumerate(candidates):
            if self._fits(prompt):
                return FittedPrompt(prompt, num_cut, fits=True)
        return FittedPrompt(example.prompt, 0, fits=False)

    def admits(self, example: Example, skipped: SkippedRows) -> bool:
        """Whether there is room for a response to ``example``; counts it where there is not."""
        fitted = self.fitted(example)
        if not fitted.fits:
            skipped.record_refused(example.id, TOO_LONG)
        elif fitted.num_cut:
            skipped.remark(example.id, CUT)
        return fitted.fits

    def _fits(self, prompt: str) -> bool:
        if len(prompt.encode()) <= self.max_prompt_bytes:
            return True
        tokens = encode_prompt(self.tokenizer, prompt, self.system_prompt)
        return len(tokens) < self.max_text_tokens


def shortened_prompts(example: Example) -> Sequence[str]:
    """The prompt without the earliest turn before it, without the two earliest, and so on."""
    if not example.earlier_turns:
        return ()
    heading, *turns, question = example.earlier_turns
    prompt = example.prompt
    kept = [prompt[: turns[0]] + prompt[start:] for start in turns[1:]]
    return [*kept, prompt[:heading] + prompt[question:]]


def with_fitted_prompt(example: Example, limit: PromptLimit) -> Example:
    """``example`` with the prompt that fits."""
    prompt = limit.fitted(example).prompt
    return (
        example if prompt == example.prompt else replace(example, prompt=prompt, earlier_turns=())
    )


@dataclass(kw_only=True)
class LongPromptCounts:
    """Examples of one corpus whose prompts are too long."""

    num_left_out: int = 0
    num_cut: int = 0
    """Examples of which earlier turns were cut."""
    first_ids: list[str] = field(default_factory=list)

    def count(self, example: Example, fitted: FittedPrompt) -> None:
        """Take notice of one example."""
        if fitted.fits and not fitted.num_cut:
            return
        self.num_cut += fitted.fits
        self.num_left_out += not fitted.fits
        if len(self.first_ids) < NUM_SHOWN:
            self.first_ids.append(example.id)

    def summary(self, max_text_tokens: int) -> str:
        """One line; empty if all prompts fit."""
        if not self.first_ids:
            return ""
        return (
            f"{self.num_left_out + self.num_cut} prompts leave no room for a response within "
            f"data.max_text_tokens={max_text_tokens}: of {self.num_cut} earlier turns are cut, "
            f"{self.num_left_out} examples are left out (data.long_prompts), such as "
            f"{', '.join(self.first_ids)}"
        )
