"""NExT-QA multiple choice (section 4.1.2), and the NExT-GQA and IntentQA copies of its files.

The prompt lists the options as ``(A) ...`` lines. The response, in training and in scoring, is the
*text* of the right option and not its letter: evaluation by likelihood scores the texts, a text
carries more gradient than one letter, and no model can win by a liking for a letter.
"""

from collections.abc import Callable, Iterable, Iterator

from data_modules.annotation_files import read_csv_rows
from data_modules.example_kinds import choice_example
from data_modules.files import Files
from data_modules.json_files import read_json_object
from data_modules.multiple_choice import AnswerForm, option_texts, right_option
from data_modules.rows import Row, is_nan_like
from data_modules.skipped_rows import SkippedRows, examples_of
from data_modules.video_files import VideoFolder
from vidreason.example import Example

OPTION_COLUMNS = ("a0", "a1", "a2", "a3", "a4")
NAMED_BY = ("video", "video_id", "qid")
"""Columns by which messages name a question."""

_REQUIRED = ("question", "answer", "qid", "type", *OPTION_COLUMNS)
_MAP_FILE = "map_vid_vidorID.json"


def read_nextqa(files: Files, split: str, skipped: SkippedRows) -> Iterator[Example]:
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
    yield from read_nextqa_rows(files, split, skipped, "nextqa")


def read_intentqa(files: Files, split: str, skipped: SkippedRows) -> Iterator[Example]:
    """Yield what :func:`read_nextqa` reads of IntentQA's files.

    They have further columns, and the videos are in ``<root>/Videos/<video_id>.mp4``, unless there
    is NExT-QA's map.
    """
    yield from read_nextqa_rows(files, split, skipped, "intentqa")


def read_nextqa_rows(
    files: Files,
    split: str,
    skipped: SkippedRows,
    corpus: str,
    expand: Callable[[Example, Row], Iterable[Example]] = lambda example, _: (example,),
) -> Iterator[Example]:
    """:func:`read_nextqa` for a benchmark of another name.

    Args:
        files: The corpus' files.
        split: Of the file's name.
        skipped: Counts what is left out.
        corpus: The benchmark.
        expand: Makes more, or other, examples of the example of a row.

    Raises:
        ValueError: A file or column is missing or wrong as a whole.
    """
    name = f"{split}.csv"
    # Read once for the form of the answers, once for the examples.
    answer_form = _answer_form(files, name)
    find = next_videos(files)

    def make(row: Row) -> Iterable[Example]:
        video_id = video_id_of(row)
        # One list of the five columns, under a name that messages can use.
        listed = {"a0 ... a4": [row[column] for column in OPTION_COLUMNS]}
        options = option_texts(row.adding(listed), "a0 ... a4")
        index = None
        if answer_form is not None:
            index = right_option(row, "answer", options, answer_form)
            if index is None:
                raise row.malformed("column 'answer' is empty, in other rows it is not")
        example = choice_example(
            row.question(),
            options,
            index,
            id=f"{corpus}:{split}:{video_id}_{row.id('qid')}",
            media=find(video_id, row),
            video_id=video_id,
            question_type=row.required("type"),
        )
        return expand(example, row)

    rows = read_csv_rows(files, name, _REQUIRED, skipped)
    yield from examples_of(rows, make, skipped, named_by=NAMED_BY, unique=True)


def video_id_of(row: Row) -> str:
    """The video's id, in the column ``video`` (NExT-QA) or ``video_id`` (NExT-GQA).

    Raises:
        ValueError: The file has neither.
    """
    for column in ("video", "video_id"):
        if column in row:
            return row.id(column)
    raise ValueError(
        f"{row.location.rpartition(':')[0]}:1: the header has neither 'video' (NExT-QA) nor "
        "'video_id' (NExT-GQA)"
    )


def next_videos(files: Files) -> Callable[[str, Row], str]:
    """Return a function that finds the videos of NExT-QA and its relatives, there or not.

    Videos are in ``<root>/NExTVideo``, ``<root>/Videos`` (IntentQA's) or ``<root>/videos``. With
    ``<root>/map_vid_vidorID.json`` (10,000 entries) a path is ``<map[video]>.mp4`` there, or
    ``<video>.mp4``; a row whose entry is missing, or no path, is malformed. Without the map it is
    ``<video>.mp4``.

    Raises:
        ValueError: There is neither the map nor such a folder, or the map is wrong as a whole.
    """
    videos = VideoFolder(files, "NExTVideo", "Videos", "videos")
    if not files.exists(_MAP_FILE) and files.is_folder(videos.path):
        return lambda video_id, row: videos.find(video_id)
    paths = read_json_object(files, _MAP_FILE)

    def find(video_id: str, row: Row) -> str:
        path = paths.get(video_id)
        if not isinstance(path, str) or is_nan_like(path):
            raise row.malformed(f"video {video_id!r} is not in {_MAP_FILE}")
        return videos.find(path.strip().removesuffix(".mp4"), video_id)

    return find


def _answer_form(files: Files, name: str) -> AnswerForm | None:
    """Return the form of the file's answers that most rows allow; None where all are hidden."""
    num_rows = num_indices = num_texts = num_answers = 0
    for row in read_csv_rows(files, name, _REQUIRED, SkippedRows.uncounted()):
        answer = row["answer"].strip()
        num_rows += 1
        num_answers += answer != ""
        num_indices += answer.isdecimal() and int(answer) < len(OPTION_COLUMNS)
        num_texts += answer in [row[column].strip() for column in OPTION_COLUMNS]
    if num_rows == 0:
        raise ValueError(f"{files.path(name)}: a header and no rows that can be read")
    if num_answers == 0:
        return None
    # Where options are numbers, an answer may count as both: a tie is the index, as NExT-QA has it.
    return "text" if num_texts > num_indices else "index"
