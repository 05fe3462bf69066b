"""NExT-QA multiple choice (section 4.1.2), and the NExT-GQA and IntentQA copies of its files.

The prompt lists the options as ``(A) ...`` lines. The response, in training and in scoring, is the
*text* of the right option and not its letter: evaluation by likelihood scores the texts, a text
carries more gradient than one letter, and no model can win by a liking for a letter.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from data_modules.annotation_files import (
    id_field,
    is_nan_like,
    read_csv_rows,
    required_text,
    text_field,
)
from data_modules.index_cache import note_file
from data_modules.json_files import read_json_members
from data_modules.multiple_choice import AnswerForm, option_texts, right_option
from data_modules.skipped_rows import MalformedRowError, SkippedRows, examples_of
from data_modules.video_files import VideoFolder
from vidreason.example import Example
from vidreason.reasoning.prompts import multiple_choice_prompt

OPTION_COLUMNS = ("a0", "a1", "a2", "a3", "a4")
NAMED_BY = ("video", "video_id", "qid")
"""Columns by which messages name a question."""


def read_nextqa(root: str, split: str, skipped: SkippedRows | None = None) -> Iterator[Example]:
    """Yield one five-option example a row.

    Layout: ``<root>/<split>.csv``, ``<root>/map_vid_vidorID.json`` and
    ``<root>/NExTVideo/<map[video]>.mp4``. NExT-QA names the video column ``video`` and stores the
    answer as an option's index; NExT-GQA's copies name it ``video_id`` and store the answer's text.
    Either is read; the answer's form is decided once for the whole file, because an option's text
    may be a number. With an empty answer in every row the references are hidden; in single rows it
    is malformed. An option ``none`` is an option. Known of the released files: 11 rows of val and
    test have two options of the same text, one of them twice the right one (test
    ``3842638015_4``): the index is kept.

    Raises:
        ValueError: A file or column is missing or wrong as a whole.
    """
    yield from read_nextqa_rows(root, split, skipped, lambda example, _: (example,))


def read_nextqa_rows(
    root: str,
    split: str,
    skipped: SkippedRows | None,
    expand: Callable[[Example, str], Iterable[Example]],
) -> Iterator[Example]:
    """:func:`read_nextqa` for benchmarks that make more, or other, examples of its rows.

    Args:
        root: The corpus' folder.
        split: Of the file's name.
        skipped: Counts what is left out.
        expand: Called with a row's example and its location.

    Raises:
        ValueError: A file or column is missing or wrong as a whole.
    """
    skipped = SkippedRows() if skipped is None else skipped
    path = Path(root, f"{split}.csv")
    answer_form = _answer_form(path)
    videos = NextVideos(root)

    def make(place: str, row: dict[str, str]) -> Iterable[Example]:
        video_id = id_field(row, video_column(row, path), place)
        options = option_texts([row[column] for column in OPTION_COLUMNS], "a0 ... a4", place)
        answer_index = None
        if answer_form is not None:
            answer_index = right_option(row["answer"], options, answer_form, "answer", place)
            if answer_index is None:
                raise MalformedRowError(place, "column 'answer' is empty, in other rows it is not")
        response = "" if answer_index is None else options[answer_index]
        question = question_field(row, place)
        example = Example(
            id=f"nextqa:{split}:{video_id}_{id_field(row, 'qid', place)}",
            corpus="nextqa",
            media=videos.path(video_id, place),
            video_id=video_id,
            prompt=multiple_choice_prompt(question, options),
            response=response,
            options=options,
            answer_index=answer_index,
            answers=(response,) if response else (),
            question_type=required_text(row, "type", place),
            meta={"question": question},
        )
        return expand(example, place)

    rows = read_csv_rows(path, _REQUIRED, skipped)
    yield from examples_of(rows, make, skipped, named_by=NAMED_BY, unique=True)


_REQUIRED = ("question", "answer", "qid", "type", *OPTION_COLUMNS)
_MAP_FILE = "map_vid_vidorID.json"
_VIDEO_FOLDERS = ("NExTVideo", "Videos", "videos")


def video_column(row: dict[str, str], path: Path) -> str:
    """The column with the video's id: ``video`` (NExT-QA) or ``video_id`` (NExT-GQA).

    Raises:
        ValueError: The file has neither.
    """
    for column in ("video", "video_id"):
        if column in row:
            return column
    raise ValueError(
        f"{path}:1: the header has neither 'video' (NExT-QA) nor 'video_id' (NExT-GQA)"
    )


class NextVideos:
    """Where the videos of NExT-QA and its relatives are.

    In ``<root>/NExTVideo``, ``<root>/Videos`` (IntentQA's) or ``<root>/videos``. With
    ``<root>/map_vid_vidorID.json`` (10,000 entries) it is ``<map[video]>.mp4`` there, or
    ``<video>.mp4``; an entry that is no path is as one that is missing. Without the map it is
    ``<video>.mp4``.

    Raises:
        ValueError: There is neither the map nor such a folder, or the map is wrong as a whole.
    """

    def __init__(self, root: str) -> None:
        map_path = Path(root, _MAP_FILE)
        note_file(map_path)
        self._videos = VideoFolder(*(Path(root, name) for name in _VIDEO_FOLDERS))
        self._paths: dict[str, str] | None = None
        if not map_path.is_file() and self._videos.path.is_dir():
            return
        self._paths = {
            video_id: video_path.strip().removesuffix(".mp4")
            for _, video_id, video_path in read_json_members(map_path)
            if isinstance(video_path, str) and not is_nan_like(video_path)
        }

    def path(self, video_id: str, place: str) -> str:
        """The path of a video, there or not.

        Raises:
            MalformedRowError: The map does not have it.
        """
        if self._paths is None:
            return self._videos.find(video_id)
        if video_id not in self._paths:
            raise MalformedRowError(place, f"video {video_id!r} is not in {_MAP_FILE}")
        return self._videos.find(self._paths[video_id], video_id)


def question_field(row: dict[str, str], place: str) -> str:
    """The question.

    Raises:
        MalformedRowError: It is empty, or ``nan`` and the like.
    """
    question = text_field(row, "question", place)
    if is_nan_like(question):
        raise MalformedRowError(place, f"column 'question' is {question!r}, which is no question")
    return question


def _answer_form(path: Path) -> AnswerForm | None:
    """How the file writes answers, by what most rows allow; None where all of them are hidden."""
    num_rows = num_indices = num_texts = num_answers = 0
    # Counted when the rows are read for good.
    uncounted = SkippedRows(max_malformed_fraction=1.0, quiet=True)
    for _, row in read_csv_rows(path, _REQUIRED, uncounted):
        video_column(row, path)
        answer = row["answer"].strip()
        num_rows += 1
        num_answers += answer != ""
        num_indices += answer.isdecimal() and int(answer) < len(OPTION_COLUMNS)
        num_texts += answer in [row[column].strip() for column in OPTION_COLUMNS]
    if num_rows == 0:
        raise ValueError(f"{path}: a header and no rows that can be read")
    if num_answers == 0:
        return None
    return "text" if num_texts > num_indices else "index"
