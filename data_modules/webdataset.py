"""Captioned videos in WebDataset tar shards, as video2dataset writes them and others too.

video2dataset (iejMac/video2dataset, ``data_writer.py`` and ``workers/download_worker.py``) writes
``00000.tar`` with the members ``<key>.mp4``, ``<key>.txt`` (caption) and ``<key>.json``, and beside
it ``00000.parquet`` with a row a sample. A download that failed has no video, and a ``status``
other than ``success``. Samples are out of order, clips of a video have ``_00001`` after their key,
and with ``captions_are_subtitles`` the caption is a list written as text. Extensions may be in
capitals, and members of one sample apart. For what tar files bring along see
:mod:`data_modules.shard_scan`.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_modules.annotation_files import check_text, is_nan_like
from data_modules.index_cache import note_file, note_folder
from data_modules.shard_index import ShardIndex, ShardSample, open_shard_index
from data_modules.skipped_rows import MalformedRowError, SkippedRows
from vidreason.example import Example
from vidreason.reasoning.prompts import CAPTION_PROMPT
from vidreason.video.media import is_remote

VIDEO_EXTENSIONS = ("mp4", "webm", "mkv", "mov", "avi")
_SUCCESS = "success"


def read_webdataset(root: str, split: str, skipped: SkippedRows | None = None) -> Iterator[Example]:
    """Yield one captioning example a sample of the tar shards in ``<root>/<split>``.

    ``root`` may be an fsspec URL. The caption is the field ``caption`` of the sample's json, else
    its ``txt``, else the column ``caption`` of the parquet file beside the shard (local shards).
    Left out are samples without video, with a ``status`` other than ``success``, without a caption,
    or with a damaged json; what a cut-off or damaged shard has lost, counted as one; and rows of
    the parquet file that its shard lacks.

    Raises:
        ValueError: There is no shard, or a parquet file beside one is damaged.
    """
    yield from read_shards(root, split, "webdataset", SkippedRows() if skipped is None else skipped)


def read_shards(root: str, split: str, corpus: str, skipped: SkippedRows) -> Iterator[Example]:
    """:func:`read_webdataset` under the name of another corpus."""
    folder = f"{root.rstrip('/')}/{split}"
    try:
        index = open_shard_index(folder)
    except OSError as error:
        raise ValueError(f"the shards in {folder!r} cannot be read: {error}") from error
    base = folder if is_remote(folder) else os.path.abspath(folder)
    for shard, failure in index.failures:
        cause, _, detail = failure.partition(": ")
        skipped.record(f"{shard} ({detail})", cause)
    for shard, samples in _by_shard(index):
        stem, _ = os.path.splitext(shard[len(base) + 1 :])
        listed = _SideFile(shard)
        for sample in samples:
            place = f"{shard}:{sample.key}"
            row = listed.take(sample.key)
            for extension in sample.repeated:
                skipped.record(f"{place}.{extension}", "a name that is there before in its shard")
            found = _read_sample(sample, row, place, skipped)
            if found is None:
                continue
            media, caption, video_id = found
            skipped.num_read += 1
            yield Example(
                id=f"{corpus}:{split}:{stem}/{sample.key}",
                corpus=corpus,
                media=media,
                video_id=video_id,
                prompt=CAPTION_PROMPT,
                response=caption,
                answers=(caption,),
            )
        listed.record_rest(skipped)


def has_shards(folder: Path) -> bool:
    """Whether there is a tar shard in ``folder`` or below."""
    note_folder(folder)
    return any(name.suffix.lower() == ".tar" for name in folder.rglob("*.[tT][aA][rR]"))


def _by_shard(index: ShardIndex) -> Iterator[tuple[str, Iterator[ShardSample]]]:
    """Every shard with its samples; also shards in which every download failed."""
    samples = index.samples()
    upcoming = next(samples, None)

    def of(shard: str) -> Iterator[ShardSample]:
        nonlocal upcoming
        while upcoming is not None and upcoming.shard == shard:
            yield upcoming
            upcoming = next(samples, None)

    for shard in index.shards:
        yield shard.media, of(shard.media)


def _read_sample(
    sample: ShardSample, row: dict[str, Any], place: str, skipped: SkippedRows
) -> tuple[str, str, str] | None:
    """Media, caption and video id of a sample, or None after its cause was recorded."""
    fields = row
    if "json" in sample.members:
        try:
            read = json.loads(_text(sample, "json"))
        except (ValueError, RecursionError):
            read = None
        if not isinstance(read, dict):
            skipped.record(place, "its json is damaged")
            return None
        fields = row | read
    status = fields.get("status", _SUCCESS)
    if status != _SUCCESS:
        skipped.record(place, f"status {str(status)[:100]!r}")
        return None
    media = [sample.members[name].media for name in VIDEO_EXTENSIONS if name in sample.members]
    if not media:
        skipped.record(place, f"no video ({', '.join(VIDEO_EXTENSIONS)})")
        return None
    try:
        caption = fields.get("caption") or _text(sample, "txt")
    except UnicodeDecodeError:
        skipped.record(place, "its txt is damaged")
        return None
    # With captions_are_subtitles video2dataset writes str() of a Python list into the txt.
    if not isinstance(caption, str) or caption.startswith(("[{", "['", '["')):
        skipped.record(place, "its caption is a list (captions_are_subtitles), not a text")
        return None
    if is_nan_like(caption):
        skipped.record(place, "no caption")
        return None
    try:
        check_text(caption, "caption", place)
    except MalformedRowError as error:
        skipped.record_malformed(error)
        return None
    video_id = fields.get("videoid")
    return media[0], caption.strip(), str(video_id) if video_id else sample.key


def _text(sample: ShardSample, extension: str) -> str:
    member = sample.members.get(extension)
    return "" if member is None else member.read().decode("utf-8-sig")


class _SideFile:
    """The rows of the parquet file beside a shard, by key; none where there is no such file."""

    def __init__(self, shard: str) -> None:
        self.path = Path(shard).with_suffix(".parquet")
        self._rows: dict[str, dict[str, Any]] = {}
        self._taken: set[str] = set()
        if is_remote(shard):
            return
        note_file(self.path)
        if not self.path.is_file():
            return
        try:
            file = pq.ParquetFile(self.path)
            columns = [
                name
                for name in ("key", "status", "caption", "videoid")
                if name in file.schema_arrow.names
            ]
            rows = file.read(columns).to_pylist() if "key" in columns else []
        except (pa.ArrowException, OSError) as error:
            raise ValueError(
                f"{self.path}: not a sound Parquet file: {error}; fetch it again or remove it (the "
                "shard is read without it)"
            ) from error
        self._rows = {str(row["key"]): row for row in rows}

    def take(self, key: str) -> dict[str, Any]:
        """The row of a sample, empty if there is none."""
        # The clips of a video are called <key>_<number>.
        row_key = key if key in self._rows else key.rpartition("_")[0]
        self._taken.add(row_key)
        row = self._rows.get(row_key, {})
        return {name: value for name, value in row.items() if value is not None}

    def record_rest(self, skipped: SkippedRows) -> None:
        """Count the rows that no sample of the shard belongs to."""
        for key, row in self._rows.items():
            if key not in self._taken:
                status = row.get("status") or _SUCCESS
                is_lost = status == _SUCCESS
                cause = "in the parquet file, not in its shard" if is_lost else f"status {status!r}"
                skipped.record(f"{self.path}:{key}", cause)
