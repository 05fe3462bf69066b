"""A study's numbers against hand computations, and the forms of its tables."""

import csv
import io
import re

import pytest

from experiments.ablate.numbers import Row, compare
from experiments.ablate.table import group_tables, main_table, to_csv
from vidreason.evaluation.items import EVERYTHING
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.statistics.paired_tests import paired_test
from vidreason.evaluation.tables import Table


def answers(right: str, corpus: str = "nextqa", videos: int = 4) -> list[BenchmarkPrediction]:
    """One multiple-choice answer a character: ``1`` is right; question i is of video i % videos."""
    return [
        BenchmarkPrediction(
            id=f"{corpus}:{number}",
            corpus=corpus,
            video_id=str(number % videos),
            question_type=("CW" if number < len(right) // 2 else "DC") * (corpus == "nextqa"),
            options=("yes", "no"),
            option_log_likelihoods=(0.0, -1.0) if flag == "1" else (-1.0, 0.0),
            reference=0,
        )
        for number, flag in enumerate(right)
    ]


@pytest.fixture
def rows() -> list[Row]:
    other = "activitynet_qa"
    return [
        Row(
            title="full",
            seeds={
                0: answers("11110000") + answers("1100", other),
                1: answers("11111111") + answers("1100", other),
            },
        ),
        Row(
            title="w/o A & B_1",
            seeds={
                0: answers("11000000") + answers("1100", other),
                1: answers("11110000") + answers("1000", other),
            },
            cost="1.0 CPU min",
        ),
        Row(title="one seed", seeds={1: answers("11111110") + answers("1100", other)}),
        Row(
            title="full, blind",
            seeds={0: answers("00000000") + answers("0000", other)},
            is_control=True,
        ),
    ]


def test_numbers_are_means_over_seeds_and_differences_of_the_same_questions(rows):
    result = compare(rows)
    full, variant = result.cells[0, EVERYTHING], result.cells[1, EVERYTHING]
    assert (full.num_items, full.num_videos) == (12, 4)
    assert full.seed_scores == (6 / 12, 10 / 12)
    assert full.score.mean == pytest.approx(8 / 12)
    assert full.difference is None
    assert variant.seed_scores == (4 / 12, 5 / 12)
    assert variant.seed_differences == pytest.approx((-2 / 12, -5 / 12))
    assert variant.difference is not None
    assert variant.difference.mean == pytest.approx(-3.5 / 12)
    assert variant.difference.low < -3.5 / 12 < variant.difference.high  # of four videos
    # By question, averaged over the seeds: full (1 1 1 1 .5 .5 .5 .5), variant (1 1 .5 .5 0 0 0 0).
    nextqa = result.cells[1, ("nextqa", "all")]
    assert nextqa.difference is not None
    assert nextqa.difference.mean == pytest.approx(-3 / 8)
    assert result.cells[1, ("nextqa", "CW")].difference.mean == pytest.approx(-1 / 4)
    assert result.cells[1, ("nextqa", "DC")].difference.mean == pytest.approx(-1 / 2)
    # All videos lose, which flips of videos would find in 2 / 2**4; but the seeds of the full
    # system alone differ by half of all questions, and two of them tell little.
    assert nextqa.p_value > 2 / 2**4


def test_a_missing_seed_is_compared_with_the_same_seeds_of_the_full_system(rows):
    cell = compare(rows).cells[2, EVERYTHING]
    assert cell.seed_scores == (9 / 12,)
    assert cell.difference is not None
    assert cell.difference.mean == pytest.approx(-1 / 12)  # and not 9/12 - 8/12
    with pytest.raises(ValueError, match="there is nothing to compare"):
        compare([rows[0], Row(title="other", seeds={7: rows[0].seeds[0]})])


def test_p_values_are_corrected_over_the_variants_and_not_over_controls(rows):
    result = compare(rows)
    p = [result.cells[number, EVERYTHING].p_value for number in range(4)]
    adjusted = [result.cells[number, EVERYTHING].p_value_holm for number in range(4)]
    assert p[0] is adjusted[0] is None
    assert p[1] < p[2]
    assert adjusted[1] == pytest.approx(2 * p[1])
    assert adjusted[2] == pytest.approx(min(1.0, max(p[2], 2 * p[1])))
    assert adjusted[3] == p[3]
    values = [[float(p.option_log_likelihoods[0] == 0) for p in one] for one in (
        rows[3].seeds[0], rows[0].seeds[0]
    )]  # fmt: skip
    videos = [prediction.video_id for prediction in rows[0].seeds[0]]
    assert p[3] == paired_test(*values, videos).p_value


def test_other_questions_are_refused(rows):
    with pytest.raises(ValueError, match="1 missing"):
        compare([rows[0], Row(title="fewer", seeds={0: rows[0].seeds[0][1:]})])


def test_the_tables_have_a_row_a_variant(rows):
    result = compare(rows)
    main = main_table(result)
    assert [row[0] for row in main.rows] == [row.title for row in rows]
    assert main.header[1] == "all questions (n=12)"
    assert "mean over 2 seeds" in main.title
    full, variant = main.rows[0], main.rows[1]
    assert re.fullmatch(r"66\.7 \[[\d.]+, [\d.]+\] \(sd 23\.6\)", full[1])
    assert full[2:5] == ("-", "-", "-")
    assert variant[1].startswith("37.5 [")
    assert variant[1].endswith("] (sd 5.9)")
    assert variant[2].startswith("-29.2 [")
    assert variant[3] == "-16.7, -41.7"
    assert variant[-1] == "1.0 CPU min"
    groups = group_tables(result)
    assert [table.title.split(":")[0] for table in groups] == [
        "NExT-QA form",
    ]
    assert groups[0].rows[1][0] == "w/o A & B_1"
    assert "-25" in groups[0].rows[1]


def test_latex_has_a_line_a_row_and_escapes_what_it_must(rows):
    main = main_table(compare(rows))
    text = main.to_latex()
    body = [line for line in text.splitlines() if line.endswith("\\\\")]
    assert len(body) == 1 + len(rows)
    assert all(line.count(" & ") == len(main.header) - 1 for line in body)
    assert "w/o A \\& B\\_1" in text
    assert text.splitlines()[0].startswith("% Accuracy")
    assert text.splitlines()[1] == f"\\begin{{tabular}}{{l{'r' * (len(main.header) - 1)}}}"


def test_names_stay_text_in_latex(rows):
    hostile = "a\n\\input{x} $ ~ ^ { } < > | # % & _ [1]"
    text = Table(hostile, ("", hostile), (("[2]", hostile),)).to_latex()
    assert len(text.splitlines()) == 8
    shown = (
        "a \\textbackslash{}input\\{x\\} \\$ \\textasciitilde{} \\textasciicircum{} \\{ \\} $<$ "
        "$>$ $|$ \\# \\% \\& \\_ [1]"
    )
    assert text.splitlines()[3] == f" & {shown} \\\\"
    assert text.splitlines()[5] == f"{{}}[2] & {shown} \\\\"


def test_the_csv_has_all_numbers(rows):
    result = compare(rows)
    read = list(csv.DictReader(io.StringIO(to_csv(result))))
    assert len(read) == len(rows) * len(result.columns)
    line = next(r for r in read if r["variant"] == "w/o A & B_1" and r["corpus"] == "all")
    cell = result.cells[1, EVERYTHING]
    assert float(line["difference"]) == pytest.approx(cell.difference.mean, rel=1e-5)
    assert float(line["p_value_holm"]) == pytest.approx(cell.p_value_holm, rel=1e-5)
    assert [float(x) for x in line["seed_differences"].split()] == pytest.approx(
        cell.seed_differences, rel=1e-5
    )
    assert line["num_seeds"] == "2"
