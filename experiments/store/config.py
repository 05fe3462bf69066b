"""``StoreCommandConfig``: an experiment's configuration, and what is to be done to its store."""

from dataclasses import dataclass, field
from math import inf

from experiments.experiment_config import ExperimentConfig
from vidreason.ranges import check_ranges


@dataclass(kw_only=True)
class StoreCommandConfig(ExperimentConfig):
    """An experiment's configuration, and what is to be done to its store."""

    repair: bool = False
    """``verify`` also sets damaged files aside, after copying what is sound in them."""
    delete: bool = False
    """``gc`` removes what it lists."""
    keep: list[str] = field(default_factory=list)
    """Beginnings of the fingerprints, as ``stats`` prints them, of perceivers whose entries ``gc``
    spares; those of the configuration's own ``perceiver`` always stay."""
    unfinished_hours: float = 48.0
    """``gc`` spares unfinished and superseded files that were in use less long ago."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.store.path:
            raise ValueError("store.path is empty; name the folder of the store")
        check_ranges("", self, unfinished_hours=(0, inf))
