"""``AnticipationTrainingConfig``: data and schedule of action anticipation."""

from dataclasses import dataclass, field
from math import inf
from pathlib import PurePath

from data_modules.corpora import CorpusConfig
from data_modules.skipped_rows import MAX_MALFORMED_FRACTION
from vidreason.baselines.anticipation.config import AnticipationConfig, RecogniserConfig
from vidreason.ranges import ABOVE_0, check_ranges


@dataclass(kw_only=True)
class LabelFilesConfig:
    """Frame-wise labels in files, as Breakfast and 50Salads have them."""

    root: str = ""
    """Folder with ``groundTruth``, ``splits`` and ``mapping.txt``; with ``videos`` for a
    recogniser. Empty for none."""
    train: str = "train.split1"
    """Name of the bundle that is learnt."""
    validation: str = "test.split1"
    """Name of the bundle that is scored; empty for none."""
    frames_per_second: float = 15.0
    """Frame rate of the labels: 15 in Breakfast, 30 in 50Salads."""
    silent: list[str] = field(default_factory=list)
    """Labels that are no event, such as Breakfast's ``SIL``."""


@dataclass(kw_only=True)
class AnticipationTrainingConfig:
    """Data and schedule; the defaults are the official ones."""

    model: AnticipationConfig = field(default_factory=AnticipationConfig)
    """The network."""
    label_files: LabelFilesConfig = field(default_factory=LabelFilesConfig)
    """Labels in files."""
    events: list[CorpusConfig] = field(default_factory=list)
    """Instead of them, rows of ``causal_vid_instruct`` and captions of the same videos, whose
    events are made labels (:mod:`data_modules.event_segments`)."""
    validation_events: list[CorpusConfig] = field(default_factory=list)
    """The same for what is scored."""
    max_malformed_fraction: float = MAX_MALFORMED_FRACTION
    """Share of the rows, or of the files of labels, that may be malformed."""
    num_epochs: int = 20
    batch_size: int = 512
    learning_rate: float = 1e-3
    num_cuts: int = 10
    """Cuts of each segment, of which each is a sample of the RNN."""
    recogniser: RecogniserConfig | None = None
    """A recogniser that is trained, too, on the same videos; null for none."""
    recogniser_epochs: int = 20
    recogniser_batch_size: int = 32
    """Videos of a batch."""

    def __post_init__(self) -> None:
        counts = ("num_epochs", "batch_size", "num_cuts", "recogniser_epochs")
        ranges: dict[str, tuple[float, float]] = dict.fromkeys(counts, (1, inf))
        ranges |= {"recogniser_batch_size": (1, inf), "learning_rate": (ABOVE_0, 1)}
        check_ranges("anticipation", self, **ranges, max_malformed_fraction=(0, 1))
        check_ranges(
            "anticipation.label_files", self.label_files, frames_per_second=(ABOVE_0, 1000)
        )

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Corpora that are learnt from, each with its split."""
        if self.events:
            return tuple(f"{corpus.reader} ({corpus.split})" for corpus in self.events)
        return (f"{PurePath(self.label_files.root).name} ({self.label_files.train})",)

    def check_data(self) -> None:
        """Make sure that there is something to learn from.

        Raises:
            ValueError: There is nothing, or two kinds of it.
        """
        if bool(self.label_files.root) == bool(self.events):
            raise ValueError(
                "anticipation needs either label_files.root, a folder of files of labels, or "
                f"events, a list of corpora; found {'both' if self.events else 'neither'}"
            )
