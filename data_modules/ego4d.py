"""Ego4D: narrated first-person videos, a source of Causal-Vid-Instruct.

Narrators wrote down what happens at points in time, in a notation: ``#C C picks up the cup``, where
C is who wears the camera, ``#O`` speaks of somebody else, and ``#unsure`` of what they could not
make out (ego4d-data.org, annotations schemas). Tags are written with and without a blank, in either
case. A pass may be missing, a video redacted, a narration empty, and its moment a little before the
video's start or after its end.
"""

import re
from collections.abc import Container, Iterator
from typing import NamedTuple

from data_modules.example_kinds import caption_example
from data_modules.files import Files
from data_modules.json_files import read_json_members
from data_modules.rows import MalformedRowError, Row, UnusableRowError, parse_seconds
from data_modules.skipped_rows import SkippedRows, examples_of, expanded
from vidreason.example import Example

SECONDS_BEFORE, SECONDS_AFTER = 1.0, 3.0
"""A narration is a point; the example's span goes from so long before it to so long after it."""
EGOSCHEMA_FILE = "uid_to_ego4d.json"
"""EgoSchema's own file, which says of which videos its questions are."""
NARRATIONS = "annotations/narration.json"
VIDEO_FOLDERS = ("video_540ss", "full_scale")
_PASSES = ("narration_pass_1", "narration_pass_2")
_SPLIT_FIELDS = ("split_em", "split_av", "split_fho")
# The letter of a tag says who acts; the sentence behind it names that person again.
_TAG = re.compile(r"#\s*(unsure|summary|[A-Za-z])\b\s*", re.IGNORECASE)
_WEARER = re.compile(r"\bC\b(?!')")


def read_ego4d(files: Files, split: str, skipped: SkippedRows) -> Iterator[Example]:
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
    videos = ego4d_videos(files, skipped)
    held_out = egoschema_videos(files)
    folder = ego4d_folder(files)

    def make(narration: Row) -> Iterator[Example]:
        uid, duration = narration["uid"], videos[narration["uid"]].duration_seconds
        moment = narration.seconds("timestamp_sec")
        if moment is None:
            raise narration.malformed("field 'timestamp_sec' is missing")
        text, cause = plain_narration(narration.text("narration_text"))
        # Of several reasons the one that concerns the whole video is counted.
        if uid in held_out:
            text, cause = "", "EgoSchema asks about its video"
        elif moment >= duration:
            text, cause = "", "it stands after its video's end"
        if not text:
            raise narration.unusable(cause)
        yield caption_example(
            text,
            id=f"ego4d:{split}:{uid}_{narration['name']}",
            media=str(files.path(folder, f"{uid}.mp4")),
            video_id=uid,
            # A narration has a moment; what it tells takes some time around it.
            span=(max(moment - SECONDS_BEFORE, 0.0), min(moment + SECONDS_AFTER, duration)),
            meta={"narration": narration["narration_text"]},
        )

    members = read_json_members(files, NARRATIONS)
    rows = expanded(members, lambda member: _narrations_of_split(member, split, videos), skipped)
    yield from examples_of(rows, make, skipped)


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


class Ego4dVideo(NamedTuple):
    """A video of ``ego4d.json``."""

    duration_seconds: float
    splits: frozenset[str]
    """All splits that its benchmarks put it into; empty where none does."""
    scenarios: tuple[str, ...]
    """Entries of the list that are texts."""

    @property
    def split(self) -> str:
        """``test`` or ``val`` if any benchmark says so, else ``train``."""
        return next((name for name in ("test", "val") if name in self.splits), "train")


def ego4d_videos(files: Files, skipped: SkippedRows) -> dict[str, Ego4dVideo]:
    """Read the videos of ``ego4d.json``, in ``root`` or in the folder above, by their ids.

    Of a video that is listed twice, the splits are put together.

    Args:
        files: The corpus' files.
        skipped: Counts videos without id or duration.

    Raises:
        ValueError: The file is missing, wrong as a whole, or has no video.
    """
    path = files.first("ego4d.json", files.path("").parent / "ego4d.json")
    videos: dict[str, Ego4dVideo] = {}
    # One member holds all videos; a wrong one is left out alone.
    for member in read_json_members(files, path):
        for row in _rows_of(member, "value") if member["name"] == "videos" else ():
            try:
                duration = parse_seconds(row.get("duration_sec"))
                if not duration:
                    raise row.malformed(f"a video has no 'duration_sec': {row!r:.200}")
                splits = frozenset(filter(None, (row.text(field) for field in _SPLIT_FIELDS)))
                uid = row.id("video_uid")
            except MalformedRowError as error:
                skipped.record_malformed(error)
                continue
            if uid in videos:
                splits |= videos[uid].splits
            videos[uid] = Ego4dVideo(duration, splits, _scenarios(row))
    if not videos:
        raise ValueError(f"{path}: there is no video in the field 'videos'")
    return videos


def ego4d_folder(files: Files) -> str:
    """The folder of the videos: the first of ``VIDEO_FOLDERS`` that is there, or else the first."""
    return next(filter(files.is_folder, VIDEO_FOLDERS), VIDEO_FOLDERS[0])


def ego4d_narrations(
    files: Files, videos: Container[str], skipped: SkippedRows
) -> Iterator[tuple[str, list[tuple[float, str]]]]:
    """Yield the narrations of some videos: the id, and moments in seconds with their sentences.

    Both passes are read, and what narrators were unsure of is left out. The file passes by as a
    stream.

    Args:
        files: The corpus' files.
        videos: Ids of the wanted videos.
        skipped: Counts narrations without a moment or text.

    Raises:
        ValueError: The file is missing or wrong as a whole.
    """
    for member in read_json_members(files, NARRATIONS):
        if member["name"] not in videos:
            continue
        told = []
        try:
            rows = list(_narrations(member))
        except MalformedRowError as error:
            skipped.record_malformed(error)
            continue
        # A bad narration is left out alone; a bad list is left out with its video.
        for row in rows:
            try:
                moment, narration = row.seconds("timestamp_sec"), row.text("narration_text")
                if moment is None:
                    raise row.malformed("field 'timestamp_sec' is missing")
            except UnusableRowError as error:
                skipped.record(error.location, error.cause)
                continue
            except MalformedRowError as error:
                skipped.record_malformed(error)
                continue
            skipped.num_read += 1
            text, _ = plain_narration(narration)
            if text:
                told.append((moment, text))
        yield member["name"], sorted(told)


def _scenarios(row: Row) -> tuple[str, ...]:
    names = row.get("scenarios")
    texts = (
        [name.strip() for name in names if isinstance(name, str)] if isinstance(names, list) else []
    )
    return tuple(dict.fromkeys(filter(None, texts)))


def _rows_of(row: Row, name: str) -> list[Row]:
    """The rows of a list, each to be found malformed by itself; none where it is null."""
    items = row.get(name)
    if items is not None and not isinstance(items, list):
        raise row.malformed(f"field {name!r} must be a list, found {items!r:.200}")
    # What is no object becomes an empty row, of which the first required field is missing.
    return [Row(item if isinstance(item, dict) else {}, row.location) for item in items or ()]


def egoschema_videos(files: Files) -> set[str]:
    """Videos of EgoSchema's questions; none without its file.

    Raises:
        ValueError: The file is wrong.
    """
    clips = read_json_members(files, EGOSCHEMA_FILE) if files.exists(EGOSCHEMA_FILE) else ()
    return {clip.nested("value").id("video_uid") for clip in clips}


def _narrations_of_split(member: Row, split: str, videos: dict[str, Ego4dVideo]) -> Iterator[Row]:
    uid = member["name"]
    if uid not in videos:
        raise member.malformed(f"video {uid!r} is not in ego4d.json; use one release of both")
    if videos[uid].split == split:
        yield from _narrations(member)


def _narrations(member: Row) -> Iterator[Row]:
    """Each narration of a video, with its ``uid`` and ``name``; a pass may be missing."""
    record = member.nested("value")
    for name in _PASSES:
        narrations = [] if record.get(name) is None else _rows_of(record.nested(name), "narrations")
        for number, narration in enumerate(narrations):
            fields = {"uid": member["name"], "name": f"{name[-1]}_{number}"}
            yield Row({**narration, **fields}, f"{member.location}:{name}:{number}")
