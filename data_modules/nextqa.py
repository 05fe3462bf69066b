"""NExT-QA multiple choice (section 4.1.2), and the NExT-GQA and IntentQA copies of its files.

The prompt lists the options as ``(A) ...`` lines. The response, in training and in scoring, is the
*text* of the right option and not its letter: evaluation by likelihood scores the texts, a text
carries more gradient than one letter, and no model can win by a liking for a letter.
"""

from collections.abc import Iterator
from pathlib import Path

from data_modules.annotation_files import read_csv_rows, read_json
from vidreason.example import Example
from vidreason.reasoning.prompts import multiple_choice_prompt

OPTION_COLUMNS = ("a0", "a1", "a2", "a3", "a4")


def read_nextqa(root: str, split: str) -> Iterator[Example]:
    """Yield one five-option example a row.

    Layout: ``<root>/<split>.csv``, ``<root>/map_vid_vidorID.json`` and
        ``<root>/NExTVideo/<map[video]>.mp4``. NExT-QA
    names the video column ``video`` and stores the answer as an option's index; NExT-GQA's copies
    name it ``video_id`` and store the answer's text. Either is read; the answer's form is decided
    once for the whole file, because an option's text may be a number. An empty answer is a hidden
    reference.

    Raises:
        ValueError: A file or column is missing, a video is not in the map, or an answer is not
            among the options.
    """
    path = Path(root, f"{split}.csv")
    required = ("question", "answer", "qid", "type", *OPTION_COLUMNS)
    rows = list(read_csv_rows(path, required))
    if not rows:
        raise ValueError(f"{path}: a header and no rows")
    video_column = "video" if "video" in rows[0][1] else "video_id"
    if video_column not in rows[0][1]:
        raise ValueError(
            f"{path}:1: the header has neither 'video' (NExT-QA) nor 'video_id' (NExT-GQA)"
        )
    answers_are_texts = any(
        not (row["answer"].isdecimal() or row["answer"] == "") for _, row in rows
    )
    map_path = Path(root, "map_vid_vidorID.json")
    video_paths: dict[str, str] = read_json(map_path)
    for place, row in rows:
        video_id = row[video_column]
        if video_id not in video_paths:
            raise ValueError(f"{place}: video {video_id!r} is not in {map_path}")
        options = tuple(row[column] for column in OPTION_COLUMNS)
        answer_index = _answer_index(row["answer"], options, answers_are_texts, place)
        response = "" if answer_index is None else options[answer_index]
        yield Example(
            id=f"nextqa:{split}:{video_id}_{row['qid']}",
            corpus="nextqa",
            media=str(Path(root, "NExTVideo", f"{video_paths[video_id]}.mp4")),
            video_id=video_id,
            prompt=multiple_choice_prompt(row["question"], options),
            response=response,
            options=options,
            answer_index=answer_index,
            answers=(response,) if response else (),
            question_type=row["type"],
            meta={"question": row["question"]},
        )


def _answer_index(answer: str, options: tuple[str, ...], is_text: bool, place: str) -> int | None:
    if answer == "":
        return None
    if is_text:
        # Where two options have one text (11 rows in val and test), the first is meant as much as
        # the second.
        if answer not in options:
            raise ValueError(
                f"{place}: column 'answer' holds the text {answer!r}, which is none of the options "
                f"{options}; "
                "expected an option's index (NExT-QA) or an option's text (NExT-GQA) in every row"
            )
        return options.index(answer)
    if int(answer) >= len(options):
        raise ValueError(
            f"{place}: column 'answer' is {answer}, expected an index from 0 to {len(options) - 1}"
        )
    return int(answer)
