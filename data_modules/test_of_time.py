"""Test of Time: the order, duration and time of events, from several public files.

The paper cites a benchmark of this name that has no public artefact. What is scored under it is a
suite in a file format of this project, together with the public sets that ask the same; TempCompass
and MVBench, which ask it too, have readers of their own (:mod:`data_modules.benchmark_manifests`).
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path

from data_modules.annotation_files import read_csv_rows
from data_modules.example_kinds import choice_example
from data_modules.files import Files
from data_modules.json_files import read_json_lines
from data_modules.multiple_choice import option_texts, right_option
from data_modules.rows import Row
from data_modules.skipped_rows import SkippedRows, examples_of
from data_modules.video_files import VideoFolder
from vidreason.example import Example

CATEGORIES = ("order", "duration", "localization", "relation")
_SYNTHETIC = "ToT-syn-v2.0/splits/{split}_v2.0.csv"
_AGQA = "AGQA/splits/{split}_unbalanced_subset-temporal-v1.0.csv"
_BEFORE_AFTER = ("before", "after")
_Question = tuple[str, tuple[str, ...], int]
_WHICH = "Which of the two happens in the video?"


def read_test_of_time(files: Files, split: str, skipped: SkippedRows) -> Iterator[Example]:
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
    readers = {
        f"{split}.jsonl": _read_suite,
        _SYNTHETIC.format(split=split): _read_synthetic,
        _AGQA.format(split=split): _read_agqa,
    }
    # A root may hold any of the files.
    there = [name for name in readers if files.exists(name)]
    if not there:
        raise ValueError(
            f"{files.root} has none of {', '.join(readers)}: check the corpus' root and split"
        )
    for name in there:
        yield from readers[name](files, name, split, skipped)


def _read_suite(files: Files, name: str, split: str, skipped: SkippedRows) -> Iterator[Example]:
    videos = VideoFolder(files, "videos")

    def make(row: Row) -> Iterator[Example]:
        row_id, video = row.id("id"), row.id("video")
        category = row.required("category")
        if category not in CATEGORIES:
            raise row.malformed(
                f"field 'category' must be one of {', '.join(CATEGORIES)}, found {category!r:.200}"
            )
        span = row.span()
        options = option_texts(row, "options")
        yield choice_example(
            row.question(),
            options,
            right_option(row, "answer_index", options, "index"),
            id=f"test_of_time:{split}:{row_id}",
            media=videos.find(video),
            video_id=Path(video).stem,
            span=span,
            question_type=category,
            group_id="" if row.get("minimal_pair_id") is None else row.id("minimal_pair_id"),
            meta={"source": row.text("source")},
        )

    rows = read_json_lines(files, name, skipped)
    yield from examples_of(rows, make, skipped, named_by=("id",), unique=True)


def _read_synthetic(files: Files, name: str, split: str, skipped: SkippedRows) -> Iterator[Example]:
    def question(row: Row, number: int) -> _Question:
        sentence = row.required("sentence")
        word = next((word for word in _BEFORE_AFTER if f" {word} " in sentence), None)
        if word is None:
            raise row.malformed(
                f"column 'sentence' is {sentence!r:.200}, without 'before' or 'after'"
            )
        first, _, second = sentence.partition(f" {word} ")
        options = (sentence, f"{second} {word} {first}")
        index = number % 2  # the right one has each position equally often
        return _WHICH, options[::-1] if index else options, index

    rows = read_csv_rows(files, name, ("video_id", "sentence"), skipped)
    videos = VideoFolder(files, "ToT-syn-v2.0/videos")
    return _order_examples(rows, question, videos, split, "tot_syn", skipped)


def _read_agqa(files: Files, name: str, split: str, skipped: SkippedRows) -> Iterator[Example]:
    def question(row: Row, number: int) -> _Question:
        index = right_option(row, "answer", _BEFORE_AFTER, "text")
        if index is None:
            raise row.malformed("column 'answer' is empty")
        return row.question(), _BEFORE_AFTER, index

    rows = read_csv_rows(files, name, ("video_id", "question", "answer"), skipped)
    videos = VideoFolder(files, "AGQA/videos")
    return _order_examples(rows, question, videos, split, "agqa_temporal", skipped)


def _order_examples(
    rows: Iterable[Row],
    question: Callable[[Row, int], _Question],
    videos: VideoFolder,
    split: str,
    source: str,
    skipped: SkippedRows,
) -> Iterator[Example]:
    """Yield an example about the order of two events for each row, which are numbered from 0."""
    numbers = count()

    def make(row: Row) -> Iterator[Example]:
        # Drawn before the row can be refused: the rows after it keep ids and order of options.
        number = next(numbers)
        video = row.id("video_id")
        yield choice_example(
            *question(row, number),
            id=f"test_of_time:{split}:{source}:{number}",
            media=videos.find(video),
            video_id=video,
            question_type="order",
            group_id=video if source == "tot_syn" else "",
            meta={"source": source},
        )

    yield from examples_of(rows, make, skipped, named_by=("video_id",))
