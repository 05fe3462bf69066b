"""Runs for debugging keep away from the run that they debug.

With ``debug: NAME``, as the overlays of ``experiments/configs/debug`` set it, a run has the folder
``<run_dir>/debug/NAME`` to itself, and begins there anew each time: the run's own checkpoints,
results and record stay as they are, and the debugging run's are never taken for them.
"""

import shutil
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from callbacks.run_record import RECORD_FILE
from experiments.experiment_config import ExperimentConfig
from experiments.writer_lock import LOCK_SUFFIX


@rank_zero_only
def clear_debug_run(config: ExperimentConfig) -> None:
    """Remove what an earlier start of the debugging run ``config`` has left, on rank 0.

    The other ranks write nothing before all have met. A run that is not for debugging keeps all.

    Raises:
        ValueError: The folder holds something else than a run.
    """
    folder = Path(config.run_dir)
    if not config.debug or not folder.is_dir():
        return
    # Not the locks, of which this process holds one.
    entries = [entry for entry in folder.iterdir() if entry.suffix != LOCK_SUFFIX]
    if entries and not (folder / RECORD_FILE).is_file():
        raise ValueError(
            f"{str(folder)!r} would be emptied for the debugging run {config.debug!r}, but was not "
            f"made by one (it holds no {RECORD_FILE}): remove it, or choose another run_dir"
        )
    for entry in entries:
        # Of a link the link is removed, and not what it leads to.
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
