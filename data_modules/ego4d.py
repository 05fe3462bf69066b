"""Ego4D: narrated first-person videos, a source of Causal-Vid-Instruct.

Narrators wrote down what happens at points in time, in a notation: ``#C C picks up the cup``, where
C is who wears the camera, ``#O`` speaks of somebody else, and ``#unsure`` of what they could not
make out (ego4d-data.org, annotations schemas). Tags are written with and without a blank, in either
case. A pass may be missing, a video redacted, a narration empty, and its moment a little before the
video's start or after its end.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from data_modules.annotation_files import (
    id_field,
    parse_seconds,
    seconds_field,
    text_field,
)
from data_modules.index_cache import note_file
from data_modules.json_files import read_json_members
from data_modules.skipped_rows import (
    MalformedRowError,
    SkippedRows,
    UnusableRowError,
    examples_of,
)
from vidreason.example import Example
from vidreason.reasoning.prompts import CAPTION_PROMPT

SECONDS_BEFORE, SECONDS_AFTER = 1.0, 3.0
"""A narration is a point; the example's span goes from so long before it to so long after it."""
VIDEO_FOLDERS = ("video_540ss", "full_scale")
_PASSES = ("narration_pass_1", "narration_pass_2")
_SPLIT_FIELDS = ("split_em", "split_av", "split_fho")
_TAG = re.compile(r"#\s*(unsure|summary|[A-Za-z])\b\s*", re.IGNORECASE)
_WEARER = re.compile(r"\bC\b(?!')")


def read_ego4d(root: str, split: str, skipped: SkippedRows | None = None) -> Iterator[Example]:
    """Yield one captioning example a narration; the caption is its text, without the notation.

    Layout: ``<root>/annotations/narration.json``, ``ego4d.json`` in ``root`` or in the folder
    above, videos in ``<root>/video_540ss/<video_uid>.mp4`` or ``<root>/full_scale``, and
    optionally EgoSchema's ``<root>/uid_to_ego4d.json``. Both narration passes are read.

    A video's split is ``test`` or ``val`` if any of its benchmarks (``split_em``, ``split_av``,
    ``split_fho``) says so, else ``train``. Videos of other splits are passed over. Left out and
    counted are narrations that the narrator was unsure of, that are empty or stand outside of their
    video, and all of a video that EgoSchema asks about. Malformed are narrations without a moment,
    and videos that are not in ``ego4d.json``, of which an older release may have some.

    Memory: ``ego4d.json``, and the narrations of one video at a time.

    Raises:
        ValueError: A file is missing or wrong as a whole, as where it is of another release.
    """
    skipped = SkippedRows() if skipped is None else skipped
    videos = _read_videos(root, skipped)
    held_out = _egoschema_videos(Path(root, "uid_to_ego4d.json"))
    folder = next((name for name in VIDEO_FOLDERS if Path(root, name).is_dir()), VIDEO_FOLDERS[0])

    def make(place: str, item: tuple[str, str, Any]) -> Iterator[Example]:
        uid, name, narration = item
        if not isinstance(narration, dict):
            raise MalformedRowError(place, f"expected a narration, found {narration!r:.200}")
        moment = seconds_field(narration, "timestamp_sec", place)
        if moment is None:
            raise MalformedRowError(place, "field 'timestamp_sec' is missing")
        text, cause = plain_narration(text_field(narration, "narration_text", place))
        if uid in held_out:
            text, cause = "", "EgoSchema asks about its video"
        elif moment >= videos[uid].duration_seconds:
            text, cause = "", "it stands after its video's end"
        if not text:
            raise UnusableRowError(place, cause)
        yield Example(
            id=f"ego4d:{split}:{uid}_{name}",
            corpus="ego4d",
            media=str(Path(root, folder, f"{uid}.mp4")),
            video_id=uid,
            start_seconds=max(moment - SECONDS_BEFORE, 0.0),
            end_seconds=min(moment + SECONDS_AFTER, videos[uid].duration_seconds),
            prompt=CAPTION_PROMPT,
            response=text,
            answers=(text,),
            meta={"narration": narration["narration_text"]},
        )

    yield from examples_of(_narrations(root, split, videos, skipped), make, skipped)


def plain_narration(narration: str) -> tuple[str, str]:
    """The narration as a sentence, or the empty text and why it is left out.

    ``#C C picks up the cup`` becomes ``The camera wearer picks up the cup.``; other persons keep
    their letters (``man X``).
    """
    tags = {match[1].casefold() for match in _TAG.finditer(narration)}
    if "unsure" in tags:
        return "", "its narrator was unsure"
    text = " ".join(_WEARER.sub("the camera wearer", _TAG.sub("", narration)).split())
    if not text or text.casefold() in ("nan", "none", "null"):
        return "", "an empty narration"
    return text[0].upper() + text[1:].rstrip(".") + ".", ""


class _Video(NamedTuple):
    split: str
    duration_seconds: float


def _read_videos(root: str, skipped: SkippedRows) -> dict[str, _Video]:
    inside, above = Path(root, "ego4d.json"), Path(root).parent / "ego4d.json"
    note_file(inside)
    path = inside if inside.is_file() or not above.is_file() else above
    videos = {}
    for place, key, value in read_json_members(path):
        if key != "videos":
            continue
        if not isinstance(value, list):
            raise ValueError(f"{place}: field 'videos' must be a list, found {value!r:.200}")
        for row in value:
            try:
                uid, video = _video(row, place)
            except MalformedRowError as error:
                skipped.record_malformed(error)
            else:
                videos[uid] = video
    if not videos:
        raise ValueError(f"{path}: there is no video in the field 'videos'")
    return videos


def _video(row: Any, place: str) -> tuple[str, _Video]:  # noqa: ANN401 - any JSON value
    if not isinstance(row, dict):
        raise MalformedRowError(place, f"field 'videos': expected objects, found {row!r:.200}")
    duration = parse_seconds(row.get("duration_sec"))
    if not duration:
        raise MalformedRowError(place, f"a video has no 'duration_sec': {row!r:.200}")
    splits = {text_field(row, field, place) for field in _SPLIT_FIELDS}
    split = next((name for name in ("test", "val") if name in splits), "train")
    return id_field(row, "video_uid", place), _Video(split, duration)


def _egoschema_videos(path: Path) -> set[str]:
    """Videos of EgoSchema's questions; none without its file."""
    note_file(path)
    if not path.is_file():
        return set()
    videos = set()
    for place, _, clip in read_json_members(path):
        if not isinstance(clip, dict):
            raise ValueError(f"{place}: expected an object with 'video_uid', found {clip!r:.200}")
        videos.add(id_field(clip, "video_uid", place))
    return videos


def _narrations(
    root: str, split: str, videos: dict[str, _Video], skipped: SkippedRows
) -> Iterator[tuple[str, tuple[str, str, Any]]]:
    """Location, and video, name and content, of each narration of the split's videos."""
    for place, uid, record in read_json_members(Path(root, "annotations", "narration.json")):
        try:
            if uid not in videos:
                raise MalformedRowError(
                    place, f"video {uid!r} is not in ego4d.json; use one release of both"
                )
            if videos[uid].split != split:
                continue
            passes = {name: _narration_pass(record, name, place) for name in _PASSES}
        except MalformedRowError as error:
            skipped.record_malformed(error)
            continue
        for name, items in passes.items():
            for number, item in enumerate(items):
                where = f"{place}:{name}:{number}"
                yield where, (uid, f"{name.rpartition('_')[2]}_{number}", item)


def _narration_pass(record: Any, narration_pass: str, place: str) -> list[Any]:  # noqa: ANN401
    """The items of one pass; a pass may be missing."""
    passed = record.get(narration_pass) if isinstance(record, dict) else record
    if passed is None and isinstance(record, dict):
        return []
    items = passed.get("narrations") if isinstance(passed, dict) else passed
    if items is None and isinstance(passed, dict):
        return []
    if not isinstance(items, list) or not isinstance(passed, dict):
        raise MalformedRowError(
            place,
            f"expected {narration_pass!r} with a list 'narrations', found {record!r:.200}",
        )
    return items
