"""``TrainingCorporaConfig``: corpora that a baseline is trained on and scored on."""

from dataclasses import dataclass, field

from data_modules.corpora import CorpusConfig
from data_modules.skipped_rows import MAX_MALFORMED_FRACTION
from vidreason.ranges import check_ranges


@dataclass(kw_only=True)
class TrainingCorporaConfig:
    """Corpora by what they are for, and what may be missing of them."""

    train: list[CorpusConfig] = field(default_factory=list)
    """Corpora that are learnt."""
    validation: list[CorpusConfig] = field(default_factory=list)
    """Corpora that are scored at the end; empty for no score."""
    max_malformed_fraction: float = MAX_MALFORMED_FRACTION
    """Share of a corpus' rows that may be malformed."""
    max_unreadable_fraction: float = 0.01
    """Share of samples whose video may be unreadable; beyond it the run stops with a summary."""

    def __post_init__(self) -> None:
        shares = ("max_malformed_fraction", "max_unreadable_fraction")
        check_ranges("data", self, **dict.fromkeys(shares, (0, 1)))

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Corpora that are learnt from, each with its split, once."""
        return tuple(dict.fromkeys(f"{corpus.reader} ({corpus.split})" for corpus in self.train))

    def check_train(self, section: str) -> None:
        """Make sure that there is something to learn from.

        Raises:
            ValueError: There is nothing.
        """
        if not self.train:
            raise ValueError(
                f"{section}.data.train is empty; list the corpora to learn from, each with reader, "
                "root and split"
            )
