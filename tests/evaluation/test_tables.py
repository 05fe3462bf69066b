"""Tables of scores."""

import json
import math

import pytest

from vidreason.evaluation.cells import (
    make_cell,
    run_cells,
    run_differences,
    score_predictions,
    with_difference,
)
from vidreason.evaluation.items import chance_scores, run_items
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.evaluation.protocols import ALL
from vidreason.evaluation.statistics.intervals import Interval
from vidreason.evaluation.tables import (
    Table,
    accuracy_table,
    difference_rows,
    difference_table,
    record_row,
    score_rows,
    value_text,
)


def run(num_right: int, num_videos: int = 10) -> list[BenchmarkPrediction]:
    return [
        BenchmarkPrediction(
            id=str(n), corpus="nextqa", video_id=str(n % num_videos), options=("a", "b"),
            question_type="CW" if n % 2 else "TN", reference=0,
            output="A" if n < num_right else "B",
        )
        for n in range(20)
    ]  # fmt: skip


def table_of(runs: dict[str, list[BenchmarkPrediction]], corpus: str) -> Table:
    items = run_items(runs)
    first = next(iter(runs))
    cells = {name: run_cells(one) for name, one in items.items()}
    return accuracy_table(corpus, cells, list(items[first]), chances=chance_scores(runs[first]))


def test_rows_columns_and_intervals() -> None:
    table = table_of({"full": run(20), "blind": run(10)}, "nextqa")
    assert table.title == "nextqa: accuracy in %, 95% interval over 10 videos"
    header = ("run", "all (n=20)", "C (n=10)", "CW (n=10)", "T (n=10)", "TN (n=10)", "invalid")
    assert table.header == header
    assert table.rows[0][:2] == ("full", "100.0 [69.2, 100.0]")
    assert table.rows[1][1].startswith("50.0 [")
    assert table.rows[2] == ("chance", *["50.0"] * 5, "-")
    lines = table.to_text().splitlines()
    assert len({len(line) for line in lines[1:]}) == 1
    markdown = table.to_markdown().splitlines()
    assert markdown[2].startswith("| run | all (n=20) |")
    assert {line.count("|") for line in markdown[2:]} == {8}


def test_one_video_has_no_interval() -> None:
    table = table_of({"full": run(5, num_videos=1)}, "nextqa")
    assert table.rows[0][1] == "25.0 [-]"
    rows = score_rows(score_predictions(run(5, num_videos=1)))
    assert rows[0]["low"] is None
    assert json.loads(json.dumps(rows, allow_nan=False))[0]["accuracy"] == 0.25


def test_differences_are_paired_and_tested() -> None:
    runs = {"full": run(20), "blind": run(10), "other": run(18), "same": run(20)}
    result = run_differences(run_items(runs), ("nextqa", ALL), "full")
    table = difference_table("full", result)
    assert table.header == ("runs", "difference", "p", "p (Holm, 3 tests)")
    assert table.rows[0][0] == "full - blind"
    assert table.rows[0][1].startswith("+50.0 [+")
    # 10 videos of 2 questions: one of both is wrong in each, so two of 2 ** 10 assignments count.
    cells = result.values()
    assert [cell.p_value for cell in cells] == pytest.approx([2 / 2**10, 0.5, 1])
    assert [cell.p_value_holm for cell in cells] == pytest.approx([6 / 2**10, 1, 1])
    assert table.rows[0][2:] == ("0.002", "0.006")
    rows = difference_rows("full", result)
    assert (rows[0]["run"], rows[0]["minus"], rows[0]["difference"]) == ("full", "blind", 0.5)
    assert rows[0]["num_differing_videos"] == 10
    assert run_differences(run_items({"full": run(1)}), ("nextqa", ALL), "other") == {}


def test_what_is_compared_is_what_the_protocol_scores() -> None:
    # VCR's "all" is answer and rationale together: right in the full run only where both are.
    def pair(number: int, *, answer: bool, rationale: bool) -> list[BenchmarkPrediction]:
        return [
            BenchmarkPrediction(
                id=f"vcr:val:{number}:{kind}", corpus="vcr", video_id=str(number),
                group_id=str(number), question_type=kind, options=("a", "b", "c", "d"),
                reference=0, output="A" if right else "B",
            )
            for kind, right in (("answer", answer), ("rationale", rationale))
        ]  # fmt: skip

    full = [row for n in range(4) for row in pair(n, answer=True, rationale=n < 2)]
    blind = [row for n in range(4) for row in pair(n, answer=True, rationale=False)]
    items, others = run_items({"full": full, "blind": blind[::-1]}).values()
    differences = {
        column[1]: with_difference(make_cell(column, [one]), [one], [others[column]])
        for column, one in items.items()
    }
    assert differences["all"].num_items == 4
    assert {name: cell.difference.mean for name, cell in differences.items()} == {
        "all": 0.5, "Q->AR": 0.5, "Q->A": 0, "QA->R": 0.5
    }  # fmt: skip
    table = table_of({"full": full}, "vcr")
    assert dict(zip(table.header[1:-1], table.rows[1][1:-1], strict=True)) == {
        "all (n=4)": "6.2", "Q->AR (n=4)": "6.2", "Q->A (n=4)": "25.0", "QA->R (n=4)": "25.0"
    }  # fmt: skip


def test_runs_must_answer_the_same_questions() -> None:
    with pytest.raises(ValueError, match="1 missing"):
        run_items({"full": run(20), "blind": run(10)[:-1]})
    items, fewer = run_items({"full": run(20)})["full"], run_items({"other": run(19)[:19]})["other"]
    column = ("nextqa", ALL)
    with pytest.raises(ValueError, match="do not answer the same questions of nextqa all"):
        with_difference(make_cell(column, [items[column]]), [items[column]], [fewer[column]])


def test_one_form_of_numbers() -> None:
    assert value_text(Interval(0.612, 0.55, 0.673)) == "61.2 [55.0, 67.3]"
    assert value_text(Interval(1.0, math.nan, math.nan), factor=1.0, decimals=2) == "1.00 [-]"
    assert value_text(0.05, sign="+") == "+5.0"
    # What is not defined is no number.
    assert value_text(math.nan) == value_text(Interval(*[math.nan] * 3)) == "n/a"
    assert record_row({"x": math.nan, "y": Interval(0.5, math.nan, math.nan), "n": 2}) == {
        **{"x": None, "n": 2, "y": 0.5},
        **{"y_low": None, "y_high": None},
    }
    assert [value_text(value) for value in (3, "a", None)] == ["3", "a", "-"]
