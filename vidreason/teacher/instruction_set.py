"""Writing an instruction set: rows by split, what was rejected, a card, a page and a report.

Layout of the folder::

    train.jsonl, val.jsonl   rows, in the format of the reader ``causal_vid_instruct``
    rejected.jsonl           clips without a row, with their causes; not to be published
    README.md                the card, by whose head Hugging Face ``datasets`` loads the rows
    report.md, bias.html     how clips ended; what the teacher prefers
    videos/<source>          links to the folders of the videos
    training.yaml            an overlay for a training configuration on this machine

One journal gives the same bytes each time, but for links and ``training.yaml``, which say where the
videos are.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from vidreason.atomic_file import atomic_file, write_atomically
from vidreason.evaluation.tables import Table
from vidreason.teacher.bias_page import write_bias_page
from vidreason.teacher.card import card_facts, instruction_card, set_report
from vidreason.teacher.journal_records import Ended
from vidreason.teacher.media_folders import TRAINING_FILE, VIDEOS, MediaFolders
from vidreason.teacher.provenance import TeacherProvenance
from vidreason.teacher.published import published_provenance
from vidreason.teacher.reviews import REVIEWS_FOLDER
from vidreason.teacher.rows import (
    UNWRITABLE,
    UnwritableRowError,
    instruction_row,
    json_line,
    unused_row,
)
from vidreason.teacher.set_summary import SetSummary

logger = logging.getLogger(__name__)

SPLITS = ("train", "val")
REJECTED = "rejected"
_UNPUBLISHED = f"# Links to videos, paths of one machine, and what was refused.\n/{VIDEOS}/\n" + (
    f"/{TRAINING_FILE}\n/{REJECTED}.jsonl\n# Reviews, and pages with frames of the videos.\n"
    f"/review/\n/{REVIEWS_FOLDER}/\n"
)


@dataclass(frozen=True, kw_only=True)
class SetOptions:
    """Facts of a run besides its clips, and how its set is written."""

    facts: Mapping[str, str] = field(default_factory=dict)
    """For card, page and report: the verifier's id, what was paid and what was estimated."""
    tables: Sequence[Table] = ()
    """For card and report: the sample, what was excluded from it, and the gate's counts."""
    media_roots: Mapping[str, str] = field(default_factory=dict)
    """Folder of each source's videos; the one that they share where it is not given."""
    link_videos: bool = True
    """True to link ``videos/<source>`` to these."""


def write_instruction_set(
    folder: Path,
    ended: Callable[[], Iterator[Ended]],
    provenance: TeacherProvenance,
    options: SetOptions | None = None,
) -> SetSummary:
    """Write the set of a run; each file appears whole or not at all.

    An accepted answer that the format cannot hold is counted as ``unwritable``, with the rejected.

    Args:
        folder: Where to; files of an earlier call are replaced.
        ended: Returns all clips that ended, in order; it is called twice.
        provenance: What the answers have in common.
        options: See there.

    Raises:
        ValueError: A video's clips are in both splits, or a source has no valid name.
    """
    options = options or SetOptions()
    provenance = published_provenance(provenance)
    media = MediaFolders(options.media_roots)
    # A first pass, as the first row needs the folders and the validation videos of all clips.
    validation_videos = _survey(ended(), media)
    summary = SetSummary()
    with ExitStack() as stack:
        # Their names appear when the block ends, and not if a row raises.
        files = {
            name: stack.enter_context(atomic_file(folder / f"{name}.jsonl"))
            for name in (*SPLITS, REJECTED)
        }
        for clip in ended():
            _check_split(clip, validation_videos)
            _write(clip, files, provenance, media, summary)
    if options.link_videos:
        media.link(folder)
    splits = [split for split in SPLITS if summary.num_rows[split]]
    summary.media_dir = media.write_training_file(folder, splits)
    summary.unlinked = media.remarks
    for name, remark in sorted(media.remarks.items()):
        logger.warning("%s: %s: %s", folder, name, remark)
    facts = card_facts(summary, provenance, options.facts)
    write_bias_page(folder / "bias.html", summary.bias, facts)
    write_atomically(folder / ".gitignore", _UNPUBLISHED)
    write_atomically(folder / "report.md", set_report(summary, facts, options.tables))
    write_atomically(
        folder / "README.md", instruction_card(summary, provenance, facts, options.tables)
    )
    return summary


def _survey(ended: Iterator[Ended], media: MediaFolders) -> set[bytes]:
    """Hashes of the videos of the validation split; the folders of all videos."""
    videos = set()
    for item in ended:
        media.survey(item.clip)
        if item.clip.split == "val":
            videos.add(_video(item))
    return videos


def _video(item: Ended) -> bytes:
    # 16 bytes a video are held, however long its id. Names of files that are not UTF-8 have halves
    # of surrogate pairs.
    identity = f"{item.clip.source}\0{item.clip.video_id}"
    return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).digest()[:16]


def _check_split(item: Ended, validation_videos: set[bytes]) -> None:
    clip = item.clip
    if clip.split not in SPLITS:
        raise ValueError(
            f"the clip {clip.id} has the split {clip.split!r:.50}; make it train or val"
        )
    if clip.split == "train" and _video(item) in validation_videos:
        raise ValueError(
            f"the video {clip.video_id!r:.100} of {clip.source} has clips in train and in val; all "
            "clips of a video belong to one split: sample the clips again in a new run_dir"
        )


def _write(
    ended: Ended,
    files: Mapping[str, BinaryIO],
    provenance: TeacherProvenance,
    media: MediaFolders,
    summary: SetSummary,
) -> None:
    clip, verdict = ended.clip, ended.verdict
    problem = ""
    if verdict is not None and verdict.rejection is None:
        assert verdict.draft is not None, "an accepted answer has a draft"
        try:
            row = instruction_row(
                clip,
                verdict.draft,
                provenance,
                ended.created,
                verdict.flags,
                media=media.relative(clip),
            )
        except UnwritableRowError as error:
            problem = str(error)
            # The first one is told; all are in the file of the rejected.
            if not summary.endings[UNWRITABLE]:
                logger.warning("%s: left out: %s (others are only counted)", clip.id, problem)
        else:
            files[clip.split].write(json_line(row))
            summary.add_row(ended, row)
            return
    row = unused_row(ended, problem, media=media.relative(clip))
    files[REJECTED].write(json_line(row))
    summary.add_unused(ended, str(row["cause"]))
