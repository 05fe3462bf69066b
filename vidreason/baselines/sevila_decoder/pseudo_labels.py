"""Pseudo-labels of SeViLA's self-refinement: frames from which alone the answerer answers right.

What is right is what the benchmark's protocol of the question says, as in evaluation.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch

from vidreason.baselines.sevila_decoder.key_frames import key_frames
from vidreason.evaluation.benchmark import evaluate_examples
from vidreason.evaluation.config import EvaluationConfig
from vidreason.evaluation.controls import ChangedSource
from vidreason.evaluation.predictions.rows import unanswered
from vidreason.evaluation.reasoner_answerer import ReasonerAnswerer
from vidreason.example import Example, MediaSpan
from vidreason.model import VideoReasoner
from vidreason.perception.visual_tokens import TokenSource, VisualTokens
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT
from vidreason.reasoning.reasoner_config import DecodingConfig


def has_right_answer(example: Example) -> bool:
    """Tell whether single answers to a question are right or wrong.

    Free texts are neither, and next events are left out, which take long to compute.
    """
    return example.prompt != FUTURE_PREDICTION_PROMPT and unanswered(example).reference is not None


def single_frame(tokens: VisualTokens, generator: torch.Generator, rank: int) -> VisualTokens:
    """Return the tokens of the key frame of a rank; a change for :class:`ChangedSource`."""
    return key_frames(tokens)[rank]


def pseudo_labels(
    answerer: VideoReasoner,
    source: TokenSource,
    examples: Sequence[Example],
    num_frames: Mapping[MediaSpan, int],
    config: EvaluationConfig,
    decoding: DecodingConfig,
) -> dict[str, list[bool]]:
    """Ask the answerer each question with each frame alone.

    Args:
        answerer: The answerer.
        source: Visual tokens of whole spans, which can be read.
        examples: Questions with a right answer.
        num_frames: Key frames of each question's span.
        config: How to ask.
        decoding: How texts are generated.

    Returns:
        By the id of the question, for each frame of its span, whether the answer was right.
    """
    labels: dict[str, list[bool]] = {example.id: [] for example in examples}
    for rank in range(max(num_frames.values(), default=0)):
        # Videos have several numbers of key frames: the shorter ones drop out.
        with_frame = [one for one in examples if num_frames[one.media_span] > rank]
        frame = ChangedSource(source, partial(single_frame, rank=rank), seed=0)
        system = ReasonerAnswerer(partial(_both, answerer, frame), decoding, config.max_text_tokens)
        for row in evaluate_examples(system, with_frame, config):
            labels[row.id].append(bool(row.correct))
    return labels


def _both(answerer: VideoReasoner, source: TokenSource) -> tuple[VideoReasoner, TokenSource]:
    return answerer, source
