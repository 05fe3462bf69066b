"""The files of an instruction set, as ``experiments.make_instructions`` writes them."""

import logging
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from data_modules.files import Files
from data_modules.json_files import read_json_lines
from data_modules.media_access import MediaAccess
from data_modules.rows import Row
from data_modules.skipped_rows import SkippedRows
from vidreason.baselines.frames import FrameReader, middle_frames
from vidreason.evaluation.page.pictures import PICTURE_SIDE, KeyFrame, data_uri, draw_masks
from vidreason.teacher.instruction_set import REJECTED, SPLITS
from vidreason.teacher.media_folders import VIDEOS
from vidreason.teacher.review_agreement import ACCEPTED
from vidreason.teacher.reviews import REVIEWS_FOLDER, Review, read_reviews
from vidreason.video.failures import VideoReadError
from vidreason.video.media import is_remote

logger = logging.getLogger(__name__)


class SetRow(NamedTuple):
    """A row, and where it stands."""

    row: Row
    split: str
    verdict: str
    """``accepted``, or the cause of the rejection."""


def set_rows(folder: Path) -> Iterator[SetRow]:
    """Yield the rows of both splits, then the answers that the gate rejected.

    Clips without an answer are left out; so are lines that are no JSON object, which are logged.

    Raises:
        ValueError: There is neither split, or a file is wrong as a whole.
    """
    files = Files(folder)
    # Malformed lines are logged and passed over: what is there can be reviewed.
    skipped = SkippedRows(max_malformed_fraction=1.0)
    splits = [split for split in SPLITS if files.exists(f"{split}.jsonl")]
    if not splits:
        raise ValueError(
            f"run_dir is {str(folder)!r}, where there is no train.jsonl and no val.jsonl: name the "
            "folder that make_instructions wrote"
        )
    for split in splits:
        for row in read_json_lines(files, f"{split}.jsonl", skipped):
            yield SetRow(row, split, ACCEPTED)
    if files.exists(f"{REJECTED}.jsonl"):
        for row in read_json_lines(files, f"{REJECTED}.jsonl", skipped):
            # Of a failed clip there is no answer that a person could judge.
            if row.get("ended") != "failed":
                yield SetRow(row, REJECTED, str(row.get("cause") or "unknown")[:60])


def review_files(run_dir: Path, named: list[str]) -> list[Path]:
    """Return the review files that are named, or else all beside the set.

    Raises:
        ValueError: There is none.
    """
    paths = [*map(Path, named)] or sorted((run_dir / REVIEWS_FOLDER).glob("*.jsonl"))
    if not paths:
        raise ValueError(
            f"there are no reviews: put the files that the page saves into "
            f"{run_dir / REVIEWS_FOLDER}, or name them (reviews=[FILE.jsonl])"
        )
    return paths


def all_reviews(run_dir: Path, named: list[str]) -> list[Review]:
    """Read the review files that :func:`review_files` names.

    Raises:
        ValueError: There is none, or one is of another form.
    """
    return [review for path in review_files(run_dir, named) for review in read_reviews(path)]


class ClipFrames:
    """Reads the frames of rows' clips, from below the set's folder and one further folder.

    Args:
        run_dir: The set's folder, with ``videos``.
        media_dir: The further folder, or empty.
        num_frames: Of a clip; fewer where it has fewer.
    """

    def __init__(self, run_dir: Path, media_dir: str, num_frames: int) -> None:
        self._run_dir = run_dir
        self._access = MediaAccess(str(run_dir), media_dir)
        self._reader = FrameReader(max_side=2 * PICTURE_SIDE)
        self._rule = middle_frames(num_frames)

    def __call__(self, row: Row) -> list[KeyFrame]:
        """Read the frames of a row's clip, with seconds from the start of the clip.

        Raises:
            VideoReadError: The video cannot be read, or may not be: the row names one outside.
        """
        try:
            name = row.text("media") or f"{row.id('video_id')}.mp4"
            start, end = row.span()
        except ValueError as error:
            raise VideoReadError("", "missing", str(error)) from error
        media = str(self._run_dir / VIDEOS / name)
        # A row's text names a file below videos/, or nothing: neither a URL nor a way out.
        if is_remote(name) or ".." in PurePosixPath(name).parts or name.startswith("/"):
            raise VideoReadError(name, "missing", "it is not named as a file below videos/")
        # Links are followed first: one in videos/ may lead anywhere.
        if self._access.refusal(media):
            problem = "it lies outside of run_dir; media_dir allows a further folder"
            raise VideoReadError(name, "missing", problem)
        frames = self._reader(media, start, end, self._rule)
        # Frames that a short clip repeats are shown once.
        numbers = {index: number for number, index in enumerate(frames.indices)}
        return [
            KeyFrame(
                seconds=frames.seconds[number],
                num_objects=None,
                data_uri=data_uri(
                    # (3, H, W) -> (H, W, 3); without masks it is made a picture only
                    draw_masks(frames.pixels[number].permute(1, 2, 0).contiguous().numpy(), ())
                ),
            )
            for number in numbers.values()
        ]
