"""Predictions of the microworld without learning: by the oracle, and by straight extrapolation.

The oracle sees the simulator's state at the video's end, no sharper than a viewer can. The
extrapolation sees what the perceiver sees and lets it go straight on. Both only predict: what has
happened is in the event log, and an oracle of it is always right.
"""

import random
from collections.abc import Callable, Sequence
from math import log

from typing_extensions import override

from vidreason.evaluation.answerer import Answerer, Reply
from vidreason.evaluation.provenance import Provenance
from vidreason.example import Example
from vidreason.microworld.language import NextEvent, next_events, next_sentence
from vidreason.microworld.perceived_state import StateProbe
from vidreason.microworld.simulation import Rollout
from vidreason.perception.visual_tokens import TokenSource
from vidreason.reasoning.futures import Future
from vidreason.reasoning.predictions import Prediction, format_predictions

RolloutOf = Callable[[str], Rollout]
"""Rollout of a video id."""


class OracleAnswerer(Answerer):
    """Name the likeliest of the events that may come next, with their true probabilities.

    Args:
        rollout_of: The test videos' rollouts.
        num_futures: Perturbed futures by which the distribution is known.
    """

    provenance = Provenance(model="oracle of the microworld")

    def __init__(self, rollout_of: RolloutOf, num_futures: int = 200) -> None:
        self._rollout_of = rollout_of
        self._num_futures = num_futures

    @override
    def predict(self, examples: Sequence[Example]) -> list[Reply]:
        return [_reply(self._next_events(example)) for example in examples]

    def _next_events(self, example: Example) -> list[NextEvent]:
        # Drawn otherwise than the reference's futures, and without the true one among them.
        generator = random.Random(f"oracle/{example.video_id}")
        rollout = self._rollout_of(example.video_id)
        return next_events(rollout, self._num_futures, generator, with_truth=False)


class ExtrapolationAnswerer(Answerer):
    """Name what comes next if all that is perceived goes straight on until it touches something.

    Args:
        probe: Reads the state of the world off tokens.
        source: Tokens of the test videos.
    """

    provenance = Provenance(model="straight extrapolation of perceived tracks")

    def __init__(self, probe: StateProbe, source: TokenSource) -> None:
        self._probe = probe
        self._source = source

    @override
    def predict(self, examples: Sequence[Example]) -> list[Reply]:
        return [self._predict(example) for example in examples]

    def _predict(self, example: Example) -> Reply:
        tokens = self._source(*example.media_span)
        rollout = self._probe.rollout(tokens)
        event = None if rollout is None else rollout.next_event()
        # Where the reckoning finds no end of contacts, nothing is predicted.
        text = "" if rollout is None else next_sentence(rollout, event)
        return Reply(output=format_predictions([Prediction(text, "", 1.0)]) if text else "")


def _reply(events: Sequence[NextEvent]) -> Reply:
    """Return an answer that prints the likeliest three, with all of them as computed futures."""
    printed = [
        Prediction(event.text, event.justification, round(event.probability, 2))
        for event in events[:3]
    ]
    futures = tuple(
        Future(
            event=event.text,
            log_likelihood=log(event.probability),  # above 0: each came at least once
            probability=event.probability,
            justification=event.justification,
            seconds=event.seconds,
        )
        for event in events
    )
    return Reply(output=format_predictions(printed), futures=futures)
