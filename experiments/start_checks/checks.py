"""The one list of what a configuration is refused for, before anything is loaded or written.

What a program would refuse after hours, when it merges, saves, scores or resumes, it refuses here
at its start. ``config --explain``, ``data check``, ``fit``, ``perceive``, ``evaluate`` and
``generate`` ask the same list, and each says all that is wrong at once. What a check is:
:mod:`experiments.start_checks.start`.
"""

from experiments.experiment_config import ExperimentConfig
from experiments.start_checks import devices, folders, parts
from experiments.start_checks.start import Check, Start, Use
from vidreason.config import ConfigurationError

_MODEL: tuple[Use, ...] = ("evaluate", "generate")
_RUNS: tuple[Use, ...] = ("fit", "perceive", *_MODEL)

CHECKS: tuple[tuple[tuple[Use, ...], Check], ...] = (
    (("fit",), devices.accelerator),
    (("fit", "explain"), devices.devices),
    (("fit",), devices.devices_here),
    (("fit",), devices.launcher),
    (("fit", "explain"), devices.precision),
    (("fit", "explain"), devices.strategy),
    (("fit", "explain"), devices.global_batch),
    (_RUNS, devices.device),
    ((*_RUNS, "data check"), folders.run_folder),
    (("perceive",), folders.store),
    (("fit", "perceive", "evaluate", "data check"), folders.corpora),
    (("fit",), folders.named_files),
    (("fit",), folders.resumed),
    (("fit",), folders.monitored),
    (("fit",), folders.reasoner_to_write),
    (("fit", "evaluate"), folders.scoring),
    ((*_RUNS, "explain"), parts.added_models),
    (("fit", "explain"), parts.callbacks),
    (("fit",), parts.loggers),
    ((*_RUNS, "data check"), parts.readers),
    (("evaluate",), parts.baselines),
    (("fit", "explain"), parts.trained),
    (("fit", "explain"), parts.reasoner_builds),
    (("fit", "explain"), parts.patches),
    (("fit",), parts.quantization),
    (("fit", "explain"), parts.chat_template),
)
"""Who asks what. Cheap ones first; :attr:`Start.reasoner` is built once for all."""


def find_problems(config: ExperimentConfig, use: Use) -> list[str]:
    """Return all problems of ``config`` for ``use``."""
    start = Start(config, use)
    lines = [line for uses, check in CHECKS if use in uses for line in check(start)]
    # Checks may meet the same fault, which is said once.
    return list(dict.fromkeys(lines))


def check_start(config: ExperimentConfig, use: Use) -> None:
    """Make sure that the program ``use`` can come to its end with ``config``.

    Raises:
        ConfigurationError: It cannot; all that is wrong is said at once.
    """
    problems = find_problems(config, use)
    if problems:
        raise ConfigurationError(problems)
