"""Questions that a sweep chooses on, and those that it keeps for the trial it has chosen."""

from collections.abc import Iterable
from dataclasses import dataclass

from data_modules.corpora import CorpusConfig, DataConfig
from data_modules.held_out_splits import is_test_split
from experiments.sweep.config import SweepConfig

KNOWINGLY = "test_split_knowingly"


@dataclass(frozen=True, kw_only=True)
class Questions:
    """Corpora of a sweep by what they are for."""

    decisive: tuple[CorpusConfig, ...]
    """All trials answer these."""
    held_out: tuple[CorpusConfig, ...]
    """The chosen trial alone answers these, once."""


def sweep_questions(config: SweepConfig, data: DataConfig) -> Questions:
    """Part the benchmark into what decides and what is held out.

    Args:
        config: The sweep's.
        data: A trial's.

    Raises:
        ValueError: There is nothing to choose on but test splits, and ``config.choose_on`` does not
            say that these are meant; or it is trained on, or has no corpus ``config.corpus``.
    """
    if not data.benchmark:
        raise ValueError("data.benchmark is empty; name the corpora that the trials answer")
    decisive, held_out = tuple(data.benchmark), tuple[CorpusConfig, ...]()
    if config.choose_on != KNOWINGLY:
        held_out = tuple(filter(is_test_split, data.benchmark))
        decisive = tuple(corpus for corpus in data.benchmark if corpus not in held_out)
        if not decisive:
            names = {corpus.corpus for corpus in data.benchmark}
            # The benchmark is test splits alone: the same corpora's validation splits decide.
            decisive = tuple(
                corpus
                for corpus in data.validation
                if corpus.corpus in names and not is_test_split(corpus)
            )
        if not decisive:
            raise ValueError(
                "there is nothing to choose on but test splits, and a test that has chosen is no "
                f"test any more: data.benchmark has {_listed(held_out)}. List one of these corpora "
                "with its validation split, such as split: val, in data.benchmark or "
                f"data.validation, or say choose_on={KNOWINGLY}"
            )
    _check_decisive(config, data, decisive)
    return Questions(decisive=decisive, held_out=held_out)


def _check_decisive(
    config: SweepConfig, data: DataConfig, decisive: tuple[CorpusConfig, ...]
) -> None:
    # By the files, whatever name a corpus has been given.
    trained = {(corpus.reader, corpus.root, corpus.split) for corpus in data.train}
    learnt = [one for one in decisive if (one.reader, one.root, one.split) in trained]
    if learnt:
        raise ValueError(
            f"trials would be chosen by what they are trained on: {_listed(learnt)} is in "
            "data.train, too; name a validation split in data.benchmark"
        )
    names = dict.fromkeys(corpus.corpus for corpus in decisive)
    if config.corpus and config.corpus not in names:
        raise ValueError(
            f"corpus {config.corpus!r} is not among those that decide, {', '.join(names)}: name "
            "one of them, or none for their mean"
        )


def _listed(corpora: Iterable[CorpusConfig]) -> str:
    return "; ".join(map(str, corpora))
