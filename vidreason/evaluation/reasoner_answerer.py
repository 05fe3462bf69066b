"""Our reasoner as one of the systems that answer benchmarks.

Shapes: B questions of a batch, T text tokens.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from vidreason.evaluation.answerer import Answerer, Reply
from vidreason.evaluation.config import Control, EvaluationConfig
from vidreason.evaluation.controls import controlled_source
from vidreason.evaluation.provenance import Provenance
from vidreason.example import Example
from vidreason.model import VideoReasoner
from vidreason.perception.visual_tokens import (
    TokenSource,
    VisualTokens,
    collate_visual_tokens,
    move_visual_tokens,
)
from vidreason.pretrained.identity import ReasonerIdentity
from vidreason.reasoning.reasoner_config import DecodingConfig
from vidreason.reasoning.tokenization import MARKUP_VERSION
from vidreason.video.failures import VideoReadError

NUM_DESCRIBED = 1
"""How many of a question's computed futures get a justification and an expected time."""


class LoadedExample(NamedTuple):
    """A question with its visual tokens, or with the reason why there are none."""

    example: Example
    tokens: VisualTokens | None
    error: VideoReadError | None = None
    record: Mapping[str, Any] = {}
    """How the tokens were chosen, where they are not all of the video's; JSON values."""
    num_choosing_tokens: int = 0
    """Embeddings of the video that were looked at to choose them."""


class ReasonerAnswerer(Answerer):
    """A reasoner behind a source of visual tokens.

    Args:
        load: Gives the reasoner, which is put into evaluation mode for each batch and back, and its
            visual tokens of ``(media, start_seconds, end_seconds)`` under the control. It is called
            when a batch is answered.
        decoding: How texts are generated.
        max_text_tokens: Longest prompt and option together.
        identity: Of the reasoner; None where its answers are not kept.
    """

    def __init__(
        self,
        load: Callable[[], tuple[VideoReasoner, TokenSource]],
        decoding: DecodingConfig,
        max_text_tokens: int,
        identity: ReasonerIdentity | None = None,
    ) -> None:
        self._load = load
        self._decoding = decoding
        self._max_text_tokens = max_text_tokens
        self.provenance = Provenance(
            model=identity.model if identity else "",
            perceiver=identity.perceiver if identity else "",
            frames=identity.frames if identity else {},
            answering={"markup": MARKUP_VERSION},
        )

    def answer(self, examples: Sequence[Example]) -> list[Reply]:
        """Generate a text for each prompt."""
        return self._replies(examples, self._generated)

    # One text generation: a batch may hold questions of both kinds.
    choose = answer

    def predict(self, examples: Sequence[Example]) -> list[Reply]:
        """Generate predictions, and compute the probabilities of next events beside them."""

        def predict(
            reasoner: VideoReasoner, readable: Sequence[Example], tokens: Sequence[VisualTokens]
        ) -> list[Reply]:
            # Probabilities are computed beside the text, whatever the text says.
            futures = reasoner.predict_futures(
                collate_visual_tokens(tokens), self._decoding.futures, NUM_DESCRIBED
            )
            replies = self._generated(reasoner, readable, tokens)
            return [
                replace(reply, futures=of_video)
                for reply, of_video in zip(replies, futures, strict=True)
            ]

        return self._replies(examples, predict)

    def log_likelihoods(self, examples: Sequence[Example]) -> list[Reply]:
        """Score each option by the mean log-likelihood of its tokens, end of turn included."""

        def score(
            reasoner: VideoReasoner, readable: Sequence[Example], tokens: Sequence[VisualTokens]
        ) -> list[Reply]:
            return _score_options(reasoner, readable, tokens, self._max_text_tokens)

        return self._replies(examples, score)

    def shown(self, loaded: LoadedExample) -> LoadedExample:
        """Return a question with the tokens that the reasoner is shown: all, unless overridden."""
        return loaded

    def _generated(
        self, reasoner: VideoReasoner, readable: Sequence[Example], tokens: Sequence[VisualTokens]
    ) -> list[Reply]:
        # Videos padded to the longest; prompts are padded by the reasoner.
        videos, of_questions = _different(tokens)
        visual = move_visual_tokens(collate_visual_tokens(videos), _device(reasoner))
        prompts = [example.prompt for example in readable]
        earlier_turns = [example.earlier_turns for example in readable]
        ids = reasoner.generate_ids(visual, prompts, self._decoding, earlier_turns, of_questions)
        return [
            Reply(output=output, num_generated_tokens=len(tokens_of_output))
            for tokens_of_output, output in zip(ids, reasoner.decode(ids), strict=True)
        ]

    def _replies(
        self,
        examples: Sequence[Example],
        reply_to: Callable[[VideoReasoner, Sequence[Example], Sequence[VisualTokens]], list[Reply]],
    ) -> list[Reply]:
        """Replies of ``reply_to`` to what can be read, and errors for the rest."""
        reasoner, source = self._load()
        # Videos that cannot be read leave the batch, and come back as errors in their places.
        loaded = [self.shown(item) for item in load_examples(source, examples)]
        readable = [item.example for item in loaded if item.tokens is not None]
        tokens = [item.tokens for item in loaded if item.tokens is not None]
        with evaluation_mode(reasoner):
            replies = iter(reply_to(reasoner, readable, tokens) if readable else [])
        # One reply a question, in the order of the questions.
        return [
            Reply(error=item.error)
            if item.tokens is None
            else replace(
                next(replies),
                num_prompt_tokens=len(
                    reasoner.encode_prompt(item.example.prompt, item.example.earlier_turns)
                ),
                num_visual_tokens=reasoner.fusion.num_embeddings + item.num_choosing_tokens,
                record=item.record,
            )
            for item in loaded
        ]


def reasoner_answerer(
    reasoner: VideoReasoner,
    source: TokenSource,
    examples: Sequence[Example],
    config: EvaluationConfig,
    decoding: DecodingConfig,
    control: Control = "none",
) -> ReasonerAnswerer:
    """A reasoner at hand as an answerer of ``examples`` under a control.

    Args:
        reasoner: The reasoner.
        source: Visual tokens, before any control.
        examples: What will be asked.
        config: Its seed and longest text.
        decoding: How texts are generated.
        control: Replacement of the visual tokens.

    Raises:
        ValueError: The control cannot be made.
    """
    source = controlled_source(source, examples, control, config.seed)
    return ReasonerAnswerer(lambda: (reasoner, source), decoding, config.max_text_tokens)


def load_examples(source: TokenSource, examples: Sequence[Example]) -> list[LoadedExample]:
    """Load the visual tokens of a batch; a span that follows itself is loaded once."""
    loaded: list[LoadedExample] = []
    previous: Example | None = None
    for example in examples:
        if previous is not None and previous.media_span == example.media_span:
            loaded.append(LoadedExample(example, loaded[-1].tokens, loaded[-1].error))
        else:
            try:
                loaded.append(LoadedExample(example, source(*example.media_span)))
            except VideoReadError as error:
                loaded.append(LoadedExample(example, None, error))
        previous = example
    return loaded


@contextmanager
def evaluation_mode(reasoner: torch.nn.Module) -> Iterator[None]:
    """Turn off dropout and gradients; restore modes and random state at the end."""
    modes = {module: module.training for module in reasoner.modules()}
    device = _device(reasoner)
    # Forking the state of a CUDA device that is not used would start it.
    cuda_devices = [device] if device.type == "cuda" else []
    reasoner.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=cuda_devices):
            yield
    finally:
        for module, training in modes.items():  # frozen parts may be in another mode than the rest
            module.training = training


def _score_options(
    reasoner: VideoReasoner,
    examples: Sequence[Example],
    tokens: Sequence[VisualTokens],
    max_text_tokens: int,
) -> list[Reply]:
    """Log-likelihoods per token of each question's options, and their numbers of tokens."""
    # One text an option, all options of all questions in one row: (sum of options, T).
    texts = [
        reasoner.encode_example(example.prompt, option, max_text_tokens, example.earlier_turns)
        for example in examples
        for option in example.options
    ]
    videos, of_questions = _different(tokens)
    of_texts = [
        index
        for index, example in zip(of_questions, examples, strict=True)
        for _ in example.options
    ]
    visual = move_visual_tokens(collate_visual_tokens(videos), _device(reasoner))
    sums, counts = reasoner.response_log_likelihoods(visual, of_texts, texts)
    # (sum of options,) -> one slice a question.
    means = (sums / counts).tolist()
    replies, start = [], 0
    for example in examples:
        options = slice(start, start + len(example.options))
        replies.append(
            Reply(
                log_likelihoods=tuple(means[options]),
                token_counts=tuple(counts[options].tolist()),
            )
        )
        start = options.stop
    return replies


def _different(tokens: Sequence[VisualTokens]) -> tuple[list[VisualTokens], list[int]]:
    """Return the videos of questions, and of each question the index of its video.

    Questions about one video follow each other: its tokens are in the batch once.
    """
    videos: list[VisualTokens] = []
    of_questions: list[int] = []
    for of_question in tokens:
        if not videos or videos[-1] is not of_question:
            videos.append(of_question)
        of_questions.append(len(videos) - 1)
    return videos, of_questions


def _device(module: torch.nn.Module) -> torch.device:
    return next(module.parameters()).device
