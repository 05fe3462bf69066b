"""NExT-QA multiple choice (section 4.1.2), and the NExT-GQA and IntentQA copies of its files.

The prompt lists the options as ``(A) ...`` lines. The response, in training and in scoring, is the
*text* of the right option and not its letter: evaluation by likelihood scores the texts, a text
carries more gradient than one letter, and no model can win by a liking for a letter.
"""

from collections.abc import Iterator
from pathlib import Path

from data_modules.annotation_files import id_field, is_nan_like, read_csv_rows, required_text
from data_modules.json_files import read_json_members
from data_modules.skipped_rows import SkippedRows
from vidreason.example import Example
from vidreason.reasoning.prompts import multiple_choice_prompt

OPTION_COLUMNS = ("a0", "a1", "a2", "a3", "a4")


def read_nextqa(root: str, split: str, skipped: SkippedRows | None = None) -> Iterator[Example]:
    """Yield one five-option example a row.

    Layout: ``<root>/<split>.csv``, ``<root>/map_vid_vidorID.json`` and
    ``<root>/NExTVideo/<map[video]>.mp4``. NExT-QA names the video column ``video`` and stores the
    answer as an option's index; NExT-GQA's copies name it ``video_id`` and store the answer's text.
    Either is read; the answer's form is decided once for the whole file, because an option's text
    may be a number. With an empty answer in every row the references are hidden. An option ``none``
    is an option; nothing is ever left out.

    Raises:
        ValueError: A file or column is missing, a question or option is empty, a video is not in
            the map, or an answer is not among the options or missing in some rows only.
    """
    path = Path(root, f"{split}.csv")
    answer_form = _answer_form(path)
    video_paths = read_video_map(root)
    for place, row in read_csv_rows(path, _REQUIRED):
        video_id = id_field(row, video_column(row, path), place)
        options = tuple(required_text(row, column, place) for column in OPTION_COLUMNS)
        answer_index = _answer_index(row["answer"], options, answer_form, place)
        response = "" if answer_index is None else options[answer_index]
        question = question_field(row, place)
        yield Example(
            id=f"nextqa:{split}:{video_id}_{id_field(row, 'qid', place)}",
            corpus="nextqa",
            media=str(Path(root, "NExTVideo", f"{find_video(video_paths, video_id, place)}.mp4")),
            video_id=video_id,
            prompt=multiple_choice_prompt(question, options),
            response=response,
            options=options,
            answer_index=answer_index,
            answers=(response,) if response else (),
            question_type=required_text(row, "type", place),
            meta={"question": question},
        )


_REQUIRED = ("question", "answer", "qid", "type", *OPTION_COLUMNS)
_MAP_FILE = "map_vid_vidorID.json"


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


def read_video_map(root: str) -> dict[str, str]:
    """The corpus' map from a video's id to its path below ``NExTVideo`` (10,000 entries).

    Raises:
        ValueError: The file is missing, or holds something else than texts.
    """
    video_paths = {}
    for place, video_id, video_path in read_json_members(Path(root, _MAP_FILE)):
        if not isinstance(video_path, str) or is_nan_like(video_path):
            raise ValueError(f"{place}: the path of video {video_id!r} is {video_path!r:.200}")
        video_paths[video_id] = video_path
    return video_paths


def find_video(video_paths: dict[str, str], video_id: str, place: str) -> str:
    """The path of a video below ``NExTVideo``, without its extension.

    Raises:
        ValueError: The map does not have it.
    """
    if video_id not in video_paths:
        raise ValueError(f"{place}: video {video_id!r} is not in {_MAP_FILE}")
    return video_paths[video_id]


def question_field(row: dict[str, str], place: str) -> str:
    """The question.

    Raises:
        ValueError: It is empty, or ``nan`` and the like.
    """
    question = row["question"]
    if is_nan_like(question):
        raise ValueError(f"{place}: column 'question' is {question!r}, which is no question")
    return question


def _answer_form(path: Path) -> str:
    """How the file writes answers: ``index``, ``text`` or ``hidden``, by what most rows allow."""
    num_rows = num_answers = num_indices = num_texts = 0
    for place, row in read_csv_rows(path, _REQUIRED):
        video_column(row, path)
        num_rows += 1
        answer = row["answer"]
        num_answers += answer != ""
        num_indices += answer.isdecimal() and int(answer) < len(OPTION_COLUMNS)
        num_texts += answer in [row[column] for column in OPTION_COLUMNS]
        if num_answers not in (0, num_rows):
            raise ValueError(
                f"{place}: column 'answer' is empty in some rows and not in others; answers are "
                "there or hidden for a whole split"
            )
    if num_rows == 0:
        raise ValueError(f"{path}: a header and no rows")
    if num_answers == 0:
        return "hidden"
    return "text" if num_texts > num_indices else "index"


def _answer_index(
    answer: str, options: tuple[str, ...], answer_form: str, place: str
) -> int | None:
    if answer_form == "hidden":
        return None
    if answer_form == "text":
        # Where two options have one text (11 rows in val and test), the first is meant as much as
        # the second.
        if answer.strip() not in options:
            raise ValueError(
                f"{place}: column 'answer' holds the text {answer!r}, which is none of the options "
                f"{options}; "
                "expected an option's text, as in most rows of this file (NExT-GQA)"
            )
        return options.index(answer.strip())
    if not answer.isdecimal() or int(answer) >= len(options):
        raise ValueError(
            f"{place}: column 'answer' is {answer!r}, expected an index from 0 to "
            f"{len(options) - 1}, as in most rows of this file (NExT-QA)"
        )
    return int(answer)
