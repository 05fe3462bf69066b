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
from collections.abc import Iterable, Iterator
from pathlib import Path

from data_modules.example_kinds import caption_example
from data_modules.files import Files
from data_modules.rows import Row, is_nan_like
from data_modules.shard_index import ShardSample, open_shard_index
from data_modules.skipped_rows import SkippedRows, examples_of
from data_modules.table_files import read_parquet_rows
from vidreason.example import Example
from vidreason.video.media import is_on_network, is_remote, server_said

VIDEO_EXTENSIONS = ("mp4", "webm", "mkv", "mov", "avi")
_SUCCESS = "success"


def read_webdataset(files: Files, split: str, skipped: SkippedRows) -> Iterator[Example]:
    """Yield one captioning example a sample of the tar shards in ``<root>/<split>``.

    ``root`` may be an fsspec URL. The caption is the field ``caption`` of the sample's json, else
    its ``txt``, else the column ``caption`` of the parquet file beside the shard (local shards).
    Left out are samples without video, with a ``status`` other than ``success``, without a caption,
    or with a damaged json; what a cut-off or damaged shard has lost, counted as one; and rows of
    the parquet file that are not in its shard.

    Raises:
        ValueError: There is no shard, or a parquet file beside one is damaged.
    """
    yield from read_shards(files, split, "webdataset", skipped)


def read_shards(files: Files, split: str, corpus: str, skipped: SkippedRows) -> Iterator[Example]:
    """:func:`read_webdataset` under the name of another corpus."""
    folder = f"{files.root.rstrip('/')}/{split}"
    try:
        index = open_shard_index(folder, files.shards(split))
    except OSError as error:
        said = server_said(error) if is_on_network(folder) else error
        raise ValueError(f"the shards in {folder!r} cannot be read: {said}") from error
    base = folder if is_remote(folder) else os.path.abspath(folder)
    # What a damaged shard has lost is counted once a shard.
    for shard, failure in index.failures:
        cause, _, detail = failure.partition(": ")
        skipped.record(f"{shard} ({detail})", cause)

    def make(row: Row) -> Iterator[Example]:
        sample: ShardSample = row["sample"]
        stem, _ = os.path.splitext(sample.shard[len(base) + 1 :])
        row = _with_json(row, sample)
        status = row.get("status", _SUCCESS)
        if status != _SUCCESS:
            raise row.unusable(f"status {str(status)[:100]!r}")
        media = [sample.members[name].media for name in VIDEO_EXTENSIONS if name in sample.members]
        if not media:
            raise row.unusable(f"no video ({', '.join(VIDEO_EXTENSIONS)})")
        yield caption_example(
            _caption(row, sample),
            id=f"{corpus}:{split}:{stem}/{sample.key}",
            media=media[0],
            video_id=str(row.get("videoid") or sample.key),
        )

    # One shard at a time, so that its parquet file is held no longer than needed.
    for shard, samples in index.by_shard():
        rows = _SideFile(files, shard)
        yield from examples_of(rows.joined(samples, skipped), make, skipped)
        rows.record_rest(skipped)


def _with_json(row: Row, sample: ShardSample) -> Row:
    """The row with the fields of the sample's json, which win over those of the parquet file."""
    if "json" not in sample.members:
        return row
    try:
        fields = json.loads(_text(sample, "json"))
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise row.unusable("its json is damaged")
    return row.adding(fields)


def _caption(row: Row, sample: ShardSample) -> str:
    try:
        caption = row.get("caption") or _text(sample, "txt")
    except UnicodeDecodeError as error:
        raise row.unusable("its txt is damaged") from error
    # With captions_are_subtitles video2dataset writes str() of a Python list into the txt.
    if not isinstance(caption, str) or caption.startswith(("[{", "['", '["')):
        raise row.unusable("its caption is a list (captions_are_subtitles), not a text")
    if is_nan_like(caption):
        raise row.unusable("no caption")
    return caption.strip()


def _text(sample: ShardSample, extension: str) -> str:
    member = sample.members.get(extension)
    return "" if member is None else member.read().decode("utf-8-sig")


class _SideFile:
    """The rows of the parquet file beside a shard, by key; none where there is no such file."""

    def __init__(self, files: Files, shard: str) -> None:
        self._shard = shard
        self._rows: dict[str, Row] = {}
        self._taken: set[str] = set()
        path = Path(shard).with_suffix(".parquet")
        if is_remote(shard) or not files.exists(path):
            return
        self._path = path
        try:
            for row in read_parquet_rows(files, path, ("key", "status", "caption", "videoid")):
                if "key" in row:
                    self._rows[str(row["key"])] = row
        except ValueError as error:
            raise ValueError(f"{error} or remove it (the shard is read without it)") from error

    def joined(self, samples: Iterable[ShardSample], skipped: SkippedRows) -> Iterator[Row]:
        """Each sample, under ``sample``, with the fields of its row, as far as it has one."""
        for sample in samples:
            location = f"{self._shard}:{sample.key}"
            for extension in sample.repeated:
                skipped.record(
                    f"{location}.{extension}", "a name that is there before in its shard"
                )
            # The clips of a video are called <key>_<number>.
            key = sample.key if sample.key in self._rows else sample.key.rpartition("_")[0]
            self._taken.add(key)
            row = self._rows.get(key, Row({}, location))
            # A null is left out, so that the defaults of absent fields hold for it.
            known = {name: value for name, value in row.items() if value is not None}
            yield Row({**known, "sample": sample}, location)

    def record_rest(self, skipped: SkippedRows) -> None:
        """Count the rows that no sample of the shard belongs to."""
        for key, row in self._rows.items():
            if key not in self._taken:
                status = row.get("status") or _SUCCESS
                is_lost = status == _SUCCESS
                cause = "in the parquet file, not in its shard" if is_lost else f"status {status!r}"
                skipped.record(f"{self._path}:{key}", cause)
