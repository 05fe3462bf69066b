"""WebVid-2M and WebVid-10M: stage 1's video-caption pairs (section 4.1.1).

The original files have the header ``videoid,name,page_idx,page_dir,duration,contentUrl``; the
mirror in use since the corpus was withdrawn has ``videoid,contentUrl,duration,page_dir,name`` in
partitions; others have lost ``page_dir``, or have a column of row numbers. Ids may have leading
zeros. Some hundred rows have no ``page_dir``, some no caption. ``duration`` was scraped, not
measured (``PT01H..`` for a clip of 11 s), and is not read.
"""

from collections.abc import Iterator
from pathlib import Path

from data_modules.annotation_files import id_field, is_nan_like, read_csv_rows, text_field
from data_modules.index_cache import note_folder
from data_modules.skipped_rows import SkippedRows, UnusableRowError, examples_of
from data_modules.webdataset import has_shards, read_shards
from vidreason.example import Example
from vidreason.reasoning.prompts import CAPTION_PROMPT
from vidreason.video.media import is_remote


def read_webvid(root: str, split: str, skipped: SkippedRows | None = None) -> Iterator[Example]:
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
    skipped = SkippedRows() if skipped is None else skipped
    if is_remote(root) or has_shards(Path(root, split)):
        yield from read_shards(root, split, "webvid", skipped)
        return

    def make(place: str, row: dict[str, str]) -> Iterator[Example]:
        video_id, caption = id_field(row, "videoid", place), text_field(row, "name", place)
        folder = "" if is_nan_like(row.get("page_dir", "")) else row["page_dir"].strip()
        if is_nan_like(caption):
            raise UnusableRowError(place, "no caption (column 'name')")
        yield Example(
            id=f"webvid:{split}:{video_id}",
            corpus="webvid",
            media=str(Path(root, "videos", folder, f"{video_id}.mp4")),
            video_id=video_id,
            prompt=CAPTION_PROMPT,
            response=caption,
            answers=(caption,),
        )

    for path in _annotation_files(Path(root), split):
        rows = read_csv_rows(path, ("videoid", "name"), skipped)
        yield from examples_of(rows, make, skipped, named_by=("videoid",))


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
