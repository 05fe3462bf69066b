"""Prompts that leave no room for a response, found before training starts.

In a conversation the prompt of a later turn holds the turns before it, so that a few rows of a data
set may be many times as long as the others. ``data check`` and ``fit`` find them by this code.
"""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from data_modules.corpora import LongPrompts
from data_modules.skipped_rows import SkippedRows
from vidreason.example import Example
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
        around = len(encode_prompt(tokenizer, "a", system_prompt)) + _SLACK_TOKENS
        self.max_prompt_bytes = max(max_text_tokens - 1 - around, 0)

    def fitted(self, example: Example, skipped: SkippedRows | None = None) -> str | None:
        """The prompt of ``example``, cut if the policy says so and it has to be.

        Args:
            example: The example.
            skipped: Counts a prompt that is cut, and an example that is left out.

        Returns:
            None where there is no room for a response.
        """
        candidates = [example.prompt]
        if self.policy == "cut_earlier_turns":
            candidates += shortened_prompts(example)
        prompt = next(filter(self._fits, candidates), None)
        if skipped is not None and prompt is None:
            skipped.record_refused(example.id, TOO_LONG)
        elif skipped is not None and prompt != example.prompt:
            skipped.remark(example.id, CUT)
        return prompt

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
