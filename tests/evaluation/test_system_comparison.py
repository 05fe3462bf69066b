"""Systems under several seeds, against hand computations; and what is refused."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from vidreason.evaluation.comparison import Run
from vidreason.evaluation.manifest import Manifest
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.protocols import PROTOCOLS
from vidreason.evaluation.statistics.paired_tests import holm, paired_test
from vidreason.evaluation.statistics.seeds import seeds_p_value
from vidreason.evaluation.system_comparison import SystemComparison, compare_systems
from vidreason.evaluation.system_tables import system_notes, system_records, system_tables

CHOICES, OPEN = ("nextqa", "all"), ("activitynet_qa", "all")
FULL = {0: "11111100", 1: "11110110"}
RIVAL = {0: "11000000", 1: "10100001"}


def answers(right: str, corpus: str = "nextqa") -> list[BenchmarkPrediction]:
    """One answer a character: ``1`` is right, ``n`` n/a; two questions a video."""
    return [
        BenchmarkPrediction(
            id=f"{corpus}:{number}",
            corpus=corpus,
            video_id=str(number // 2),
            question_type="CW" if corpus == "nextqa" else "0",
            options=("yes", "no") if corpus == "nextqa" else (),
            output=("A" if flag == "1" else "B") if corpus == "nextqa" else "red" * (flag == "1"),
            reference=0 if corpus == "nextqa" else ("red",),
            missing_capability="answer" if flag == "n" else "",
        )
        for number, flag in enumerate(right)
    ]


def run(name: str, rows: Sequence[BenchmarkPrediction], model: str, control: str = "none") -> Run:
    hashes = dict.fromkeys({row.corpus for row in rows}, "q")
    made = Manifest(questions=hashes, prompts=hashes, model=model, control=control)
    return Run(name=name, predictions=rows, manifest=made)


@pytest.fixture
def systems() -> dict[str, list[Run]]:
    return {
        "ours": [
            run(f"ours {seed}", answers(FULL[seed]) + answers("1100", OPEN[0]), model=f"o{seed}")
            for seed in FULL
        ],
        "rival": [
            run(f"rival {seed}", answers(RIVAL[seed]) + answers("0100", OPEN[0]), model=f"r{seed}")
            for seed in RIVAL
        ],
        "one seed": [run("single", answers("11110000") + answers("nnnn", OPEN[0]), model="s")],
        "predicts only": [run("other corpus", answers("1010", OPEN[0]), model="p")],
    }


@pytest.fixture
def comparison(systems: dict[str, list[Run]]) -> SystemComparison:
    return compare_systems(systems, (), PROTOCOLS)


def test_scores_and_differences_are_means_over_seeds(comparison: SystemComparison) -> None:
    assert comparison.columns == (CHOICES, OPEN)
    ours, rival = comparison.cells["ours"][CHOICES], comparison.cells["rival"][CHOICES]
    assert ours.seed_scores == (6 / 8, 6 / 8)
    assert ours.difference is None
    assert rival.seed_scores == (2 / 8, 3 / 8)
    assert rival.score.mean == pytest.approx(2.5 / 8)
    assert rival.difference is not None
    assert rival.difference.mean == pytest.approx(-3.5 / 8)  # negative where it is worse
    assert rival.seed_differences == pytest.approx((-4 / 8, -3 / 8))
    single = comparison.cells["one seed"][CHOICES]
    assert single.difference is not None
    assert single.difference.mean == pytest.approx(-2 / 8)
    assert single.seed_differences == ()  # of two seeds and one there are no pairs
    assert comparison.chances == {CHOICES: 0.5}


def test_all_p_values_are_one_family_over_seeds_where_there_are_seeds(
    comparison: SystemComparison,
) -> None:
    videos = [str(number // 2) for number in range(8)]

    def flags(row: str) -> list[float]:
        return [float(flag) for flag in row]

    ours, rival = ([*map(flags, seeds.values())] for seeds in (FULL, RIVAL))
    mean_of_ours = [sum(pair) / 2 for pair in zip(*ours, strict=True)]
    expected = {
        ("rival", CHOICES): seeds_p_value(rival, ours, videos),
        ("rival", OPEN): seeds_p_value([flags("0100")] * 2, [flags("1100")] * 2, videos[:4]),
        ("one seed", CHOICES): paired_test(flags("11110000"), mean_of_ours, videos).p_value,
        ("predicts only", OPEN): paired_test(flags("1010"), flags("1100"), videos[:4]).p_value,
    }
    cells = {key: comparison.cells[key[0]][key[1]] for key in expected}
    assert {key: cell.p_value for key, cell in cells.items()} == pytest.approx(expected)
    adjusted = dict(zip(expected, holm([*expected.values()]), strict=True))
    assert {key: cell.p_value_holm for key, cell in cells.items()} == pytest.approx(adjusted)
    assert comparison.num_tests == len(expected)


def test_what_a_system_cannot_answer_is_not_zero(comparison: SystemComparison) -> None:
    assert OPEN not in comparison.cells["one seed"]
    assert CHOICES not in comparison.cells["predicts only"]
    scores, differences = system_tables(comparison)
    assert scores.header == ("system", "nextqa (n=8)", "activitynet_qa (n=4)")
    by_title = {row[0]: row[1:] for row in scores.rows}
    assert list(by_title) == [
        "ours (2 seeds)",
        "rival (2 seeds)",
        "one seed",
        "predicts only",
        "chance",
    ]
    assert by_title["ours (2 seeds)"][0].startswith("75.0 [")
    assert by_title["rival (2 seeds)"][0].endswith("] (sd 8.8)")
    assert by_title["one seed"][1] == by_title["predicts only"][0] == "n/a"
    assert by_title["chance"] == ("50.0", "-")
    assert [row[0] for row in differences.rows] == ["rival (2 seeds)", "one seed", "predicts only"]
    assert differences.rows[1][1].startswith("-25.0 [")
    assert ", p " in differences.rows[1][1]
    assert differences.rows[1][2] == "n/a"
    assert "all 4 tests" in differences.title


def test_records_hold_every_number(comparison: SystemComparison) -> None:
    records = {(one["system"], one["corpus"]): one for one in system_records(comparison)}
    assert len(records) == 6
    rival = records["rival", "nextqa"]
    assert rival["seed_scores"] == [0.25, 0.375]
    assert rival["p_over_seeds"]
    assert not records["one seed", "nextqa"]["p_over_seeds"]
    assert "difference" not in records["ours", "nextqa"]
    assert records["predicts only", "activitynet_qa"]["difference_low"] is not None


def test_a_column_that_the_first_system_cannot_answer_has_no_difference() -> None:
    systems = {
        "first": [run("a", answers("1100"), "a")],
        "second": [run("b", answers("10", OPEN[0]), "b")],
    }
    comparison = compare_systems(systems, [CHOICES, OPEN], PROTOCOLS)
    assert comparison.cells["second"][OPEN].difference is None
    scores, differences = system_tables(comparison)
    assert scores.rows[0][2] == "n/a"
    assert differences.rows == (("second", "n/a", "-"),)


def test_other_questions_are_refused(systems: dict[str, list[Run]]) -> None:
    changed = [replace(row, options=("yes", "maybe")) for row in answers("11000000")]
    for rows in (answers("110000"), changed):
        with pytest.raises(ValueError, match=r"ours 0 and other were not asked the same"):
            compare_systems({**systems, "other": [run("other", rows, "x")]}, (), PROTOCOLS)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ({"model": "r0"}, "rival 0 and again are answers of one and the same model"),
        ({"model": "r2", "control": "blind"}, "different controls, 'none' and 'blind'"),
    ],
)
def test_runs_that_are_no_seeds_of_one_system_are_refused(
    systems: dict[str, list[Run]], manifest: dict[str, str], message: str
) -> None:
    systems["rival"].append(
        run("again", answers("11000000") + answers("0100", OPEN[0]), **manifest)
    )
    with pytest.raises(ValueError, match=message):
        compare_systems(systems, (), PROTOCOLS)


def test_unknown_columns_are_named(systems: dict[str, list[Run]]) -> None:
    with pytest.raises(ValueError, match=r"columns\.nextqa has 'CX', .*\['C', 'CW', 'all'\]"):
        compare_systems(systems, [("nextqa", "CX")], PROTOCOLS)
    with pytest.raises(
        ValueError, match=r"columns\.vcr .* corpora are \['activitynet_qa', 'nextqa'\]"
    ):
        compare_systems(systems, [("vcr", "all")], PROTOCOLS)


def test_notes_say_where_systems_were_asked_otherwise(systems: dict[str, list[Run]]) -> None:
    assert system_notes(systems) == []  # a corpus that a system has not is no difference
    single = systems["one seed"][0]
    assert single.manifest is not None
    other = replace(single.manifest, frames={"num_frames": 4}, prompts={"nextqa": "x"})
    systems["one seed"] = [replace(single, manifest=other)]
    systems["rival"][1] = replace(systems["rival"][1], manifest=None)
    notes = system_notes(systems)
    assert notes == [
        "rival: its file does not say what its answers were made with",
        "one seed: not asked as ours 0 in frames, prompts; `evaluate compare` says how",
    ]
