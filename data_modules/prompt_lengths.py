"""Prompts that leave no room for a response, found before training starts.

Before the prompt of a later question stands the conversation so far, so that a few rows of a data
set may be many times as long as the others. ``data check`` and ``fit`` find them by this code.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

from transformers import PreTrainedTokenizerBase

from data_modules.corpora import LongPrompts
from data_modules.skipped_rows import SkippedRows
from vidreason.example import Example, Turn, split_system
from vidreason.reasoning.tokenization import encode_prompt

TOO_LONG = "its prompt leaves no room for a response within data.max_text_tokens"
CUT = "earlier turns are cut from its prompt, which is too long for data.max_text_tokens"

_SLACK_TOKENS = 8
"""Tokens that a template or tokenizer may write more for one prompt than for another."""


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
        self._around = len(encode_prompt(tokenizer, "a", system_prompt)) + _SLACK_TOKENS
        self.max_prompt_bytes = max(max_text_tokens - 1 - self._around, 0)

    @cached_property
    def turn_bytes(self) -> int:
        """Bytes of a prompt that the template's tokens around one earlier turn stand for, at most.

        Raises:
            ValueError: The chat template cannot be used for several turns.
        """
        pair = (Turn("user", "a"), Turn("assistant", "a"))
        with_turns = encode_prompt(self.tokenizer, "a", self.system_prompt, pair)
        system = encode_prompt(self.tokenizer, "a", self.system_prompt, (Turn("system", "a"),))
        return max(len(with_turns), len(system))

    def fitted(self, example: Example, skipped: SkippedRows | None = None) -> Example | None:
        """Return ``example``, without its earliest turns if the policy says so and it has to be.

        Args:
            example: The example.
            skipped: Counts a conversation that is cut, and an example that is left out.

        Returns:
            None where there is no room for a response.
        """
        candidates = iter([example])
        if self.policy == "cut_earlier_turns":
            candidates = shortened(example)
        fitted = next(filter(self._fits, candidates), None)
        if skipped is not None and fitted is None:
            skipped.record_refused(example.id, TOO_LONG)
        elif skipped is not None and fitted is not example:
            skipped.remark(example.id, CUT)
        return fitted

    def _fits(self, example: Example) -> bool:
        turns = example.earlier_turns
        if len(turns) >= self.max_text_tokens:
            return False  # a token each is too many, and templates are bounded
        texts = (example.prompt, *(turn.text for turn in turns))
        # In bytes first, without the tokenizer: a text has at most one token for each.
        size = sum(len(text.encode()) for text in texts)
        if size + (len(turns) * self.turn_bytes if turns else 0) <= self.max_prompt_bytes:
            return True
        tokens = encode_prompt(self.tokenizer, example.prompt, self.system_prompt, turns)
        return len(tokens) < self.max_text_tokens


def shortened(example: Example) -> Iterator[Example]:
    """Yield an example whole, without its earliest question and answer, without two, and so on.

    What the system says stays.
    """
    yield example
    _, turns = split_system(example.earlier_turns)
    system = example.earlier_turns[: len(example.earlier_turns) - len(turns)]
    # In pairs: a question is not cut without its answer.
    for start in range(2, len(turns) + 1, 2):
        yield replace(example, earlier_turns=(*system, *turns[start:]))
