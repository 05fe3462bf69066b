"""Answers of the model in training, as text in TensorBoard: the quickest look at what it learns."""

from collections.abc import Sequence

from lightning import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_warn
from typing_extensions import override

from callbacks.step_callback import StepCallback
from vidreason.example import Example
from vidreason.model import VideoReasoner
from vidreason.perception.visual_tokens import TokenSource, VisualTokens, collate_visual_tokens
from vidreason.reasoning.prompts import written_out
from vidreason.reasoning.reasoner_config import DecodingConfig
from vidreason.video.reader import VideoReadError


class SampleGenerations(StepCallback):
    """Answer the prompts of a few fixed examples every ``every_n_steps`` optimizer steps.

    Rank 0 answers alone, which needs a strategy that keeps whole parameters on each rank (one
    device, or DDP).

    Args:
        examples: What to answer; their videos are perceived, or read from the store, at the first
            use.
        source: Visual tokens of ``(media, start_seconds, end_seconds)``.
        decoding: How to generate.
        every_n_steps: Optimizer steps between two looks.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        source: TokenSource,
        decoding: DecodingConfig,
        every_n_steps: int,
    ) -> None:
        self.examples = tuple(examples)
        self.source = source
        self.decoding = decoding
        self._tokens: list[VisualTokens] | None = None
        self.every_n_steps = every_n_steps

    @override
    def on_step_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero or not self.examples:
            return
        answers = self._generate(pl_module)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                for example, answer in zip(self.examples, answers, strict=True):
                    text = _markdown(example, answer)
                    tag, step = f"samples/{example.id}", trainer.global_step
                    logger.experiment.add_text(tag, text, global_step=step)

    def _perceive(self) -> list[VisualTokens]:
        """Visual tokens of the examples; an unreadable video's are left out, with a warning."""
        tokens, readable = [], []
        for example in self.examples:
            try:
                tokens.append(self.source(*example.media_span))
                readable.append(example)
            except VideoReadError as error:
                rank_zero_warn(f"sample generations leave out {example.id}: {error}")
        self.examples = tuple(readable)
        return tokens

    def _generate(self, pl_module: LightningModule) -> list[str]:
        if self._tokens is None:
            self._tokens = self._perceive()
        if not self._tokens:
            return []
        reasoner = pl_module.reasoner
        assert isinstance(reasoner, VideoReasoner)
        ids = reasoner.generate_ids(
            collate_visual_tokens(self._tokens),
            [example.prompt for example in self.examples],
            self.decoding,
            [example.earlier_turns for example in self.examples],
        )
        return reasoner.decode(ids)


def _markdown(example: Example, answer: str) -> str:
    prompt = written_out(example.earlier_turns, example.prompt)
    return (
        f"**Video** {example.media}\n\n**Prompt** {prompt}\n\n"
        f"**Reference** {example.response}\n\n**Answer** {answer}"
    )
