"""WebVid-2M and WebVid-10M: stage 1's video-caption pairs (section 4.1.1).

The original files have the header ``videoid,name,page_idx,page_dir,duration,contentUrl``; the
mirror in use since the corpus was withdrawn has ``videoid,contentUrl,duration,page_dir,name`` in
partitions. ``duration`` was scraped, not measured, and is not read.
"""

from collections.abc import Iterator
from pathlib import Path

from data_modules.annotation_files import id_field, is_nan_like, read_csv_rows
from data_modules.index_cache import note_folder
from data_modules.skipped_rows import SkippedRows
from data_modules.webdataset import has_shards, read_shards
from vidreason.example import Example
from vidreason.reasoning.prompts import CAPTION_PROMPT
from vidreason.video.media import is_remote


def read_webvid(root: str, split: str, skipped: SkippedRows | None = None) -> Iterator[Example]:
    """Yield one captioning example a row.

    Layout: ``<root>/metadata/results_<2M|10M>_<split>.csv``, or ``<root>/<split>.csv``, or the
    mirror's ``<root>/data/<split>/partitions/*.csv``; videos in
    ``<root>/videos/<page_dir>/<videoid>.mp4``. A row without ``page_dir`` (the originals have a few
    hundred) has its video in ``<root>/videos``. Rows without a caption, or with ``nan`` or ``None``
    for one, teach nothing and are left out.

    Where there are tar shards in ``<root>/<split>``, which may be a URL, these are read instead, as
    by :func:`data_modules.webdataset.read_webdataset`: they hold their captions.

    Raises:
        ValueError: No annotation file, several that overlap, or a malformed row; the message names
            file and line.
    """
    skipped = SkippedRows() if skipped is None else skipped
    if is_remote(root) or has_shards(Path(root, split)):
        yield from read_shards(root, split, "webvid", skipped)
        return
    for path in _annotation_files(Path(root), split):
        for place, row in read_csv_rows(path, ("videoid", "name", "page_dir")):
            video_id, caption = id_field(row, "videoid", place), row["name"].strip()
            folder = "" if is_nan_like(row["page_dir"]) else row["page_dir"].strip()
            if is_nan_like(caption):
                skipped.record(place, "no caption (column 'name')")
                continue
            yield Example(
                id=f"webvid:{split}:{video_id}",
                corpus="webvid",
                media=str(Path(root, "videos", folder, f"{video_id}.mp4")),
                video_id=video_id,
                prompt=CAPTION_PROMPT,
                response=caption,
                answers=(caption,),
            )


def _annotation_files(root: Path, split: str) -> list[Path]:
    note_folder(root / "metadata")
    note_folder(root / "data" / split / "partitions")
    originals = sorted((root / "metadata").glob(f"results_*_{split}.csv"))
    if len(originals) > 1:
        # The 10M part contains the 2M part: reading both would repeat 2.5 million videos under one
        # id.
        names = ", ".join(path.name for path in originals)
        raise ValueError(f"{root / 'metadata'}: {names} overlap; keep one of them in this root")
    plain = root / f"{split}.csv"
    partitions = sorted((root / "data" / split / "partitions").glob("*.csv"))
    candidates = originals or ([plain] if plain.is_file() else partitions)
    if not candidates:
        raise ValueError(
            f"webvid root {str(root)!r} has none of metadata/results_<2M|10M>_{split}.csv, "
            f"{split}.csv, "
            f"data/{split}/partitions/*.csv, {split}/*.tar: check the corpus' root and split"
        )
    return candidates
