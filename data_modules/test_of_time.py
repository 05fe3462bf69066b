"""Test of Time: the order, duration and place in time of events, from several public files.

The paper cites a benchmark of this name that has no public artefact. What is scored under it is a
suite in a file format of this project, together with the public sets that ask the same; TempCompass
and MVBench, which ask it too, have readers of their own (:mod:`data_modules.benchmark_manifests`).
"""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from data_modules.annotation_files import (
    check_span,
    id_field,
    is_nan_like,
    read_csv_rows,
    required_text,
    seconds_field,
    text_field,
)
from data_modules.index_cache import note_file
from data_modules.json_files import read_json_lines
from data_modules.multiple_choice import option_texts, right_option
from data_modules.skipped_rows import MalformedRowError, SkippedRows, examples_of
from data_modules.video_files import VideoFolder
from vidreason.example import Example
from vidreason.reasoning.prompts import multiple_choice_prompt

CATEGORIES = ("order", "duration", "localization", "relation")
_SYNTHETIC = "ToT-syn-v2.0/splits/{split}_v2.0.csv"
_AGQA = "AGQA/splits/{split}_unbalanced_subset-temporal-v1.0.csv"
_BEFORE_AFTER = ("before", "after")
_WHICH = "Which of the two happens in the video?"


def read_test_of_time(
    root: str, split: str, skipped: SkippedRows | None = None
) -> Iterator[Example]:
    """Yield one multiple-choice example a row of each of these files that is there.

    * ``<root>/<split>.jsonl``, the suite's own form, with videos in ``<root>/videos``: an object a
      line with ``id``, ``video`` (a file's name, or one without ``.mp4``), ``category`` (order,
      duration, localization or relation), ``question``, ``options``, ``answer_index`` (null where
      hidden), ``start`` and ``end`` in seconds or null, ``source`` and ``minimal_pair_id`` (null
      for none): two rows of one pair have opposite answers, and are also scored together.
    * ``<root>/ToT-syn-v2.0/splits/<split>_v2.0.csv`` (github bpiyush/TestOfTime; columns
      ``video_id`` and ``sentence``) with videos in ``<root>/ToT-syn-v2.0/videos``: the sentence
      against the one with its two events exchanged.
    * ``<root>/AGQA/splits/<split>_unbalanced_subset-temporal-v1.0.csv`` (the same; columns
      ``video_id``, ``question``, ``answer``) with videos in ``<root>/AGQA/videos``: before or
      after.

    Raises:
        ValueError: None of the files is there, or one is wrong as a whole.
    """
    skipped = SkippedRows() if skipped is None else skipped
    readers = {
        f"{split}.jsonl": _read_own,
        _SYNTHETIC.format(split=split): _read_synthetic,
        _AGQA.format(split=split): _read_agqa,
    }
    for name in readers:
        note_file(Path(root, name))
    present = [name for name in readers if Path(root, name).is_file()]
    if not present:
        raise ValueError(
            f"{root} has none of {', '.join(readers)}: check the corpus' root and split"
        )
    for name in present:
        yield from readers[name](Path(root), Path(root, name), split, skipped)


def _read_own(root: Path, path: Path, split: str, skipped: SkippedRows) -> Iterator[Example]:
    videos = VideoFolder(root / "videos")

    def make(place: str, row: dict[str, Any]) -> Iterator[Example]:
        row_id, video = id_field(row, "id", place), id_field(row, "video", place)
        category = required_text(row, "category", place)
        if category not in CATEGORIES:
            raise MalformedRowError(
                place,
                f"field 'category' must be one of {', '.join(CATEGORIES)}, found {category!r:.200}",
            )
        start, end = seconds_field(row, "start", place), seconds_field(row, "end", place)
        check_span(start, end, place)
        options = option_texts(row.get("options"), "options", place)
        index = right_option(row.get("answer_index"), options, "index", "answer_index", place)
        pair = "" if row.get("minimal_pair_id") is None else id_field(row, "minimal_pair_id", place)
        yield _example(
            f"{split}:{row_id}",
            media=videos.find(video),
            video_id=Path(video).stem,
            question=_question(row, place),
            options=options,
            index=index,
            category=category,
            group_id=pair,
            source=text_field(row, "source", place),
            span=(start, end),
        )

    rows = read_json_lines(path, skipped)
    yield from examples_of(rows, make, skipped, named_by=("id",), unique=True)


def _read_synthetic(root: Path, path: Path, split: str, skipped: SkippedRows) -> Iterator[Example]:
    videos = VideoFolder(root / "ToT-syn-v2.0" / "videos")
    numbers = count()

    def make(place: str, row: dict[str, str]) -> Iterator[Example]:
        number = next(numbers)
        video, sentence = id_field(row, "video_id", place), required_text(row, "sentence", place)
        word = next((word for word in _BEFORE_AFTER if f" {word} " in sentence), None)
        if word is None:
            raise MalformedRowError(
                place, f"column 'sentence' is {sentence!r:.200}, without 'before' or 'after'"
            )
        first, _, second = sentence.partition(f" {word} ")
        options = (sentence, f"{second} {word} {first}")
        index = number % 2  # the right one stands at each place equally often
        yield _example(
            f"{split}:tot_syn:{number}",
            media=videos.find(video),
            video_id=video,
            question=_WHICH,
            options=options[::-1] if index else options,
            index=index,
            category="order",
            group_id=video,
            source="tot_syn",
        )

    rows = read_csv_rows(path, ("video_id", "sentence"), skipped)
    yield from examples_of(rows, make, skipped, named_by=("video_id",))


def _read_agqa(root: Path, path: Path, split: str, skipped: SkippedRows) -> Iterator[Example]:
    videos = VideoFolder(root / "AGQA" / "videos")
    options = _BEFORE_AFTER
    numbers = count()

    def make(place: str, row: dict[str, str]) -> Iterator[Example]:
        number = next(numbers)
        video = id_field(row, "video_id", place)
        index = right_option(row["answer"], options, "text", "answer", place)
        if index is None:
            raise MalformedRowError(place, "column 'answer' is empty")
        yield _example(
            f"{split}:agqa_temporal:{number}",
            media=videos.find(video),
            video_id=video,
            question=_question(row, place),
            options=options,
            index=index,
            category="order",
            source="agqa_temporal",
        )

    rows = read_csv_rows(path, ("video_id", "question", "answer"), skipped)
    yield from examples_of(rows, make, skipped, named_by=("video_id",))


def _example(
    name: str,
    *,
    media: str,
    video_id: str,
    question: str,
    options: tuple[str, ...],
    index: int | None,
    category: str,
    group_id: str = "",
    source: str,
    span: tuple[float | None, float | None] = (None, None),
) -> Example:
    response = "" if index is None else options[index]
    return Example(
        id=f"test_of_time:{name}",
        corpus="test_of_time",
        media=media,
        video_id=video_id,
        start_seconds=span[0],
        end_seconds=span[1],
        prompt=multiple_choice_prompt(question, options),
        response=response,
        options=options,
        answer_index=index,
        answers=(response,) if response else (),
        question_type=category,
        group_id=group_id,
        meta={"question": question, "source": source},
    )


def _question(row: dict[str, Any], place: str) -> str:
    question = required_text(row, "question", place)
    if is_nan_like(question):
        raise MalformedRowError(place, f"field 'question' is {question!r}, which is no question")
    return question
