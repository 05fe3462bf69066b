"""The one list of what a configuration is refused for, before anything is loaded or written.

What a program would refuse after hours, when it merges, saves, scores or resumes, it refuses here
at its start. ``config --explain``, ``data check``, ``fit``, ``perceive``, ``evaluate`` and
``generate`` ask the same list, and each says all that is wrong at once. What a check is:
:mod:`experiments.start`.
"""

from experiments import device_checks, folder_checks, part_checks
from experiments.experiment_config import ExperimentConfig
from experiments.start import Check, Start, Use
from vidreason.config import ConfigurationError

_MODEL: tuple[Use, ...] = ("evaluate", "generate")
_RUNS: tuple[Use, ...] = ("fit", "perceive", *_MODEL)

CHECKS: tuple[tuple[tuple[Use, ...], Check], ...] = (
    (("fit",), device_checks.accelerator),
    (("fit", "explain"), device_checks.devices),
    (("fit",), device_checks.devices_here),
    (("fit",), device_checks.launcher),
    (("fit", "explain"), device_checks.precision),
    (("fit", "explain"), device_checks.strategy),
    (("fit", "explain"), device_checks.global_batch),
    (_RUNS, device_checks.device),
    ((*_RUNS, "data check"), folder_checks.run_folder),
    (("perceive",), folder_checks.store),
    (("fit", "perceive", "evaluate", "data check"), folder_checks.corpora),
    (("fit",), folder_checks.named_files),
    (("fit",), folder_checks.resumed),
    (("fit",), folder_checks.monitored),
    (("fit",), folder_checks.reasoner_to_write),
    (("fit", "evaluate"), folder_checks.scoring),
    (("fit", "explain"), part_checks.reasoner_builds),
    (("fit",), part_checks.quantization),
    (("fit", "explain"), part_checks.chat_template),
)
"""Who asks what. Cheap ones first; :attr:`Start.reasoner` is built once for all."""


def find_problems(config: ExperimentConfig, use: Use) -> list[str]:
    """All that is wrong with ``config`` for ``use``; empty if nothing is."""
    start = Start(config, use)
    lines = [line for uses, check in CHECKS if use in uses for line in check(start)]
    return list(dict.fromkeys(lines))


def check_start(config: ExperimentConfig, use: Use) -> None:
    """Make sure that the program ``use`` can come to its end with ``config``.

    Raises:
        ConfigurationError: It cannot; all that is wrong is said at once.
    """
    problems = find_problems(config, use)
    if problems:
        raise ConfigurationError(problems)
