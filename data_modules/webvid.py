"""WebVid-2M and WebVid-10M: stage 1's video-caption pairs (section 4.1.1).

The original files have the header ``videoid,name,page_idx,page_dir,duration,contentUrl``; the
mirror in use since the corpus was withdrawn has ``videoid,contentUrl,duration,page_dir,name`` in
partitions; others have lost ``page_dir``, or have a column of row numbers. Ids may have leading
zeros. Some hundred rows have no ``page_dir``, some no caption. ``duration`` was scraped, not
measured (``PT01H..`` for a clip of 11 s), and is not read.
"""

from collections.abc import Iterator
from pathlib import Path

from data_modules.annotation_files import read_csv_rows
from data_modules.example_kinds import caption_example
from data_modules.files import Files
from data_modules.rows import Row, is_nan_like
from data_modules.skipped_rows import SkippedRows, examples_of
from data_modules.webdataset import read_shards
from vidreason.example import Example
from vidreason.video.media import is_remote


def read_webvid(files: Files, split: str, skipped: SkippedRows) -> Iterator[Example]:
    """Yield one captioning example a row.

    Layout: ``<root>/metadata/results_<2M|10M>_<split>.csv``, or ``<root>/<split>.csv``, or the
    mirror's ``<root>/data/<split>/partitions/*.csv``; videos in
    ``<root>/videos/<page_dir>/<videoid>.mp4``. A row without ``page_dir`` has its video in
    ``<root>/videos``. Rows without a caption, or with ``nan`` or ``None`` for one, teach nothing
    and are left out. Malformed rows have no id, or a wrong number of columns.

    Where there are tar shards in ``<root>/<split>``, which may be a URL, these are read instead, as
    by :func:`data_modules.webdataset.read_webdataset`: they hold their captions.

    Raises:
        ValueError: No annotation file, several that overlap, or one that is wrong as a whole.
    """
    if is_remote(files.root) or any(n.lower().endswith(".tar") for n in files.shards(split)):
        yield from read_shards(files, split, "webvid", skipped)
        return

    def make(row: Row) -> Iterator[Example]:
        video_id, caption = row.id("videoid"), row.text("name")
        folder = "" if is_nan_like(row.text("page_dir")) else row.text("page_dir")
        if is_nan_like(caption):
            raise row.unusable("no caption (column 'name')")
        yield caption_example(
            caption,
            id=f"webvid:{split}:{video_id}",
            media=str(files.path("videos", folder, f"{video_id}.mp4")),
            video_id=video_id,
        )

    for path in _annotation_files(files, split):
        rows = read_csv_rows(files, path, ("videoid", "name"), skipped)
        yield from examples_of(rows, make, skipped, named_by=("videoid",))


def _annotation_files(files: Files, split: str) -> list[Path]:
    originals = files.glob("metadata", f"results_*_{split}.csv")
    if len(originals) > 1:
        # The 10M part contains the 2M part: reading both would repeat 2.5 million videos under one
        # id.
        names = ", ".join(path.name for path in originals)
        raise ValueError(f"{originals[0].parent}: {names} overlap; keep one of them in this root")
    if originals:
        return originals
    if files.exists(f"{split}.csv"):
        return [files.path(f"{split}.csv")]
    partitions = files.glob(f"data/{split}/partitions", "*.csv")
    if not partitions:
        raise ValueError(
            f"webvid root {files.root!r} has none of metadata/results_<2M|10M>_{split}.csv, "
            f"{split}.csv, data/{split}/partitions/*.csv, {split}/*.tar: check the corpus' root "
            "and split"
        )
    return partitions
