"""Distribution over the next event: candidates found, scored exactly, and what is said of them.

The first item of an answer to the prediction prompt (section 3.3.1) names the likeliest event. Its
line is what is searched for and scored; a continuation of it gives the justification.

Notable choices:

* Search and score are apart: however an event was found, its likelihood is that of its line after
  the prompt, computed for all events of all videos together.
* What is found shares a probability of 1; how much of the model's own probability it covers is said
  beside it.
* The expected time is a mean over given times by their likelihoods, not a number that is generated.
* Evidence for an event is what its log-likelihood loses without a part of the video.

Shapes: V videos, Q video embeddings, L positions, T tokens, D width.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vidreason.reasoning.decoding import generate_lines, prompt_embeddings
from vidreason.reasoning.evidence import Evidence
from vidreason.reasoning.futures import (
    EVENT_SECONDS,
    Future,
    covered_mass,
    event_time_answer,
    event_time_question,
    is_no_event,
    merge_candidates,
)
from vidreason.reasoning.line_search import (
    LineTokens,
    beam_lines,
    drawn_lines,
    line_end_ids,
    line_tokens,
)
from vidreason.reasoning.log_likelihoods import text_log_likelihoods
from vidreason.reasoning.predictions import parse_predictions
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT, open_ended_prompt
from vidreason.reasoning.reasoner_config import FuturesConfig
from vidreason.reasoning.shared_prefixes import read_prompts
from vidreason.reasoning.tokenization import (
    IGNORE_INDEX,
    EncodedText,
    answer_text,
    encode_example,
    encode_prompt,
    stop_ids,
)

MAX_EVENT_TOKENS = 64
"""Longest line of an event; a longer one is no candidate."""
MAX_REASON_TOKENS = 96
"""Longest justification with its confidence."""
_REASON_LINES = 2
"""Lines of an answer below an event: its justification and its confidence."""
_TOP_P, _SEED = 0.9, 0
_UNLIMITED = 1 << 20  # tokens: no text has as many
_BEGINNINGS = ("The x", "the x", "A", "x", "9", "It is")
"""Texts with different first tokens: what comes before them is the same for any event."""


class _Description(NamedTuple):
    """Words and time of an event, where it is the first of the model's answer."""

    justification: str
    """Empty where the model gives none."""
    confidence: float | None
    """The printed one, from 0 to 1; None where there is none."""
    seconds: float | None
    """Expected time after the end of the video: the mean over :data:`EVENT_SECONDS`, each weighted
    by its likelihood as the answer to :func:`event_time_question`; None if none is possible, or if
    the text says that nothing happens."""


class Forecast(NamedTuple):
    """A future with what the reader of one video wants to know besides."""

    future: Future
    confidence: float | None
    """Confidence that the model prints where this event is the first of its answer, from 0 to 1;
    None where it prints none."""
    evidence: tuple[Evidence, ...]
    """All parts of the video, the one that the event rests on most first."""


class Forecasts(NamedTuple):
    """The likeliest next events of one video."""

    items: tuple[Forecast, ...]
    """The likeliest first; empty where the model writes no event."""
    futures: tuple[Future, ...]
    """All events that were found, the likeliest first, whose probabilities sum to 1."""
    covered_mass: float
    """Probability, from 0 to 1, that the first event that the model writes is one of these."""


class FutureSearch:
    """The next events of videos by one language model, which is in eval mode.

    Args:
        model: The language model.
        tokenizer: Its tokenizer.
        system_prompt: As configured for the reasoner.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        system_prompt: str | None = None,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._system_prompt = system_prompt

    def futures(
        self, video: Tensor, config: FuturesConfig, num_described: int = 0
    ) -> list[tuple[Future, ...]]:
        """Find and score the candidates for the next event.

        Args:
            video: Video embeddings, shape ``(V, Q, D)``.
            config: How to search.
            num_described: How many of each video get a justification and an expected time.

        Returns:
            For each video, the events that were found, the likeliest first; none where the model
            writes no line that says something.
        """
        candidates = self.candidates(video, config)
        # All events of all videos are scored in one go; what says nothing has no text.
        scored = [
            (index, event, text)
            for index, events in enumerate(candidates)
            for event in events
            if (text := self.event_text(event)) is not None
        ]
        sums = self._log_likelihoods(
            video, [index for index, _, _ in scored], [text for _, _, text in scored]
        )
        by_video: list[dict[str, float]] = [{} for _ in candidates]
        for (index, event, _), value in zip(scored, sums, strict=True):
            by_video[index][event] = value
        futures = [merge_candidates(values, config.temperature) for values in by_video]
        # Only the likeliest are described: each description is generated.
        videos = [index for index, events in enumerate(futures) for _ in events[:num_described]]
        described = [future.event for events in futures for future in events[:num_described]]
        descriptions = iter(self._describe(video, videos, described))
        return [
            (
                *(_described(future, next(descriptions)) for future in events[:num_described]),
                *events[num_described:],
            )
            for events in futures
        ]

    def forecasts(
        self, video: Tensor, parts: Sequence[Evidence], config: FuturesConfig, num_events: int
    ) -> Forecasts:
        """Return the likeliest next events of one video, and what they rest on.

        Args:
            video: The video's embeddings, then those without each part, shape
                ``(1 + parts, Q, D)``.
            parts: The parts that are left out.
            config: How to search.
            num_events: At most this many.
        """
        (candidates,) = self.futures(video[:1], config)
        futures = candidates[:num_events]
        events = [future.event for future in futures]
        descriptions = self._describe(video, [0] * len(events), events)
        # Each event with the whole video, and without each part: (events, 1 + parts)
        texts = [text for text in self._event_texts(events) for _ in video]
        of_texts = list(range(len(video))) * len(events)
        sums = iter(self._log_likelihoods(video, of_texts, texts))
        forecasts = []
        for future, description in zip(futures, descriptions, strict=True):
            whole, *without = (next(sums) for _ in video)
            evidence = [
                part._replace(support=whole - value)
                for part, value in zip(parts, without, strict=True)
            ]
            evidence.sort(key=lambda part: -part.support)
            forecasts.append(
                Forecast(_described(future, description), description.confidence, tuple(evidence))
            )
        return Forecasts(tuple(forecasts), candidates, covered_mass(candidates))

    def candidates(self, video: Tensor, config: FuturesConfig) -> list[list[str]]:
        """Return different texts of first events for each video, in the order of the search."""
        # All videos have the same prompt: (T,) -> (V, Q + T, D)
        prompt = self._embed(self._prefix).expand(len(video), -1, -1)
        prefix = torch.cat([video.to(prompt.dtype), prompt], dim=1)
        if config.method == "beam":
            lines = beam_lines(
                self._model, prefix, self._line_tokens, config.num_candidates, MAX_EVENT_TOKENS
            )
        else:
            greedy = config.method == "greedy"
            lines = drawn_lines(
                *(self._model, prefix, self._line_tokens),
                *(1 if greedy else config.num_candidates, MAX_EVENT_TOKENS),
                *(0.0 if greedy else _TOP_P, _SEED),
            )
        return [list(dict.fromkeys(filter(None, map(self._event, of_one)))) for of_one in lines]

    def event_text(self, event: str) -> EncodedText | None:
        """Return the prompt with the line of an event as its answer's first one.

        Scored are the tokens after the item's number, as far as the end of the line. None for an
        event that this tokenizer joins with the number, so that it cannot come after it.
        """
        # Something has to follow: a template may trim the line break from the end of an answer.
        ids, _ = self._encode(FUTURE_PREDICTION_PROMPT, f"1. {event}\nJustification:")
        start = len(self._prefix)
        if ids[:start] != self._prefix:
            return None
        ends = set(line_end_ids(self._tokenizer))
        stop = next((n for n in range(start, len(ids)) if ids[n] in ends), len(ids)) + 1
        if stop > len(ids):
            return None
        return EncodedText(ids[:stop], [IGNORE_INDEX] * start + ids[start:stop])

    def _describe(
        self, video: Tensor, videos: Sequence[int], events: Sequence[str]
    ) -> list[_Description]:
        """Describe events; of each, ``videos`` has the index of its video."""
        if not events:
            return []
        reasons = self._reasons(video, videos, events)
        timed = [number for number, event in enumerate(events) if not is_no_event(event)]
        means = self._seconds(video, [videos[n] for n in timed], [events[n] for n in timed])
        seconds = dict(zip(timed, means, strict=True))
        return [_Description(*one, seconds.get(n)) for n, one in enumerate(reasons)]

    def _reasons(
        self, video: Tensor, videos: Sequence[int], events: Sequence[str]
    ) -> list[tuple[str, float | None]]:
        """Let the model go on after each event: its justification and printed confidence."""
        prompts = [text.input_ids for text in self._event_texts(events)]
        inputs, mask = prompt_embeddings(self._model, video[list(videos)], prompts)
        answers = generate_lines(
            *(self._model, inputs, mask, _REASON_LINES, MAX_REASON_TOKENS),
            *(line_end_ids(self._tokenizer), stop_ids(self._tokenizer)),
            read_prompts(self._model, video, videos, prompts),
        )
        return [_reason(answer_text(self._tokenizer, answer)) for answer in answers]

    def _seconds(
        self, video: Tensor, videos: Sequence[int], events: Sequence[str]
    ) -> list[float | None]:
        """Mean over :data:`EVENT_SECONDS`, each weighted by its likelihood as the answer."""
        if not events:
            return []
        texts = [
            self._encode(open_ended_prompt(event_time_question(event)), event_time_answer(seconds))
            for event in events
            for seconds in EVENT_SECONDS
        ]
        of_texts = [index for index in videos for _ in EVENT_SECONDS]
        sums = torch.tensor(self._log_likelihoods(video, of_texts, texts), dtype=torch.float64)
        # (events * times,) -> (events, times)
        weights = sums.view(len(events), len(EVENT_SECONDS)).softmax(1)
        means = (weights @ weights.new_tensor(EVENT_SECONDS)).tolist()
        return [mean if math.isfinite(mean) else None for mean in means]

    def _event_texts(self, events: Sequence[str]) -> list[EncodedText]:
        """Return the texts of events that were found, and so have one."""
        texts = [text for event in events if (text := self.event_text(event)) is not None]
        assert len(texts) == len(events)
        return texts

    @cached_property
    def _prompt(self) -> list[int]:
        return encode_prompt(self._tokenizer, FUTURE_PREDICTION_PROMPT, self._system_prompt)

    @cached_property
    def _prefix(self) -> list[int]:
        """Tokens of the prompt and the number of the first item, which any event comes after."""
        answers = [
            self._encode(FUTURE_PREDICTION_PROMPT, f"1. {beginning}\nx").input_ids
            for beginning in _BEGINNINGS
        ]
        # A tokenizer may join the number with what follows: the prefix ends where answers differ.
        shared = min(map(len, answers))
        for position in range(len(self._prompt), shared):
            if len({answer[position] for answer in answers}) > 1:
                shared = position
                break
        return answers[0][:shared]

    @cached_property
    def _line_tokens(self) -> LineTokens:
        return line_tokens(self._tokenizer, self._model, self._device)

    @property
    def _device(self) -> torch.device:
        weight = self._model.get_input_embeddings().weight
        assert isinstance(weight, Tensor)
        return weight.device

    def _encode(self, prompt: str, response: str) -> EncodedText:
        return encode_example(self._tokenizer, prompt, response, _UNLIMITED, self._system_prompt)

    def _embed(self, ids: list[int] | Tensor) -> Tensor:
        embeddings: Tensor = self._model.get_input_embeddings()(
            torch.as_tensor(ids, device=self._device)
        )
        return embeddings

    def _event(self, line: list[int]) -> str:
        """The event of a generated line; empty where it is no text."""
        number = self._prefix[len(self._prompt) :]
        # Decoded with its number: a blank before the first word depends on what is before it.
        text = str(self._tokenizer.decode(number + line, skip_special_tokens=True)).lstrip()
        event = " ".join(text.removeprefix("1.").partition("\n")[0].split())
        # Half a character, as the longest line may end with.
        return "" if "\ufffd" in event else event

    def _log_likelihoods(
        self, video: Tensor, videos: Sequence[int], texts: Sequence[EncodedText]
    ) -> list[float]:
        sums: list[float] = text_log_likelihoods(self._model, video, videos, texts).tolist()
        return sums


def _described(future: Future, description: _Description) -> Future:
    return future._replace(justification=description.justification, seconds=description.seconds)


def _reason(continuation: str) -> tuple[str, float | None]:
    """Read what the model writes below an event."""
    # The event is replaced: it may hold anything.
    if items := parse_predictions(f"1. event\n{continuation}").items:
        return items[0].justification, items[0].confidence
    # Without a confidence nothing is a prediction, and what comes after one line may be the next.
    line = continuation.strip().partition("\n")[0]
    items = parse_predictions(f"1. event\n{line}\nConfidence: 0").items
    return items[0].justification if items else "", None
