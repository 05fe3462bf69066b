"""The rows and files of an evaluation, and how to read them, or what others have predicted."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from data_modules.corpora import DataConfig
from data_modules.corpus_index import open_corpora
from data_modules.official_counts import incomplete_corpora
from experiments.experiment_config import ExperimentConfig
from vidreason.evaluation.answers import PARSER_VERSION
from vidreason.evaluation.comparison import Run
from vidreason.evaluation.config import Control
from vidreason.evaluation.manifest import manifest_from_json
from vidreason.evaluation.predictions.official import read_official_predictions
from vidreason.evaluation.predictions.row_files import read_predictions_file

EVALUATION_FOLDER = "evaluation"
_PREFIX = "predictions-"
OWN_FORM = ".jsonl"

ROW_NAMES: dict[Control, str] = {
    "none": "full model",
    "half_frames": "first half",
    "single_frame": "single frame",
    "blind": "blind (no visual tokens)",
    "shuffled_frames": "shuffled frames",
    "shuffled": "another video's tokens",
    "random": "random visual tokens",
}
_SHOWN_FRAMES = {
    **{"half_frames": "first half", "single_frame": "middle frame", "blind": "blind"},
    **{"shuffled_frames": "shuffled frames", "shuffled": "another video", "random": "noise"},
}
"""Rows of a baseline by control."""
LESS_AND_LESS: tuple[Control, ...] = ("none", "half_frames", "single_frame", "blind")
"""Controls in the order in which they take evidence away."""
MAJORITY = "majority answer"
TEXT_PRIOR = "most frequent option"
RANDOM_OPTION = "random option"
Prior = Literal["majority", "text-prior", "random-option"]
PRIORS: dict[Prior, str] = {
    "majority": MAJORITY,
    "text-prior": TEXT_PRIOR,
    "random-option": RANDOM_OPTION,
}
VALIDATION: Literal["validation"] = "validation"
"""The answers that temperatures and conformal sets are fitted on."""
NO_REASONER = "none"
"""In place of a reasoner folder, where only baselines are evaluated."""


def evaluation_folder(config: ExperimentConfig) -> Path:
    """Folder that the evaluation of a run is kept in."""
    return Path(config.run_dir) / EVALUATION_FOLDER


def predictions_file(config: ExperimentConfig, kind: str) -> Path:
    """File of the predictions under one control, of one prior, for temperatures, or of a baseline.

    Args:
        config: The run's.
        kind: Name of the control or prior; ``validation``; or :func:`baseline_kind`.
    """
    return evaluation_folder(config) / f"{_PREFIX}{kind}{OWN_FORM}"


def baseline_kind(name: str, control: Control) -> str:
    """Return the end of the names of files with a baseline's predictions; names have no hyphen."""
    return name if control == "none" else f"{name}-{control}"


def baseline_row(kind: str, fidelity: str) -> str:
    """Return the name of a baseline's row, with the tag that says how near it is to the original.

    Args:
        kind: Of :func:`baseline_kind`.
        fidelity: See :data:`vidreason.baselines.system.Fidelity`.
    """
    name, _, control = kind.partition("-")
    row = f"{name} [{fidelity}]"
    return f"{row}, {_SHOWN_FRAMES.get(control, control)}" if control else row


def evaluation_folder_of(location: str) -> Path | None:
    """The folder of predictions that ``location`` is, as itself or as a run's; None for a file.

    Raises:
        ValueError: There is nothing, or no predictions.
    """
    path = Path(location)
    if path.is_file():
        return None
    # A run, or the folder of its evaluation itself.
    for folder in (path / EVALUATION_FOLDER, path):
        if any(folder.glob(f"{_PREFIX}*{OWN_FORM}")):
            return folder
    raise ValueError(
        f"{location!r} is no file, and there are no {_PREFIX}*{OWN_FORM} in it (looked in "
        f"{Path.cwd()}); evaluate writes them"
    )


def prediction_files(location: str) -> dict[str, Path]:
    """Files of predictions by what follows ``predictions-`` in their names."""
    folder = evaluation_folder_of(location)
    paths = [Path(location)] if folder is None else sorted(folder.glob(f"{_PREFIX}*{OWN_FORM}"))
    return {path.stem.removeprefix(_PREFIX): path for path in paths}


def read_control(location: str, control: str, name: str, data: DataConfig | None = None) -> Run:
    """Read the predictions of a run under one control, or the one file that there is.

    Args:
        location: A run, the folder of its evaluation, or a file.
        control: Name of the control.
        name: The run's, for tables and messages.
        data: As for :func:`read_run`.

    Raises:
        ValueError: There are none, or the file is damaged, or its questions are not known.
    """
    files = prediction_files(location)
    if len(files) > 1 and control not in files:
        raise ValueError(
            f"{name}: {location!r} has no predictions under the control {control!r}; it has "
            f"{', '.join(files)}: choose one of these, or name its file"
        )
    # A single file is what is meant, whatever control it is of.
    path = files[control] if control in files else next(iter(files.values()))
    return read_run(path, name, data)


def read_run(path: Path, name: str, data: DataConfig | None = None) -> Run:
    """One file of predictions: ours, or in the form of a benchmark's own script.

    Args:
        path: The file.
        name: The run's.
        data: Where the questions of a file in another form are: ``benchmark`` has exactly one.

    Raises:
        ValueError: The file is damaged, or its questions are not known.
    """
    if path.suffix == OWN_FORM:
        read = read_predictions_file(path)
        manifest = None if read.manifest is None else manifest_from_json(read.manifest, str(path))
        if manifest is not None:  # whatever its rows were scored by before, they are scored anew
            manifest = replace(manifest, parser=PARSER_VERSION)
        incomplete = {} if manifest is None else manifest.incomplete
        return Run(
            name=name, predictions=read.predictions, manifest=manifest, incomplete=incomplete
        )
    # Other forms name questions by their ids alone: the rest is in the corpus.
    corpora = [] if data is None else data.benchmark
    if data is None or len(corpora) != 1:
        raise ValueError(
            f"{path} is not of the form of evaluate ({OWN_FORM}), and says nothing of its "
            f"questions: name their corpus, data.benchmark=[{{reader: nextqa, root: FOLDER, split: "
            f"val}}] (found {len(corpora)} corpora)"
        )
    opened = open_corpora(corpora, data.max_malformed_fraction)
    counts = [corpus.skipped for corpus in opened.corpora]
    rows = read_official_predictions(path, list(opened), counts[0].num_skipped)
    incomplete = incomplete_corpora(corpora, counts)
    return Run(name=name, predictions=rows, manifest=None, incomplete=incomplete)
