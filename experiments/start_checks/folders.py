"""Checks of what a run reads and writes: its folder, its corpora, checkpoints and results."""

import os
from collections.abc import Iterator
from pathlib import Path

from experiments.start_checks.start import Start, raised
from experiments.trained_model import REASONER_FOLDER
from vidreason.pretrained.folder import check_replaceable


def run_folder(start: Start) -> Iterator[str]:
    """``run_dir`` can be written to."""
    yield from _unwritable("run_dir", start.config.run_dir)


def store(start: Start) -> Iterator[str]:
    """``store.path`` is named and can be written to."""
    path = start.config.store.path
    if not path:
        yield "store.path is empty; name the folder that perceive should fill"
    else:
        yield from _unwritable("store.path", path)


def corpora(start: Start) -> Iterator[str]:
    """There are corpora for what is asked."""
    data = start.config.data
    if start.use == "fit" and not data.train:
        yield "data.train is empty; name the corpora to train on"
    elif start.use == "evaluate" and not data.benchmark:
        yield "data.benchmark is empty; name the corpora to score"
    elif not (data.train or data.validation or data.benchmark):
        yield "data.train, data.validation and data.benchmark are empty; name a corpus"


def named_files(start: Start) -> Iterator[str]:
    """Checkpoints and weights that a run starts from are there."""
    from experiments.fit.resume import check_initial_checkpoint

    config = start.config
    if config.initial_checkpoint and not Path(config.initial_checkpoint).exists():
        yield f"initial_checkpoint: there is no checkpoint {config.initial_checkpoint!r}"
    # A run that goes on has its weights from its own checkpoints, as with the warm start below.
    elif config.initial_checkpoint and not _has_checkpoints(start):
        yield from raised(lambda: check_initial_checkpoint(config))
    if config.resume not in ("auto", "never") and not Path(config.resume).exists():
        yield (f"resume: there is no checkpoint {config.resume!r} (nor is it 'auto' or 'never')")
    warm_start = config.reasoner.fusion.warm_start
    if warm_start and not Path(warm_start).exists() and not _has_checkpoints(start):
        yield f"reasoner.fusion.warm_start: there is no file {warm_start!r}"


def resumed(start: Start) -> Iterator[str]:
    """A resumed run learns what its checkpoint was made for."""
    from experiments.fit.resume import resume_checkpoint

    config = start.config
    # A checkpoint that is missing and a folder that cannot be written to have lines of their own.
    given = config.resume not in ("auto", "never")
    if not any(run_folder(start)) and not (given and not Path(config.resume).exists()):
        yield from raised(lambda: resume_checkpoint(config))


def monitored(start: Start) -> Iterator[str]:
    """Check that every metric that is waited for will come."""
    from experiments.fit.monitored_metrics import check_monitored

    yield from raised(lambda: check_monitored(start.config))


def reasoner_to_write(start: Start) -> Iterator[str]:
    """The folder of the trained reasoner holds nothing that would be lost."""
    if start.config.trainer.save_reasoner and not start.config.debug and not any(run_folder(start)):
        folder = Path(start.config.run_dir) / REASONER_FOLDER
        yield from raised(lambda: check_replaceable(folder))


def scoring(start: Start) -> Iterator[str]:
    """Check that all that scores need is there, also for benchmarks during training."""
    config = start.config
    during = config.evaluation.every_n_steps is not None and config.data.benchmark
    if start.use == "evaluate" or during:
        from vidreason.evaluation.scoreboard import check_scoring_files

        yield from raised(lambda: check_scoring_files(config.evaluation))


def _has_checkpoints(start: Start) -> bool:
    """Tell whether the run continues from a checkpoint of its own."""
    from experiments.fit.resume import checkpoint_folder

    folder = checkpoint_folder(start.config.run_dir)
    return not any(run_folder(start)) and any(folder.glob("*.ckpt"))


def _unwritable(field: str, name: str) -> Iterator[str]:
    """Say what keeps this process from writing into the folder ``name``, which may be missing."""
    # Find the nearest folder above that exists: the rest would be made in it.
    path = Path(name)
    while True:
        try:
            # Of a link itself: one to nothing is there, and no folder can be made in its stead.
            path.lstat()
            break
        except (FileNotFoundError, NotADirectoryError):
            path = path.parent
        except (OSError, ValueError) as error:  # too long, or with a zero byte
            cause = getattr(error, "strerror", None) or error
            yield f"{field} is {name[:80]!r}, which cannot be a folder: {cause}"
            return
    if not path.is_dir():
        kind = "a link to nothing" if path.is_symlink() else "no folder"
        yield f"{field} is {name!r}, but {str(path)!r} is {kind}; name another one"
    # Making a file in a folder takes both, to write and to enter it.
    elif not os.access(path, os.W_OK | os.X_OK):
        yield f"{field} is {name!r}, but this user may not write into {str(path)!r}"
