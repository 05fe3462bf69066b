"""Configuration of the data: which corpora a run reads, and how."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Literal

from data_modules.skipped_rows import MAX_MALFORMED_FRACTION
from vidreason.added_parts import check_part
from vidreason.ranges import check_ranges
from vidreason.video.limits import DECODE_TIMEOUT_SECONDS

LongPrompts = Literal["leave_out", "cut_earlier_turns"]
"""Ways with an example whose prompt is too long. ``cut_earlier_turns`` takes as many turns of its
conversation away as it must, the earliest first; what is then still too long is left out."""
LossOn = Literal["last", "all"]
"""Answers of a conversation that an example teaches."""
DROPPED = ("clips", "objects", "moments")
"""Parts of videos that training samples may be shown without."""

BUILT_IN_READERS = (
    "webvid",
    "webdataset",
    "hd_vila",
    "nextqa",
    "nextqa_open_ended",
    "activitynet_qa",
    "nextgqa",
    "clevrer",
    "vcr",
    "test_of_time",
    "mvbench",
    "tempcompass",
    "video_mme",
    "egoschema",
    "star",
    "intentqa",
    "causal_vid_instruct",
    "ego4d",
    "something_something",
    "activitynet_captions",
    "subtitled_videos",
    "llava",
    "chat_messages",
    "huggingface",
)
"""Names of the readers of this project."""
_READERS_OF_SHARDS = ("webvid", "webdataset")
"""Readers whose root may be any address of a store."""
READER_GROUP = "vidreason.readers"
"""Group of the entry points by which installed packages add readers."""
FIELDS = (
    *("id", "media", "video_id", "start_seconds", "end_seconds"),
    *("prompt", "response", "options", "answer_index", "question_type", "group_id"),
)
"""Fields of an example that a column of a Hugging Face data set may be mapped to."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)


@dataclass(kw_only=True)
class CorpusConfig:
    """One corpus of a run."""

    reader: str
    """Format of the corpus' files, by the name of what reads it: ``docs/data.md`` lists them; an
    entry point of the group ``vidreason.readers`` that an installed package declares, or
    ``package.module:object``."""
    root: str
    """The folder with the corpus' own files; for ``huggingface`` also a name on the Hub, or
    ``hf://datasets/NAME`` to read it without storing it; for tar shards also an fsspec URL."""
    name: str = ""
    """Name in ids, tables and reports, so that two corpora of one format can stand side by side;
    empty for the reader's. A named benchmark is scored as its reader's is, unless
    ``evaluation.protocols`` says otherwise."""
    split: str = "train"
    """``train``, ``val`` or ``test``, as the corpus' files are named."""
    weight: float = 1.0
    """Training only: passes through this corpus an epoch. 1 shows every example once an epoch, 0.5
    a different half in each of two epochs, 2 every example twice."""
    limit: int | None = None
    """Read at most this many examples, or None for all."""
    media_dir: str = ""
    """A further folder or URL that the rows' media may lie in: a name that is not below ``root`` is
    looked for there. Without it rows are left out, and counted, whose media are outside of
    ``root``, by an absolute path, ``..`` or a link."""
    allow_remote_media: bool = False
    """True to let rows name media at any URL. Without it such rows are left out, and counted,
    unless ``root`` or ``media_dir`` is a URL and the media are below it."""
    columns: dict[str, str] = field(default_factory=dict)
    """``huggingface`` only: from an example's fields, such as ``media`` and ``response``, to the
    data set's columns; ``options`` may name several, as in ``a0, a1, a2, a3``."""
    revision: str | None = None
    """``huggingface`` only: commit, tag or branch of a data set of the Hub, or None for its main
    branch. Give a commit: the rows are read once and kept, and asking the Hub at each start whether
    a branch has moved on would make it a part of every run. Another revision is read anew."""

    def __post_init__(self) -> None:
        """Check ranges, and that there is such a reader."""
        check_part("reader", self.reader, READER_GROUP, BUILT_IN_READERS)
        if self.name and (
            not _NAME.fullmatch(self.name)
            or (self.name in BUILT_IN_READERS and self.name != self.reader)
        ):
            raise ValueError(
                f"corpus {self.reader}.name is {self.name!r}; it has at most 64 letters, digits, _ "
                "- and . and is not the name of another reader"
            )
        if (self.columns or self.revision) and self.reader != "huggingface":
            raise ValueError(
                "columns and revision are for the reader 'huggingface'; corpus "
                f"{self.reader!r} has its own file format: remove them"
            )
        self._check_address()
        unknown = sorted(set(self.columns) - set(FIELDS))
        if unknown:
            raise ValueError(
                f"columns of corpus {self.root!r}: an example has no field {', '.join(unknown)}; "
                f"the fields are {', '.join(FIELDS)}"
            )
        if self.weight <= 0:
            raise ValueError(
                f"corpus {self.reader}.weight is {self.weight}; it must be above 0 (to leave a "
                "corpus out, take it off the list)"
            )
        check_ranges(f"corpus {self.reader}", self, limit=(1, inf))

    def _check_address(self) -> None:
        """Refuse a root that is an address where the reader takes none."""
        # A reader from outside of this project may take any address.
        if "://" not in self.root or self.reader not in BUILT_IN_READERS:
            return
        if self.reader in _READERS_OF_SHARDS or (
            self.reader == "huggingface" and self.root.startswith("hf://datasets/")
        ):
            return
        taken = "hf://datasets/NAME or " if self.reader == "huggingface" else ""
        raise ValueError(
            f"corpus {self.reader}.root is {self.root!r}, an address, but this reader takes "
            f"{taken}a folder of this machine: download the files, and name their folder"
        )

    @property
    def corpus(self) -> str:
        """Name of the corpus, with which the ids of its examples begin."""
        return self.name or self.reader

    def __str__(self) -> str:
        return f"corpus {self.corpus!r}, split {self.split!r} in {self.root!r}"


def check_names(corpora: Sequence[CorpusConfig], listed: str) -> None:
    """Make sure that no two corpora of a list would give their rows the same ids.

    Ids begin with the corpus' name and its split. Rows without an id of their own are numbered, so
    that those of two corpora clash; where they do not, tables would mix both under one name.

    Args:
        corpora: The list.
        listed: Its name, for the message.

    Raises:
        ValueError: Two have one name and one split.
    """
    numbers: dict[tuple[str, str], int] = {}
    for number, corpus in enumerate(corpora):
        first = numbers.setdefault((corpus.corpus, corpus.split), number)
        if first == number:
            continue
        roots = corpora[first].root, corpus.root
        if roots[0] == roots[1]:
            raise ValueError(
                f"{listed} has {corpus} twice, as entries {first} and {number}: take one of them "
                "away (in training, weight: 2 shows a corpus twice an epoch)"
            )
        raise ValueError(
            f"{listed} has two corpora {corpus.corpus!r} of split {corpus.split!r}, entry {first} "
            f"in {roots[0]!r} and entry {number} in {roots[1]!r}: their rows, tables and reports "
            "are told apart by name, so give one of them name: NAME beside its root"
        )


@dataclass(kw_only=True)
class DataConfig:
    """The data of a run: what is read, in which batches, and what may be missing."""

    train: list[CorpusConfig] = field(default_factory=list)
    """Training corpora, mixed by their weights."""
    validation: list[CorpusConfig] = field(default_factory=list)
    """Corpora whose loss is logged as ``val/loss``; weights have no effect here."""
    benchmark: list[CorpusConfig] = field(default_factory=list)
    """Corpora that are answered and scored, by ``experiments.evaluate`` and during training."""
    batch_size: int = 8
    """Samples a micro-batch on one device."""
    global_batch_size: int = 256
    """Samples an optimizer step, over all devices and micro-batches."""
    num_epochs: int = 3
    """Epochs; see ``weight`` for what an epoch holds. A run that is continued may be given more of
    them, in its midst or after its end: the learning rate then joins the schedule over the new
    length within ``optimizer.warmup_steps``, from where it stood."""
    num_workers: int = 0
    """Processes that load data, for each device; 0 loads in the training process."""
    max_text_tokens: int = 512
    """Longest prompt and response together, in tokens. A longer response is cut at its end."""
    long_prompts: LongPrompts = "leave_out"
    """Examples whose prompt alone is as long, such as late turns of a long conversation, are left
    out before training starts and counted; ``cut_earlier_turns`` first takes earlier questions with
    their answers away. What the system says stays."""
    loss_on: LossOn = "last"
    """Answers that an example of a conversation teaches. ``last``: each answer is the last one of
    an example, in which the turns before it are only read. ``all``: a conversation is one example,
    which counts and weighs as one and teaches all its answers; nothing is read twice. It needs a
    chat template that writes earlier answers as it writes the last one."""
    max_malformed_fraction: float = MAX_MALFORMED_FRACTION
    """Share of a corpus' rows that may be malformed, and are left out and counted; beyond it the
    run stops and shows the first of them. One row may always be, unless this is 0."""
    max_unreadable_fraction: float = 0.01
    """Share of samples whose video may be unreadable; beyond it the run stops with a summary."""
    decode_timeout_seconds: float | None = DECODE_TIMEOUT_SECONDS
    """A video counts as unreadable when hashing it for the store, finding its frames, or decoding
    them takes longer. Null waits without limit, and reads videos in the process that perceives,
    where a crash would end the run."""
    drop: dict[str, float] = field(default_factory=dict)
    """Training only: probabilities that a sample is shown without some of its ``clips`` or
    ``objects``, any number but all, or with one stretch of its ``moments``, which lacks the end;
    ``{clips: 0.1}``. See ``vidreason/training/dropped_tokens.py``."""
    limit: int | None = None
    """For debugging: at most this many examples of every corpus, also where its own ``limit`` is
    higher. None for all."""
    overfit_batches: int | None = None
    """For debugging: an epoch is this many first global batches of the order, the same in each.
    None for all."""

    def __post_init__(self) -> None:
        """Check ranges and the corpora's names, and hand ``limit`` to each corpus."""
        counts = "limit overfit_batches batch_size global_batch_size num_epochs max_text_tokens"
        ranges: dict[str, tuple[float, float]] = dict.fromkeys(counts.split(), (1, inf))
        ranges |= dict.fromkeys(("num_workers",), (0, inf))
        ranges |= dict.fromkeys(("max_malformed_fraction", "max_unreadable_fraction"), (0, 1))
        check_ranges("data", self, **ranges)
        for what, probability in self.drop.items():
            if what not in DROPPED or not 0 <= probability <= 1:
                raise ValueError(
                    f"data.drop gives {what!r} {probability}; it names {', '.join(DROPPED)} and "
                    "gives each a probability from 0 to 1"
                )
        if self.decode_timeout_seconds is not None and self.decode_timeout_seconds <= 0:
            raise ValueError(
                f"data.decode_timeout_seconds is {self.decode_timeout_seconds}; it must be above "
                "0, or null for no limit"
            )
        for listed in ("train", "validation", "benchmark"):
            check_names(getattr(self, listed), f"data.{listed}")
        # The smaller of both limits counts.
        if self.limit is not None:
            self.train, self.validation, self.benchmark = (
                [replace(c, limit=min(c.limit or self.limit, self.limit)) for c in corpora]
                for corpora in (self.train, self.validation, self.benchmark)
            )


@dataclass(kw_only=True)
class DataCheckConfig:
    """Thoroughness and thresholds of ``experiments.data check``, which reads all annotations."""

    probe_videos: int = 200
    """Videos of each corpus, drawn at random, that are opened and indexed."""
    decode_videos: int = 0
    """How many of these are decoded from the first to the last frame, too."""
    hash_videos: int = 200
    """Videos (or spans) of each corpus, drawn at random, whose pictures are compared between
    training and evaluation; 0 leaves the pictures out."""
    min_text_similarity: float = 0.8
    """From which share of common three-word sequences on two texts are nearly the same."""
    max_skipped_fraction: float = 0.5
    """Share of a corpus' rows that its reader may leave out: failed downloads, no caption."""
    shown_rows: int = 6
    """Rows of each corpus on the page of ``experiments.data show``."""
    max_contaminated_fraction: float = 0.0
    """Share of the evaluation videos that may stand in the training data."""

    def __post_init__(self) -> None:
        """Check ranges."""
        numbers = dict.fromkeys(("probe_videos", "decode_videos", "hash_videos"), (0, inf))
        numbers["shown_rows"] = (1, inf)
        shares = dict.fromkeys(("max_skipped_fraction", "max_contaminated_fraction"), (0, 1))
        # With 0 every text would match.
        check_ranges("data_check", self, **numbers, **shares, min_text_similarity=(0.01, 1))
