"""Signals of a reasoner: how likely a claim is as a step of what it tells of the span itself.

The reasoner explains the span in its own words. A claim is then scored at each position of that
account: as its first step, as the one after its first step, and so on; the best position counts. A
claim about a thing that the reasoner does not see is unlikely at all of them. The same is done for
a longer part of the video around the span. Of two events that are said to come in an order, the
account has positions for both: the order is likely if they are in it.

Shapes: P positions of an account, which has P - 1 steps.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from math import log1p
from typing import NamedTuple

from torch import Tensor

from vidreason.evaluation.manifest import digest_of
from vidreason.evaluation.reasoner_answerer import evaluation_mode
from vidreason.evidence.calibration import Signals
from vidreason.evidence.claim_parts import ClaimParts, claim_parts
from vidreason.evidence.spans import widened
from vidreason.evidence.verifier import Claim
from vidreason.example import MediaSpan
from vidreason.model import VideoReasoner
from vidreason.perception.visual_tokens import (
    TokenSource,
    VisualBatch,
    collate_visual_tokens,
    move_visual_tokens,
)
from vidreason.reasoning.explanations import parse_explanation
from vidreason.reasoning.prompts import CAUSAL_EXPLANATION_PROMPT
from vidreason.reasoning.tokenization import IGNORE_INDEX, EncodedText
from vidreason.video.reader import VideoReader

_VERSION = 2
"""Raise it whenever the same claim gets other signals."""
_MAX_STEPS = 8  # of an account: more positions cost more than they tell
_UNLIMITED = 1 << 20
_DIGITS = 4  # of a signal; the last ones depend on what is computed together


class _Account(NamedTuple):
    """The reasoner's explanation of a span, as far as claims need it."""

    visual: VisualBatch
    prefixes: tuple[str, ...]
    """Length P: the account up to each position, with the number of the step that follows."""


class ReasonerSignals:
    """Likelihoods of claims as steps of a reasoner's explanations.

    Signals are zero for claims of another kind than theirs, so that kinds are weighed separately.

    Args:
        reasoner: In any mode.
        source: Its visual tokens of a span.
        reader: Knows how long videos are.
        model_id: Names the reasoner and what it is shown, by content.
        margin_seconds: Time before and after a claim's span that belongs to it.
        context_seconds: Time before and after it of the longer part that is looked at too.
    """

    def __init__(
        self,
        reasoner: VideoReasoner,
        source: TokenSource,
        reader: VideoReader,
        model_id: str,
        margin_seconds: float,
        context_seconds: float,
    ) -> None:
        self._reasoner = reasoner
        self._source = source
        self._reader = reader
        self._margins = (margin_seconds, context_seconds)
        self.source_id = f"{model_id} ({digest_of([_VERSION, self._margins])})"

    def signals(self, claims: Sequence[Claim]) -> list[Signals]:
        """Look at each claim's span; claims of the same span share what is perceived.

        Raises:
            ValueError: A claim is empty.
            VideoReadError: A video cannot be read.
        """
        parts = [claim_parts(claim.text) for claim in claims]
        looked_at = [
            [self._values(group, claims, parts) for group in self._groups(claims, margin)]
            for margin in self._margins
        ]
        # By margin, then by the claim's index.
        of_span, of_video = (
            {index: values for group in groups for index, values in group.items()}
            for groups in looked_at
        )
        return [
            _named(part.kind, of_span[index], of_video[index]) for index, part in enumerate(parts)
        ]

    def _groups(
        self, claims: Sequence[Claim], margin: float
    ) -> Iterator[tuple[MediaSpan, tuple[int, ...]]]:
        """Yield each span that is looked at, with the indices of its claims."""
        groups: dict[MediaSpan, list[int]] = {}
        for index, claim in enumerate(claims):
            duration = self._reader.index(claim.media).duration_seconds
            groups.setdefault(widened(claim, margin, duration), []).append(index)
        for span, indices in groups.items():
            yield span, tuple(indices)

    def _values(
        self,
        group: tuple[MediaSpan, tuple[int, ...]],
        claims: Sequence[Claim],
        parts: Sequence[ClaimParts],
    ) -> dict[int, dict[str, float]]:
        span, indices = group
        with evaluation_mode(self._reasoner):
            account = self._account(span)
            # Each text at each position: sentences of all claims of the span, each once.
            texts = {
                text: number
                for number, text in enumerate(
                    dict.fromkeys(text for index in indices for text in _texts(parts[index]))
                )
            }
            likelihoods = self._likelihoods(account, tuple(texts))  # (texts, P)
        return {
            index: _kind_values(
                parts[index], [likelihoods[texts[text]] for text in _texts(parts[index])]
            )
            for index in indices
        }

    def _account(self, span: MediaSpan) -> _Account:
        device = next(self._reasoner.fusion.parameters()).device
        visual = move_visual_tokens(collate_visual_tokens([self._source(*span)]), device)
        (told,) = self._reasoner.generate(visual, [CAUSAL_EXPLANATION_PROMPT])
        # Before the first step, then after each of its own: P positions.
        prefixes, text = ["1. "], ""
        for number, step in enumerate(parse_explanation(told)[:_MAX_STEPS], start=1):
            text += f"{number}. {step.text}\n"
            prefixes.append(f"{text}{number + 1}. ")
        return _Account(visual, tuple(prefixes))

    def _likelihoods(self, account: _Account, texts: Sequence[str]) -> Tensor:
        """Return ``(texts, P)`` log-likelihoods of texts at the positions of an account."""
        encoded = [self._encoded(prefix, text) for text in texts for prefix in account.prefixes]
        sums, _ = self._reasoner.response_log_likelihoods(
            account.visual, [0] * len(encoded), encoded
        )
        # (texts * P,) -> (texts, P), in the order in which they were encoded
        return sums.view(len(texts), len(account.prefixes))

    def _encoded(self, prefix: str, text: str) -> EncodedText:
        """Return a step after the account's earlier ones; what follows it is not scored."""
        prompt = CAUSAL_EXPLANATION_PROMPT
        # Without the end of the turn: the account may go on after it.
        whole = self._reasoner.encode_example(prompt, prefix + text, _UNLIMITED).input_ids[:-1]
        before = self._reasoner.encode_example(prompt, prefix, _UNLIMITED).input_ids[:-1]
        # Tokens may merge over the border; those that do are scored.
        start = next(
            # The first place at which the text with the claim differs from that without.
            (n for n, (one, other) in enumerate(zip(whole, before, strict=False)) if one != other),
            min(len(before), len(whole) - 1),
        )
        return EncodedText(whole, [IGNORE_INDEX] * start + whole[start:])


def _texts(parts: ClaimParts) -> tuple[str, ...]:
    """Return the sentences that a claim is scored by."""
    if parts.kind == "cause":
        cause, effect = parts.clauses
        return parts.text, cause, f"{cause}, so {effect}"
    return parts.clauses


def _kind_values(parts: ClaimParts, rows: Sequence[Tensor]) -> dict[str, float]:
    """Return the numbers of one claim from the likelihoods, ``(P,)`` each, of its sentences."""
    best = [float(row.max()) for row in rows]
    if parts.kind == "order":
        return {"order": _order(rows[0], rows[1]), "order_events": min(best)}
    if parts.kind == "cause":
        whole, cause, chain = best
        return {"cause": max(whole, cause), "cause_chain": max(whole, chain)}
    return {"event": best[0]}


def _order(earlier: Tensor, later: Tensor) -> float:
    """Return how much likelier two events are in an account in their order than in the other.

    Args:
        earlier: ``(P,)`` log-likelihoods of the event that is said to come first.
        later: Of the other one.
    """
    pairs = list(combinations(range(len(earlier)), 2))
    if not pairs:
        return 0.0
    one, other = (list(indices) for indices in zip(*pairs, strict=True))
    said = float((earlier[one] + later[other]).max())
    return said - float((earlier[other] + later[one]).max())


_LIKELIHOODS = ("event", "order_events", "cause", "cause_chain")
_BOTH = ("event", "cause")
_KINDS = ("order", "cause")


def _named(kind: str, of_span: dict[str, float], of_video: dict[str, float]) -> Signals:
    """Return all signals of a claim; the indicators of its kind are intercepts."""
    signals = {f"is_{name}": float(kind == name) for name in _KINDS}
    for where, values in (("span", of_span), ("video", of_video)):
        signals[f"order_{where}"] = values.get("order", 0.0)
        for name in _LIKELIHOODS:
            signals[f"{name}_{where}"] = _saturated(values.get(name, 0.0))
    # A step at another step's time is likely in the video alone.
    for name in _BOTH:
        signals[f"{name}_both"] = min(signals[f"{name}_span"], signals[f"{name}_video"])
    return {name: round(value, _DIGITS) for name, value in signals.items()}


def _saturated(log_likelihood: float) -> float:
    """Return a number that grows with a log-likelihood, and falls slowly where it is low already.

    A sentence of words that the reasoner never uses has -150, a wrong object in its own words -8:
    both are no, and weights would be fitted to the former.
    """
    return -log1p(max(-log_likelihood, 0.0))
