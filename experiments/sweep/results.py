"""Results of a sweep: the table of its trials, what is to be known about it, and the held-out test.

``sweep.md`` is for people, ``sweep.csv`` has the same numbers as fractions.
"""

from collections.abc import Sequence
from pathlib import Path

from experiments.ablate.results import RESULTS_FOLDER
from experiments.jobs import Job, is_finished
from experiments.sweep.config import SweepConfig
from experiments.sweep.questions import KNOWINGLY
from experiments.sweep.scores import SIGNIFICANT, ScoredTrial, SweepScores, kept_run
from experiments.sweep.trials import TEST_KIND, Trial, value_name
from vidreason.atomic_file import write_atomically
from vidreason.evaluation.cells import run_cells
from vidreason.evaluation.items import run_items
from vidreason.evaluation.protocols import ACCURACY
from vidreason.evaluation.scoreboard import scoring_protocols
from vidreason.evaluation.tables import Table, accuracy_table, csv_text, p_value_text, value_text
from vidreason.markdown import escaped, one_line

_NUMBERS = (
    *("num_items", "num_videos", "num_invalid", "accuracy", "accuracy_low", "accuracy_high"),
    *("best_minus_this", "best_minus_this_low", "best_minus_this_high", "p_value", "p_value_holm"),
)


def write_results(config: SweepConfig, scores: SweepScores, test: Job | None) -> None:
    """Print the results, and write them into ``<run_dir>/results``.

    Args:
        config: The sweep's.
        scores: Of its trials.
        test: The job in which the chosen trial answered the test split; None for no such split.
    """
    tables = [trials_table(config, scores), *_test_tables(test)]
    notes = [*_notes(config, scores, test), *_test_notes(config, scores, test)]
    markdown = [*(table.to_markdown() for table in tables), *map(escaped, notes)]
    folder = Path(config.run_dir) / RESULTS_FOLDER
    write_atomically(folder / "sweep.md", "\n\n".join(markdown) + "\n")
    write_atomically(folder / "sweep.csv", _to_csv(scores))
    text = [*(table.to_text() for table in tables), *map(one_line, notes)]
    print("\n\n".join(text), flush=True)


def trials_table(config: SweepConfig, scores: SweepScores) -> Table:
    """The trials, best first, each with its n, its interval and its difference to the best."""
    keys = _keys(scores)
    cells = [one.cell for one in scores.scored if one.cell is not None]
    corpora = list(scores.corpora)
    name = corpora[0] if len(corpora) == 1 else f"mean over {', '.join(corpora)}"
    measure = cells[0].measure if cells and len(corpora) == 1 else ACCURACY
    over = f", 95% intervals over {cells[0].num_videos} videos" if cells else ""
    split = "CHOSEN ON THE TEST SPLIT" if config.choose_on == KNOWINGLY else "validation"
    rows = [
        (
            *(_parameter(one.trial, key) for key in keys),
            *_score_texts(one),
            one.verdict,
            str(one.trial.training.folder),
        )
        for one in scores.scored
    ]
    header = (
        *keys,
        *("n", f"{measure} in %", "invalid", "best - this", "p"),
        f"p (Holm, {max(len(cells) - 1, 0)} tests)",
        *("verdict", "run"),
    )
    title = f"{len(rows)} trials by {measure}, {split}" + (f": {name}{over}" if cells else "")
    return Table(title, header, tuple(rows))


def _score_texts(one: ScoredTrial) -> tuple[str, ...]:
    cell = one.cell
    if cell is None:
        return ("-",) * 6  # the columns from n to Holm's p
    return (
        str(cell.num_items),
        value_text(cell.score),
        str(cell.num_invalid),
        value_text(cell.difference, sign="+"),
        p_value_text(cell.p_value),
        p_value_text(cell.p_value_holm),
    )


def _notes(config: SweepConfig, scores: SweepScores, test: Job | None) -> list[str]:
    """Sentences that a reader of the table needs."""
    chosen = scores.chosen
    if chosen is None or chosen.cell is None:
        return ["No trial has finished, so none is chosen."]
    # How sure the choice is: of one seed, among many, by the questions that it is scored on.
    notes = [f"Chosen: {chosen.trial.label} ({chosen.trial.training.folder})."]
    others = [one for one in scores.scored[1:] if one.cell is not None]
    if others:
        near = sum(one.verdict == "within noise" for one in others)
        notes.append(
            f"{near} of the other {len(others)} trials are within noise of it (p at least "
            f"{SIGNIFICANT} after Holm's correction): these {chosen.cell.num_items} questions do "
            "not tell them apart, and any of them may be as good. Each trial is one seed; that "
            "other seeds would differ as well, no number here says."
            if near
            else f"All of the other {len(others)} trials are worse (p below {SIGNIFICANT} after "
            "Holm's correction), for this one seed each."
        )
        notes.append(
            f"The best of {len(others) + 1} is optimistic: its {value_text(chosen.cell.score.mean)}"
            "% is the highest because chance helped, too, and the p-values, beside a best that the "
            "same questions have picked, are somewhat too small. Report a number of questions that "
            "did not choose."
        )
    if missing := len(scores.scored) - len(others) - 1:
        notes.append(f"{missing} trials have no score and could not be chosen.")
    # Whether a number is left that did not choose.
    if config.choose_on == KNOWINGLY:
        notes.append(
            f"The test split has chosen, as choose_on={KNOWINGLY} says: none of these numbers is a "
            "result on held-out questions."
        )
    elif test is None:
        notes.append(
            "There is no test split in data.benchmark; list one, and the chosen trial answers it "
            "once."
        )
    notes += [f"{corpus} has no references, and decides nothing." for corpus in scores.unscored]
    notes += [
        f"{corpus}: {read} are scored; the others could not be read."
        for corpus, read in scores.incomplete.items()
    ]
    return notes


def _test_tables(test: Job | None) -> list[Table]:
    """The chosen trial on the test split, a table a corpus."""
    if test is None or not is_finished(test):
        return []
    run = kept_run(test)
    items = run_items({"chosen": run.predictions}, scoring_protocols(test.config.evaluation))
    cells = {"the chosen trial": run_cells(items["chosen"])}
    columns = list(cells["the chosen trial"])
    return [
        accuracy_table(
            corpus,
            cells,
            columns,
            incomplete=run.incomplete.get(corpus, ""),
            names={(corpus, "all"): f"Held-out test, {corpus}"},
        )
        for corpus in dict.fromkeys(corpus for corpus, _ in columns)
    ]


def _test_notes(config: SweepConfig, scores: SweepScores, test: Job | None) -> list[str]:
    if test is None or scores.chosen is None:
        return []
    if not is_finished(test):
        return [f"The chosen trial's test has not finished: {test.folder}."]
    notes = [f"The held-out test's report, with its controls, is in {test.folder}/evaluation."]
    # Videos that decided are no held-out ones, whatever the split's name is.
    decisive, held_out = (
        {row.video_id for row in kept_run(job).predictions}
        for job in (scores.chosen.trial.evaluation, test)
    )
    if shared := decisive & held_out:
        notes.append(
            f"{len(shared)} of the {len(held_out)} test videos were also chosen on "
            f"({', '.join(sorted(shared)[:3])}): that part of the test is not held out."
        )
    # A folder for each trial that has answered it.
    looks = [
        folder
        for folder in Path(config.run_dir, "jobs").glob(f"{TEST_KIND}-*")
        if (folder / "evaluation" / "metrics.json").is_file()
    ]
    if len(looks) > 1:
        notes.append(
            f"The test split has been answered {len(looks)} times in this folder, by trials that "
            "were chosen at different times: the more often it is looked at, the less it is held "
            "out."
        )
    return notes


def _to_csv(scores: SweepScores) -> str:
    keys = _keys(scores)
    rows = [
        [
            *(_parameter(one.trial, key) for key in keys),
            one.verdict,
            *_numbers(one),
            str(one.trial.training.folder),
        ]
        for one in scores.scored
    ]
    return csv_text([*keys, "verdict", *_NUMBERS, "run"], rows)


def _numbers(one: ScoredTrial) -> Sequence[float | None]:
    cell = one.cell
    if cell is None:
        return (None,) * len(_NUMBERS)
    return (
        *(cell.num_items, cell.num_videos, cell.num_invalid, *cell.score),
        *(cell.difference or (None, None, None)),
        *(cell.p_value, cell.p_value_holm),
    )


def _keys(scores: SweepScores) -> list[str]:
    return list(dict.fromkeys(key for one in scores.scored for key in one.trial.parameters))


def _parameter(trial: Trial, key: str) -> str:
    return value_name(trial.parameters[key])
