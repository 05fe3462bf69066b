"""Signals of a video language model: it is asked in words whether the video shows a claim."""

import logging
from collections.abc import Callable, Sequence

from vidreason.evaluation.answerer import Answerer, Reply
from vidreason.evaluation.answers.choices import parse_choice
from vidreason.evaluation.manifest import digest_of
from vidreason.evidence.calibration import Calibration, Signals
from vidreason.evidence.spans import widened
from vidreason.evidence.verifier import Claim
from vidreason.example import Example
from vidreason.video.reader import VideoReader

LOG_ODDS = "log_odds"
"""Name of its only signal: natural-log odds of yes against no."""
UNCALIBRATED = Calibration(weights={LOG_ODDS: 1.0}, intercept=0.0, threshold=0.5)
"""The model's own odds, for one that has not been calibrated."""

_OPTIONS = ("yes", "no")
_SAID = 2.0  # nats for an answer in words, which has no likelihood: 88%
_LOG = logging.getLogger(__name__)


class SystemSignals:
    """The odds that a video language model gives to "yes, the video shows it".

    Where the model's likelihoods can be had, the odds are theirs; otherwise it answers in words,
    and all but a clear yes counts as no.

    Args:
        answerer: The model, loaded when it is first asked.
        reader: Reads the videos.
        margin_seconds: Time before and after a claim's span that is looked at too.
    """

    def __init__(self, answerer: Answerer, reader: VideoReader, margin_seconds: float) -> None:
        self._answerer = answerer
        self._reader = reader
        self._margin = margin_seconds
        provenance = answerer.provenance
        shown = [provenance.frames, provenance.answering, verification_prompt("x"), margin_seconds]
        self.source_id = f"{provenance.model} ({digest_of(shown)})"

    def signals(self, claims: Sequence[Claim]) -> list[Signals]:
        """Ask about each claim.

        Raises:
            VideoReadError: A video cannot be read.
        """
        examples = [self._question(number, claim) for number, claim in enumerate(claims)]
        scored = self._answerer.method("log_likelihoods") is not None
        ask: Callable[[Sequence[Example]], list[Reply]] = (
            self._answerer.log_likelihoods if scored else self._answerer.choose
        )
        replies = ask(examples) if examples else []
        for reply in replies:
            if reply.error is not None:
                raise reply.error
        if not scored:
            _warn_of_unclear(replies)
        return [{LOG_ODDS: _log_odds(reply) if scored else _said(reply)} for reply in replies]

    def _question(self, number: int, claim: Claim) -> Example:
        duration = self._reader.index(claim.media).duration_seconds
        media, start, end = widened(claim, self._margin, duration)
        return Example(
            id=f"verifier:{number}",
            corpus="verifier",
            media=media,
            video_id=claim.media,
            start_seconds=start,
            end_seconds=end,
            prompt=verification_prompt(claim.text),
            response="",
            options=_OPTIONS,
        )


def verification_prompt(text: str) -> str:
    """Ask whether the video shows what a sentence says."""
    return (
        f"Does the video show this: {text.strip().removesuffix('.')}?\n"
        "Look at each object, each event, its cause and the order. Answer yes or no."
    )


def _log_odds(reply: Reply) -> float:
    # Likelihoods are per token, and yes and no may have several.
    yes, no = (
        likelihood * count
        for likelihood, count in zip(reply.log_likelihoods, reply.token_counts, strict=True)
    )
    return yes - no


def _said(reply: Reply) -> float:
    return _SAID if parse_choice(reply.output, _OPTIONS) == 0 else -_SAID


def _warn_of_unclear(replies: Sequence[Reply]) -> None:
    unclear = sum(parse_choice(reply.output, _OPTIONS) is None for reply in replies)
    if unclear:
        _LOG.warning(
            "verifier: %d of %d answers are neither yes nor no, and count as no",
            *(unclear, len(replies)),
        )
