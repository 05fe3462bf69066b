"""``load()``: a reasoner with its perceiver, which answers about videos. Algorithm 1 whole.

A video is perceived once: several questions about it share its visual tokens. Each answer says what
it rests on: the parts of the video without which it would be less likely.

Shapes: P parts of a video, Q video embeddings, D width.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import torch
from torch import Tensor

from vidreason.answer import (
    Answer,
    Choice,
    Explanation,
    Forecast,
    Timings,
    TokenCounts,
)
from vidreason.conversation import Chat, checked_options, checked_question
from vidreason.devices import torch_device
from vidreason.evaluation.next_events.forecast_calibration import (
    ForecastCalibration,
    calibration_of_folder,
)
from vidreason.example import Turn
from vidreason.model import DecodingConfig, VideoReasoner
from vidreason.perceived_videos import Look, PerceivedVideos
from vidreason.perception.perceiver import Perceiver, build_perceiver
from vidreason.perception.visual_tokens import (
    OBJECT_TOKEN,
    VisualTokens,
    collate_visual_tokens,
    move_visual_tokens,
)
from vidreason.pretrained.hub import local_reasoner_folder
from vidreason.pretrained.packaged import shipped_reasoner
from vidreason.reasoning.evidence import Evidence, parts_left_out
from vidreason.reasoning.explanations import parse_explanation
from vidreason.reasoning.forecast_text import LikelyEvents
from vidreason.reasoning.future_search import Forecasts
from vidreason.reasoning.language_model import causal_lm
from vidreason.reasoning.prompts import (
    CAUSAL_EXPLANATION_PROMPT,
    FUTURE_PREDICTION_PROMPT,
    multiple_choice_prompt,
    open_ended_prompt,
)
from vidreason.reasoning.reasoner_config import FuturesConfig
from vidreason.video.given import VideoLike

_METHODS = get_args(get_type_hints(FuturesConfig)["method"])
_UNLIMITED = 1 << 20  # tokens: no text has as many
_SHORTEST = DecodingConfig(max_new_tokens=1)


def load(
    name_or_path: str | Path = "",
    device: str | torch.device = "cpu",
    *,
    revision: str | None = None,
    frozen_parts: Mapping[str, str] | None = None,
) -> "VideoPipeline":
    """Load a reasoner with the perceiver that it was trained with.

    Args:
        name_or_path: A reasoner's folder, such as ``runs/demo/stage2/reasoner``, or a repository on
            the Hugging Face Hub; empty for the small one that comes with the package.
        device: Where it computes; ``auto`` takes CUDA where there is one.
        revision: Commit, tag or branch of the repository.
        frozen_parts: Where frozen parts lie here, if not where the folder says, by
            ``language_model``, ``video_encoder`` and ``segmenter``.

    Raises:
        ValueError: Something is missing, damaged or unexpected; the message names it.
    """
    device = torch_device(str(device))
    folder = local_reasoner_folder(name_or_path or shipped_reasoner(), revision)
    reasoner = VideoReasoner.from_pretrained(folder, device, frozen_parts=frozen_parts)
    assert reasoner.perceiver is not None  # it comes with every folder
    calibration = calibration_of_folder(folder)
    return VideoPipeline(reasoner, build_perceiver(reasoner.perceiver, device), calibration)


class VideoPipeline:
    """Answers about videos; made by :func:`load`.

    Videos are given in any form of :data:`~vidreason.video.given.VideoLike`; ``fps`` is for frames
    alone, ``start`` and ``end`` are seconds. All methods raise a ``VideoReadError`` for a video
    that cannot be read, and a ``ValueError`` for what cannot be meant.

    Args:
        reasoner: In eval mode.
        perceiver: Of its visual tokens.
        calibration: Of computed futures, as far as they are searched for in its way; None for
            probabilities as the language model gives them.
    """

    def __init__(
        self,
        reasoner: VideoReasoner,
        perceiver: Perceiver,
        calibration: ForecastCalibration | None = None,
    ) -> None:
        self.reasoner = reasoner
        self.perceiver = perceiver
        self.calibration = calibration
        self._look = PerceivedVideos(perceiver).look

    def perceive(
        self,
        video: VideoLike,
        *,
        fps: float | None = None,
        start: float | None = None,
        end: float | None = None,
    ) -> VisualTokens:
        """Return the visual tokens of a video, as the reasoner is shown them."""
        return self._look(video, fps, start, end).tokens

    def ask(
        self,
        video: VideoLike,
        question: str,
        *,
        fps: float | None = None,
        start: float | None = None,
        end: float | None = None,
        decoding: DecodingConfig | None = None,
        evidence: bool = True,
    ) -> Answer:
        """Answer a question in a few words; without ``evidence``, what it rests on is not computed.

        Evidence takes the likelihood of the answer once more for each clip and each object.
        """
        prompt = open_ended_prompt(checked_question(question))
        look = self._look(video, fps, start, end)
        return self._generate(look, prompt, decoding, evidence=evidence)

    def explain(
        self,
        video: VideoLike,
        *,
        fps: float | None = None,
        start: float | None = None,
        end: float | None = None,
        decoding: DecodingConfig | None = None,
        evidence: bool = True,
    ) -> Explanation:
        """Explain step by step how the video ends, with Figure 2's prompt; see :meth:`ask`."""
        look = self._look(video, fps, start, end)
        answer = self._generate(look, CAUSAL_EXPLANATION_PROMPT, decoding, evidence=evidence)
        return Explanation(**vars(answer), steps=parse_explanation(answer.text))

    def predict(
        self,
        video: VideoLike,
        *,
        fps: float | None = None,
        start: float | None = None,
        end: float | None = None,
        num_events: int = 3,
        method: str = "",
        decoding: DecodingConfig | None = None,
    ) -> Forecast:
        """Predict what happens next: events with computed probabilities, times and evidence.

        Args:
            video: The video.
            fps: Of frames.
            start: Of the span that is looked at.
            end: Of the span that is looked at.
            num_events: At most this many.
            method: ``beam``, ``nucleus`` or ``greedy``: where candidates come from. Empty for the
                reasoner's own way.
            decoding: How the printed prediction is generated.
        """
        if method not in ("", *_METHODS):
            raise ValueError(f"method: expected one of {', '.join(_METHODS)}, found {method!r}")
        if num_events < 1:
            raise ValueError(f"num_events is {num_events}; it must be at least 1")
        look = self._look(video, fps, start, end)
        # That of the forecast follows.
        answer = self._generate(look, FUTURE_PREDICTION_PROMPT, decoding, evidence=False)
        began = time.perf_counter()
        futures = (decoding or self.reasoner.decoding).futures
        futures = replace(futures, method=method or futures.method)  # type: ignore[arg-type]
        forecasts = self.reasoner.forecast(look.tokens, futures, num_events)
        likely = None
        if self.calibration is not None and self.calibration.is_for(futures):
            forecasts, likely = _calibrated(forecasts, self.calibration)
        seconds = answer.timings.answer_seconds + time.perf_counter() - began
        top = forecasts.items[0] if forecasts.items else None
        printed = answer.text
        answer = replace(
            answer,
            text=printed if top is None else top.future.event,
            confidence=None if top is None else top.future.probability,
            evidence=() if top is None else top.evidence,
            timings=replace(answer.timings, answer_seconds=seconds),
        )
        return Forecast(**vars(answer), printed=printed, forecasts=forecasts, likely=likely)

    def choose(
        self,
        video: VideoLike,
        question: str,
        options: Sequence[str],
        *,
        fps: float | None = None,
        start: float | None = None,
        end: float | None = None,
    ) -> Choice:
        """Choose one of several answers: the likeliest by the mean over its tokens."""
        # Both are checked before the video is looked at, which takes longer.
        prompt = multiple_choice_prompt(checked_question(question), checked_options(options))
        look = self._look(video, fps, start, end)
        began = time.perf_counter()
        num_tokens = self._checked_length(prompt)
        parts, without = parts_left_out(look.tokens)
        likelihoods = self._log_likelihoods([look.tokens, *without], prompt, options, mean=True)
        shares = likelihoods.softmax(1)  # (1 + P, options)
        index = int(shares[0].argmax())
        # Of the chosen option with all parts, and without each: (1 + P,)
        answer = self._made(look, num_tokens, options[index], began, shares[:, index].log(), parts)
        return Choice(
            **vars(answer),
            options=tuple(options),
            index=index,
            probabilities=tuple(shares[0].tolist()),
        )

    def chat(
        self,
        video: VideoLike,
        *,
        fps: float | None = None,
        start: float | None = None,
        end: float | None = None,
    ) -> Chat:
        """Begin a conversation about a video."""
        look = self._look(video, fps, start, end)

        def generate(
            prompt: str, decoding: DecodingConfig | None, turns: Sequence[Turn], evidence: bool
        ) -> Answer:
            return self._generate(look, prompt, decoding, evidence=evidence, earlier_turns=turns)

        return Chat(generate, self._num_tokens, self._room)

    def _num_tokens(self, prompt: str, earlier_turns: Sequence[Turn] = ()) -> int:
        return len(self.reasoner.encode_prompt(prompt, earlier_turns))

    def _room(self, decoding: DecodingConfig | None) -> int | None:
        """Return how long a prompt may be for the longest answer; None for any length."""
        config = causal_lm(self.reasoner.language_model).config
        limit = getattr(config, "max_position_embeddings", None)
        if limit is None:
            return None
        decoding = decoding or self.reasoner.decoding
        # Positions that are left beside the video and the answer.
        return int(limit) - self.reasoner.fusion.num_embeddings - decoding.max_new_tokens

    def _checked_length(self, prompt: str, earlier_turns: Sequence[Turn] = ()) -> int:
        """Return the tokens of a prompt; a ``ValueError`` if there is no room for an answer."""
        # Room for one token is enough: an answer that is cut says so.
        number, room = self._num_tokens(prompt, earlier_turns), self._room(_SHORTEST)
        if room is not None and number > room:
            raise ValueError(
                f"question: it has {number} tokens, and this language model reads at most {room} "
                "beside the video; ask in fewer words"
            )
        return number

    def _generate(
        self,
        look: Look,
        prompt: str,
        decoding: DecodingConfig | None,
        *,
        evidence: bool = True,
        earlier_turns: Sequence[Turn] = (),
    ) -> Answer:
        began = time.perf_counter()
        num_tokens = self._checked_length(prompt, earlier_turns)
        decoding = decoding or self.reasoner.decoding
        visual = collate_visual_tokens([look.tokens])
        (ids,) = self.reasoner.generate_ids(visual, [prompt], decoding, [earlier_turns])
        (text,) = self.reasoner.decode([ids])
        # The answer once more with each part left out: (1 + P,).
        parts, likelihoods = list[Evidence](), torch.zeros(0)
        if text:
            without = list[VisualTokens]()
            if evidence:
                parts, without = parts_left_out(look.tokens)
            likelihoods = self._log_likelihoods(
                [look.tokens, *without], prompt, [text], earlier_turns=earlier_turns
            )[:, 0]  # (1 + P, 1) -> (1 + P,)
        answer = self._made(look, num_tokens, text, began, likelihoods, parts)
        if len(ids) >= decoding.max_new_tokens:
            cut = f"the answer was cut at max_new_tokens={decoding.max_new_tokens}"
            answer = replace(answer, warnings=(*answer.warnings, cut))
        return answer

    def _made(
        self,
        look: Look,
        num_prompt_tokens: int,
        text: str,
        began: float,
        likelihoods: Tensor,
        parts: Sequence[Evidence],
    ) -> Answer:
        """Put an answer together.

        Args:
            look: What it is about.
            num_prompt_tokens: Of what was asked.
            text: The answer.
            began: When it was asked, by ``perf_counter``.
            likelihoods: The answer's log-likelihoods, ``(1 + P,)``: with all parts, and without
                each; nothing where they are not known.
            parts: The parts that were left out.
        """
        evidence = [
            # By how much likelier the answer is with the part than without.
            part._replace(support=float(likelihoods[0] - without))
            for part, without in zip(parts, likelihoods[1:], strict=True)
        ]
        evidence.sort(key=lambda part: -part.support)
        sees_objects = self.perceiver.segmenter is not None
        no_objects = sees_objects and not bool((look.tokens.kinds == OBJECT_TOKEN).any())
        return Answer(
            text=text,
            confidence=float(likelihoods[0].exp()) if len(likelihoods) else None,
            evidence=tuple(evidence),
            tokens=TokenCounts(
                visual=len(look.tokens),
                embeddings=self.reasoner.fusion.num_embeddings,
                prompt=num_prompt_tokens,
                answer=len(self.reasoner.tokenizer.encode(text, add_special_tokens=False)),
            ),
            timings=Timings(
                perceive_seconds=look.seconds, answer_seconds=time.perf_counter() - began
            ),
            warnings=("no objects were seen in the video",) if no_objects else (),
            media=look.media,
            start_seconds=look.start,
            end_seconds=look.end,
            visual_tokens=look.tokens,
            sampling=self.perceiver.config.sampling,
        )

    @torch.no_grad()
    def _log_likelihoods(
        self,
        videos: Sequence[VisualTokens],
        prompt: str,
        answers: Sequence[str],
        *,
        mean: bool = False,
        earlier_turns: Sequence[Turn] = (),
    ) -> Tensor:
        """Return ``(videos, answers)``: sums over each answer's tokens, or means."""
        encode = self.reasoner.encode_example
        texts = [encode(prompt, answer, _UNLIMITED, earlier_turns) for answer in answers]
        device = next(self.reasoner.fusion.parameters()).device
        visual = move_visual_tokens(collate_visual_tokens(list(videos)), device)
        of_texts = [number for number in range(len(videos)) for _ in texts]
        sums, counts = self.reasoner.response_log_likelihoods(
            visual, of_texts, [text for _ in videos for text in texts]
        )
        # (videos * answers,) -> (videos, answers)
        return (sums / counts if mean else sums).view(len(videos), len(answers))


def _calibrated(
    forecasts: Forecasts, calibration: ForecastCalibration
) -> tuple[Forecasts, LikelyEvents]:
    futures = calibration.calibrated(forecasts.futures)
    probabilities = {future.event: future.probability for future in futures}
    items = tuple(
        item._replace(future=item.future._replace(probability=probabilities[item.future.event]))
        for item in forecasts.items
    )
    events = calibration.likely(forecasts.futures)
    likely = LikelyEvents(events, calibration.level, calibration.num_videos)
    return forecasts._replace(items=items, futures=futures), likely
