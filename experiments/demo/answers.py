"""Single test videos as the demo shows them: answers, explanation, futures, and the truth."""

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from data_modules.corpus_index import open_corpora
from experiments.experiment_config import ExperimentConfig
from experiments.kept_runs import predictions_file
from experiments.trained_model import answer_prompts, load_trained_model
from vidreason.atomic_file import write_json_atomically
from vidreason.evaluation.predictions.row_files import read_predictions
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.example import Example
from vidreason.microworld.corpora import rollout_of_video
from vidreason.microworld.language import NOTHING, sentence
from vidreason.microworld.simulation import HORIZON_SECONDS, VIDEO_SECONDS
from vidreason.reasoning.prompts import EVENT_REASONING_PROMPT

ANSWERS_FILE = "answers.json"
_SHOWN_CORPORA = ("nextqa", "activitynet_qa")
"""Corpora of the questions that are shown: one multiple-choice, one open-ended."""


@dataclass(kw_only=True)
class ShownQuestion:
    """A benchmark question with the full model's answer and the blind one's."""

    question: str
    options: list[str]
    """Empty for an open-ended question."""
    reference: str
    answer: str
    correct: bool
    blind_answer: str
    blind_correct: bool


@dataclass(kw_only=True)
class ShownFuture:
    """One of the predicted next events."""

    event: str
    justification: str
    probability: float
    """Computed, see :mod:`vidreason.reasoning.future_search`."""
    happened: bool
    """True if the simulator says that it came next."""


@dataclass(kw_only=True)
class ShownVideo:
    """All that is shown of one test video."""

    video_id: str
    media: str
    questions: list[ShownQuestion]
    explanation: str
    """The answer to the event-reasoning prompt."""
    reference_explanation: str
    futures: list[ShownFuture]
    """The likeliest first; empty where the model wrote no event."""
    events_after: list[str]
    """Events that happened, by the simulator, after the video's end, in order."""


def answer_questions(
    config: ExperimentConfig, *, num_videos: int, world_seed: int
) -> list[ShownVideo]:
    """Answer about some of the benchmark's videos with the trained model.

    Videos and questions are drawn without a look at any answer: one multiple-choice and one
    open-ended question a video, as far as there are any.

    Args:
        config: Stage 2's configuration, evaluated with the controls ``none`` and ``blind``.
        num_videos: How many videos.
        world_seed: The seed that the test videos were drawn with.
    """
    # Fixed, and used before any prediction is read: no look at an answer can move the choice.
    generator = random.Random(0)
    examples = list(open_corpora(config.data.benchmark, config.data.max_malformed_fraction))
    by_video: dict[str, list[Example]] = {}
    for example in examples:
        if example.corpus in _SHOWN_CORPORA:
            by_video.setdefault(example.video_id, []).append(example)
    shown = sorted(generator.sample(sorted(by_video), min(num_videos, len(by_video))))
    # The evaluation has asked the questions; explanations and futures are asked for below.
    predictions, blind = (
        {row.id: row for row in read_predictions(predictions_file(config, control))}
        for control in ("none", "blind")
    )
    explanations = _reference_explanations(config)
    reasoner, source = load_trained_model(config)
    videos = []
    for video_id in shown:
        about_video = by_video[video_id]
        media = about_video[0].media
        tokens = source(media, None, None)
        (explanation,) = answer_prompts(reasoner, tokens, [EVENT_REASONING_PROMPT], config.decoding)
        forecasts = reasoner.forecast(tokens, config.decoding.futures)
        events_after = _events_after(video_id, world_seed)
        videos.append(
            ShownVideo(
                video_id=video_id,
                media=media,
                questions=[
                    _shown_question(example, predictions[example.id], blind[example.id])
                    for example in _one_of_each_corpus(about_video, generator)
                ],
                explanation=explanation,
                reference_explanation=explanations.get(video_id, ""),
                futures=[
                    ShownFuture(
                        event=item.future.event,
                        justification=item.future.justification,
                        probability=item.future.probability,
                        # Word for word the first event of the simulator's after the video.
                        happened=item.future.event == events_after[0],
                    )
                    for item in forecasts.items
                ],
                events_after=events_after,
            )
        )
    return videos


def write_answers(folder: Path, videos: Sequence[ShownVideo]) -> None:
    """Write ``answers.json``."""
    write_json_atomically(folder / ANSWERS_FILE, [asdict(video) for video in videos])


def read_answers(folder: Path) -> list[ShownVideo]:
    """Read ``answers.json``."""
    videos = []
    for row in json.loads((folder / ANSWERS_FILE).read_text()):
        row["questions"] = [ShownQuestion(**question) for question in row["questions"]]
        row["futures"] = [ShownFuture(**future) for future in row["futures"]]
        videos.append(ShownVideo(**row))
    return videos


def answers_text(video: ShownVideo) -> str:
    """The answers about one video, for a terminal."""
    lines = [video.media]
    for shown in video.questions:
        mark = "right" if shown.correct else f"wrong, it is: {shown.reference}"
        lines += [f"  ? {shown.question}", f"  > {shown.answer}  ({mark})"]
    lines += ["  ? why did it end like this", *_indented(video.explanation)]
    lines.append("  ? what happens next")
    for future in video.futures:
        truth = "it did" if future.happened else "it did not"
        lines.append(f"  > {future.probability:.0%} {future.event}  ({truth})")
    return "\n".join(lines)


def _indented(text: str) -> list[str]:
    return [f"  > {line}" for line in text.splitlines()]


def _one_of_each_corpus(examples: Sequence[Example], generator: random.Random) -> list[Example]:
    corpora = dict.fromkeys(example.corpus for example in examples)
    return [generator.choice([e for e in examples if e.corpus == corpus]) for corpus in corpora]


def _shown_question(
    example: Example, prediction: BenchmarkPrediction, blind: BenchmarkPrediction
) -> ShownQuestion:
    return ShownQuestion(
        question=example.meta["question"],
        options=list(example.options),
        # The right option's text, or the words of the open answer.
        reference=example.response,
        answer=_answer_text(prediction),
        correct=bool(prediction.correct),
        blind_answer=_answer_text(blind),
        blind_correct=bool(blind.correct),
    )


def _answer_text(prediction: BenchmarkPrediction) -> str:
    # The option that was understood; where none was, what was said.
    if prediction.options and isinstance(prediction.parsed, int):
        return prediction.options[prediction.parsed]
    return prediction.output


def _reference_explanations(config: ExperimentConfig) -> dict[str, str]:
    """The explanations that the simulator wrote for the test videos."""
    corpora = [
        # Of all test videos, however few of them are asked about.
        replace(corpus, split="test", limit=None)
        for corpus in config.data.benchmark
        if corpus.reader == "causal_vid_instruct"
    ]
    return {
        example.video_id: example.response
        for example in open_corpora(corpora, config.data.max_malformed_fraction)
        if example.question_type == "explanation"
    }


def _events_after(video_id: str, world_seed: int) -> list[str]:
    """Events that the simulator lets happen between the end of a test video and its horizon."""
    rollout = rollout_of_video(video_id, world_seed)
    events = rollout.happened(before=HORIZON_SECONDS, after=VIDEO_SECONDS)
    # Where nothing happens any more, that is the event that is to be predicted.
    return [sentence(rollout, event) for event in events] or [NOTHING]
