"""The questions of a page's browser: which are shown, and what is said of each."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

from vidreason.evaluation.confidence.temperature import option_probabilities
from vidreason.evaluation.page.pictures import PictureSource
from vidreason.evaluation.predictions.rows import BenchmarkPrediction, grade, has_finite_scores
from vidreason.evaluation.protocols import PROTOCOLS, Protocol
from vidreason.evaluation.tables import value_text
from vidreason.example import MediaSpan
from vidreason.reasoning.prompts import multiple_choice_prompt
from vidreason.video.failures import VideoReadError

MAX_ITEMS = 20_000
"""At most this many questions are in a browser: of texts alone, some 20 MB."""

Verdict = Literal["right", "wrong", "invalid", "unreadable", "unscored"]

T = TypeVar("T")


def verdict(
    prediction: BenchmarkPrediction, protocols: Mapping[str, Protocol] = PROTOCOLS
) -> Verdict:
    """Say what the tables count a graded prediction as.

    ``invalid`` (names no option, span or event) and ``unreadable`` (the video) count as wrong;
    ``unscored`` (the reference is hidden, or the system cannot answer) is not counted. Where a
    measure gives parts of a point, only the whole is right.
    """
    if prediction.correct is None:
        return "unscored"
    if prediction.error:
        return "unreadable"
    value = protocols.get(prediction.corpus, Protocol()).measure(prediction)
    if value is None:
        return "invalid"
    return "right" if value == 1 else "wrong"


def choose_items(
    predictions: Sequence[BenchmarkPrediction],
    limit: int,
    protocols: Mapping[str, Protocol] = PROTOCOLS,
) -> list[BenchmarkPrediction]:
    """Some predictions, the same ones each time, in their order.

    As many of each corpus, and in it of right, not right and unscored ones, as there are or as an
    equal share is; what one cannot fill goes to the others. Each kind is taken at equal distances
    over its file.

    Args:
        predictions: Of one run, graded.
        limit: How many at most.
        protocols: What is right.
    """
    # Corpus -> kind -> indices of its predictions.
    kinds: dict[str, dict[str, list[int]]] = {}
    for index, row in enumerate(predictions):
        counted_as = verdict(row, protocols)
        kind = counted_as if counted_as in ("right", "unscored") else "wrong"
        kinds.setdefault(row.corpus, {}).setdefault(kind, []).append(index)
    sizes = [sum(map(len, row.values())) for row in kinds.values()]
    chosen: list[int] = []
    # First over the corpora, then over the kinds of each.
    for share, of_corpus in zip(fair_shares(sizes, limit), kinds.values(), strict=True):
        of_kinds = list(of_corpus.values())
        for number, of_kind in zip(
            fair_shares([*map(len, of_kinds)], share), of_kinds, strict=True
        ):
            chosen += _evenly(of_kind, number)
    return [predictions[index] for index in sorted(chosen)]


def fair_shares(sizes: Sequence[int], total: int) -> list[int]:
    """Divide ``total``: each gets all it wants of ``sizes``, or as many as the others.

    What cannot be divided evenly goes to the first.
    """
    # What those with little leave over is divided among the others, until nothing is left.
    shares = [0] * len(sizes)
    left = min(total, sum(sizes))
    while left > 0:
        wanting = [index for index, size in enumerate(sizes) if shares[index] < size]
        step, rest = divmod(left, len(wanting))
        for number, index in enumerate(wanting):
            more = min(step + (number < rest), sizes[index] - shares[index])
            shares[index] += more
            left -= more
    return shares


def browser_data(
    runs: Mapping[str, Sequence[BenchmarkPrediction]],
    *,
    pictures: PictureSource | None,
    num_pictured: int,
    protocols: Mapping[str, Protocol] = PROTOCOLS,
    max_items: int = MAX_ITEMS,
) -> dict[str, Any]:
    """Content of the browser, as ``browser.js`` reads it from JSON.

    Args:
        runs: Predictions by name; the questions are those of the first run, of which some may
            be missing in the others.
        pictures: Where frames come from; None for none.
        num_pictured: The frames of this many questions, chosen by :func:`choose_items`, are shown;
            other questions about the same spans have them, too.
        protocols: What is right.
        max_items: How many questions there are at most.
    """
    graded = {name: {row.id: grade(row) for row in rows} for name, rows in runs.items()}
    first = list(next(iter(graded.values())).values())
    shown = choose_items(first, max_items, protocols)
    videos: list[dict[str, Any]] = []
    video_of_item: dict[str, int] = {}
    if pictures is not None:
        pictured = choose_items(shown, num_pictured, protocols)
        # Each span once, in the order of the questions.
        spans = dict.fromkeys(span for question in pictured if (span := pictures.span(question.id)))
        numbers = {}
        for span in spans:
            video = _video(pictures, span)
            if video not in videos:  # corpora may have copies of one video
                videos.append(video)
            numbers[span] = videos.index(video)
        for question in shown:
            if (span := pictures.span(question.id)) in numbers:
                video_of_item[question.id] = numbers[span]
    return {
        "runs": list(runs),
        "num_questions": len(first),
        "num_pictured": num_pictured if pictures is not None else None,
        "videos": videos,
        "items": [
            _item(
                question,
                video_of_item.get(question.id),
                [rows.get(question.id) for rows in graded.values()],
                protocols,
            )
            for question in shown
        ],
    }


def _video(pictures: PictureSource, span: MediaSpan) -> dict[str, Any]:
    try:
        frames = pictures.frames(span)
    except VideoReadError as error:
        return {"frames": [], "missing": str(error)}
    return {
        "frames": [
            {"seconds": frame.seconds, "num_objects": frame.num_objects, "picture": frame.data_uri}
            for frame in frames
        ],
        "missing": "",
    }


def _item(
    row: BenchmarkPrediction,
    video: int | None,
    answers: Sequence[BenchmarkPrediction | None],
    protocols: Mapping[str, Protocol],
) -> dict[str, Any]:
    return {
        "id": row.id,
        "corpus": row.corpus,
        "type": row.question_type,
        "video_id": row.video_id,
        "question": _question(row),
        "options": row.options,
        "right": row.reference if isinstance(row.reference, int) else None,
        "reference": _in_words(row.reference, row.options) or "\n\n".join(row.reference_texts),
        "video": video,
        "answers": [
            None if answer is None else _answer_entry(answer, protocols) for answer in answers
        ],
    }


def _answer_entry(row: BenchmarkPrediction, protocols: Mapping[str, Protocol]) -> dict[str, Any]:
    # A prior's are an order and no likelihoods: no tokens were scored.
    # Of scores that are not finite, which JSON cannot hold, the verdict says that they are invalid.
    is_scored = bool(row.option_token_counts) and has_finite_scores(row)
    scores = row.option_log_likelihoods if is_scored else ()
    shares = option_probabilities(scores) if scores else ()
    chosen = row.parsed if row.options and isinstance(row.parsed, int) else None
    return {
        "verdict": verdict(row, protocols),
        "score": _text_score(row, protocols.get(row.corpus, Protocol())),
        "chosen": chosen,
        "text": _in_words(row.parsed, row.options) if chosen is not None else row.output,
        "output": row.output,
        "shares": [round(share, 4) for share in shares],
        "scores": [round(score, 3) for score in scores],
        "error": row.error,
    }


def _text_score(row: BenchmarkPrediction, protocol: Protocol) -> str:
    """Name and value of the first score of a free answer beside its reference texts, if any."""
    if row.error or row.missing_capability or not row.reference_texts:
        return ""
    for name, score in protocol.texts.items():
        if row.question_type == score.question_type and score.applies(row):
            return f"{name} {value_text(score.measure(row) or 0.0)}"
    return ""


def _question(row: BenchmarkPrediction) -> str:
    """The prompt without the options, which are listed below it."""
    if len(row.options) < 2:
        return row.prompt
    return row.prompt.removesuffix(multiple_choice_prompt("", row.options)).rstrip()


def _in_words(
    value: int
    | str
    | tuple[float, float]
    | tuple[str, ...]
    | tuple[tuple[float, float], ...]
    | None,
    options: Sequence[str],
) -> str:
    """An answer or a reference in words; empty for None."""
    match value:
        case None:
            return ""
        case int():
            return options[value] if 0 <= value < len(options) else str(value)
        case str():
            return value
        case (float() | int() as start, float() | int() as end):
            return f"{start:g} to {end:g} s"
    return "; ".join(part if isinstance(part, str) else _in_words(part, ()) for part in value)


def _evenly(values: Sequence[T], number: int) -> list[T]:
    return [values[index * len(values) // number] for index in range(number)]
