"""Frame-wise labels of Breakfast and 50Salads, as segments.

The form is that of the files that yabufarha/anticipating-activities@756d5b8 reads: below the root a
file ``groundTruth/<video>.txt`` with the label of each frame on a line, ``mapping.txt`` with the
index and the name of each label, and ``splits/<split>.bundle`` with the name of a video's file on
each line.
"""

from collections.abc import Iterator
from dataclasses import replace

from data_modules.annotation_files import decode_line, read_lines, read_raw_lines
from data_modules.files import Files
from data_modules.rows import MalformedRowError, UnusableRowError
from data_modules.skipped_rows import SkippedRows
from vidreason.baselines.anticipation.segments import Recording, segments_of

_LABEL_FOLDER, _SPLIT_FOLDER, _VIDEO_FOLDER = "groundTruth", "splits", "videos"
_MAPPING_FILE = "mapping.txt"
_MEDIA_SUFFIXES = (".mp4", ".avi", ".mkv", ".webm")
_MAX_LABEL_CHARACTERS = 200  # a longer line is no label
_MAX_FRAMES = 2**22
"""More lines than this are no labels of one video: 77 hours of 15 frames a second."""


def read_segment_labels(files: Files, split: str, skipped: SkippedRows) -> Iterator[Recording]:
    """Yield the recordings of a split, in its order.

    Layout: see the head of this module; ``split`` is the name of the bundle, such as
    ``train.split1``. A name in a bundle may have folders before it, as the official ones have; only
    the file's own name counts. Lines that begin with ``#`` are headings. The video, if it is there,
    is ``videos/<video>`` with the suffix of a video file.

    Left out and counted are videos without a file of labels, or with an empty one. Malformed are
    names that are there twice, files that are not UTF-8 or hold an empty or a very long line or a
    null byte, and those with a label that ``mapping.txt`` does not name. Without that file, any
    label may occur.

    Raises:
        ValueError: The bundle is missing or names no video, or ``mapping.txt`` is damaged.
    """
    known = _mapping(files)
    name = f"{_SPLIT_FOLDER}/{split}.bundle"
    seen: set[str] = set()
    for location, video_id in _bundle(files, name):
        try:
            if video_id in seen:
                raise MalformedRowError(location, f"the video {video_id!r} is there twice")
            seen.add(video_id)
            labels = _frame_labels(files, video_id, location, known)
        except UnusableRowError as left_out:
            skipped.record(left_out.location, left_out.cause)
        except MalformedRowError as error:
            skipped.record_malformed(error)
        else:
            skipped.num_read += 1
            recording = Recording(video_id=video_id, segments=segments_of(labels))
            yield replace(recording, media=_media(files, video_id))
    if not seen:
        raise ValueError(f"{files.path(name)} names no video: fetch it again")


def _mapping(files: Files) -> frozenset[str] | None:
    """The labels that ``mapping.txt`` names; None where there is no such file."""
    if not files.exists(_MAPPING_FILE):
        return None
    indices: dict[str, str] = {}
    for number, line in read_lines(files, _MAPPING_FILE):
        words = line.split()
        if not words:
            continue
        location = f"{files.path(_MAPPING_FILE)}:{number}"
        if len(words) != 2 or not words[0].isdecimal():
            raise ValueError(f"{location}: expected 'INDEX LABEL', found {line.strip()!r:.200}")
        if words[1] in indices or words[0] in indices.values():
            raise ValueError(f"{location}: the label or the index is there twice")
        indices[words[1]] = words[0]
    if not indices:
        raise ValueError(f"{files.path(_MAPPING_FILE)} names no label: fetch it again")
    return frozenset(indices)


def _bundle(files: Files, name: str) -> Iterator[tuple[str, str]]:
    """Yield the location and the name of each video of a split."""
    for number, line in read_lines(files, name):
        # Only the last part: no name leads out of the folder of labels.
        text = line.strip().replace("\\", "/").rpartition("/")[2].removesuffix(".txt")
        if text and not line.lstrip().startswith("#"):
            yield f"{files.path(name)}:{number}", text


def _frame_labels(
    files: Files, video_id: str, location: str, known: frozenset[str] | None
) -> list[str]:
    name = f"{_LABEL_FOLDER}/{video_id}.txt"
    if not files.exists(name):
        raise UnusableRowError(location, "the video has no file of labels")
    path = files.path(name)
    labels: list[str] = []
    for number, line in read_raw_lines(files, name):
        try:
            label = decode_line(path, number, line).strip()
        except MalformedRowError:  # with its line
            raise
        except ValueError as error:  # half a character at the end: this file's damage alone
            raise MalformedRowError(f"{path}:{number}", str(error)) from error
        if not label or len(label) > _MAX_LABEL_CHARACTERS:
            raise MalformedRowError(
                f"{path}:{number}", f"expected the label of a frame, found {label!r:.80}"
            )
        if known is not None and label not in known:
            raise MalformedRowError(
                f"{path}:{number}", f"the label {label!r} is not named in {_MAPPING_FILE}"
            )
        labels.append(label)
        if len(labels) > _MAX_FRAMES:
            raise MalformedRowError(str(path), f"more than {_MAX_FRAMES:,} lines")
    if not labels:
        raise UnusableRowError(location, "its file of labels is empty")
    return labels


def _media(files: Files, video_id: str) -> str:
    names = [f"{_VIDEO_FOLDER}/{video_id}{suffix}" for suffix in _MEDIA_SUFFIXES]
    return next((str(files.path(name)) for name in names if files.exists(name)), "")
