"""Systems whose visual tokens stand among the word embeddings of their prompt.

Shapes: L prompt positions with the video's, V tokens of a video, W width of the language model.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from vidreason.baselines.frames import Frames
from vidreason.baselines.questions import letter_prompt, letters
from vidreason.baselines.system import System
from vidreason.evaluation.answerer import Reply
from vidreason.example import Example
from vidreason.reasoning.decoding import generate_ids
from vidreason.reasoning.log_likelihoods import text_log_likelihoods
from vidreason.reasoning.reasoner_config import DecodingConfig
from vidreason.reasoning.tokenization import EncodedText


class SplicedPrompt(NamedTuple):
    """A prompt with the tokens of its video, up to where the answer begins."""

    embeddings: Tensor
    """``(L, W)``"""
    num_visual_tokens: int
    """How many of them are the video's; 0 without frames."""
    answer_ids: Callable[[str], list[int]]
    """Token ids of an answer behind this prompt, without its end."""
    ending_ids: list[int]
    """Token ids that end an answer."""


class SplicedPromptSystem(System, ABC):
    """A language model behind a vision part, whose official protocol knows open questions alone.

    Options are scored by the likelihood of their letters or texts where the answer begins.

    Args:
        language_model: In eval mode.
        decoding: How texts are generated.
        option_scoring: As in :class:`~vidreason.baselines.config.BaselineConfig`.
        stop_ids: Tokens that end an answer.
        stop_sequences: Rows of tokens that end it.
    """

    def __init__(
        self,
        language_model: PreTrainedModel,
        decoding: DecodingConfig,
        option_scoring: str,
        stop_ids: Sequence[int],
        stop_sequences: Sequence[Sequence[int]] = (),
    ) -> None:
        self.language_model = language_model
        self._decoding = decoding
        self._by_letter = option_scoring == "letter"
        self._stop_ids = stop_ids
        self._stop_sequences = stop_sequences

    @abstractmethod
    def see(self, video: Frames) -> Tensor:
        """Return the tokens ``(V, W)`` of a video with frames."""

    @abstractmethod
    def splice(self, video: Frames, tokens: Tensor | None, question: str) -> SplicedPrompt:
        """Return the prompt of a question about a video, of which ``tokens`` is None if blind."""

    @abstractmethod
    def text(self, ids: Sequence[int]) -> str:
        """Return the text of an answer."""

    def answer(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
        """Answer each prompt in words."""
        return self._generate(videos, [example.prompt for example in examples])

    predict = answer  # the prompt says in which form

    def choose(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
        """Name an option by its letter or its text, whichever the options are scored by."""
        return self._generate(videos, [self.choice_prompt(example) for example in examples])

    def log_likelihoods(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
        """Score each option by its letter, or by its text with the end of the answer, per token.

        A prompt with its video is computed once for all of its options.
        """
        prompts = self.splice_all(videos, [self.choice_prompt(example) for example in examples])
        replies = []
        for prompt, example in zip(prompts, examples, strict=True):
            ids = [self.option_ids(prompt, option) for option in self.options(example)]
            texts = [EncodedText(input_ids=one, labels=one) for one in ids]
            # The prompt stands before each option as a video does: (1, L, W)
            sums = text_log_likelihoods(
                self.language_model, prompt.embeddings[None], [0] * len(texts), texts
            )
            # Per token, so that longer options are not less likely for their length.
            counts = [len(one) for one in ids]
            replies.append(
                Reply(
                    log_likelihoods=tuple((sums / torch.tensor(counts)).tolist()),
                    token_counts=tuple(counts),
                    num_prompt_tokens=len(prompt.embeddings) - prompt.num_visual_tokens,
                    num_visual_tokens=prompt.num_visual_tokens,
                )
            )
        return replies

    def splice_all(self, videos: Sequence[Frames], questions: Sequence[str]) -> list[SplicedPrompt]:
        """Return the prompt of each question; a video that follows itself is seen once."""
        prompts: list[SplicedPrompt] = []
        tokens: Tensor | None = None
        for index, (video, question) in enumerate(zip(videos, questions, strict=True)):
            if not index or videos[index - 1] is not video:
                tokens = self.see(video) if len(video.pixels) else None
            prompts.append(self.splice(video, tokens, question))
        return prompts

    def choice_prompt(self, example: Example) -> str:
        """Return the prompt of a question with options."""
        return letter_prompt(example) if self._by_letter else example.prompt

    def options(self, example: Example) -> Sequence[str]:
        """Return what is scored of each option: its letter or its text."""
        return letters(example) if self._by_letter else example.options

    def option_ids(self, prompt: SplicedPrompt, option: str) -> list[int]:
        """Return the token ids of an option behind its prompt, all of them targets."""
        ids = prompt.answer_ids(option)
        return ids if self._by_letter else ids + prompt.ending_ids

    def _generate(self, videos: Sequence[Frames], questions: Sequence[str]) -> list[Reply]:
        prompts = self.splice_all(videos, questions)
        # Prompts end in one column, from where all rows go on: (B, longest L, W), (B, longest L)
        rows = [prompt.embeddings for prompt in prompts]
        embeddings = pad_sequence(rows, batch_first=True, padding_side="left")
        ones = [torch.ones(len(row), dtype=torch.int64, device=row.device) for row in rows]
        mask = pad_sequence(ones, batch_first=True, padding_side="left")
        answers = generate_ids(
            self.language_model,
            embeddings,
            mask,
            self._decoding,
            self._stop_ids,
            self._stop_sequences,
        )
        return [
            Reply(
                output=self.text(answer),
                num_prompt_tokens=len(prompt.embeddings) - prompt.num_visual_tokens,
                num_visual_tokens=prompt.num_visual_tokens,
                num_generated_tokens=len(answer),
            )
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
