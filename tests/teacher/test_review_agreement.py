"""Agreement of reviewers and of the gate with them, against numbers computed by hand."""

from collections.abc import Sequence

import numpy as np
import pytest
from reviewed_set import accepted_row, review_of, write_rows

from experiments.review_instructions.tables import report_tables
from vidreason.teacher.review_agreement import RowFacts, nominal_alpha, review_report
from vidreason.teacher.reviews import read_reviews, row_sha

DECISIONS = {"A": "accept", "R": "reject", "E": "edit"}


def reviews_by(tmp_path, **decisions: str):
    """Reviews by reviewer: a letter a row, a blank for none."""
    reviews = []
    for name, letters in decisions.items():
        rows = [
            review_of(accepted_row(number), DECISIONS[letter], reviewer=name)
            for number, letter in enumerate(letters)
            if letter != " "
        ]
        reviews += read_reviews(write_rows(tmp_path / f"{name}.jsonl", rows))
    return reviews


def facts_of(sources: str, verdicts: Sequence[str] = ()):
    """Facts of the rows: a letter a source; accepted unless there are verdicts."""
    return {
        f"world-{number:04d}": RowFacts(
            row_sha(accepted_row(number)),
            source,
            f"v{number}",
            verdicts[number] if verdicts else "accepted",
        )
        for number, source in enumerate(sources)
    }


ANN, BOB = "AAAAAARRER", "AAAARARAER"


def test_two_reviewers(tmp_path):
    reviews = reviews_by(tmp_path, ann=ANN, bob=BOB)
    report = review_report(reviews, facts_of("aaaaaabbbb"), {("a", "accepted"): 90})
    assert report.reviewers["ann"] == {"accept": 6, "reject": 3, "edit": 1}
    pair = report.pairs["ann and bob"]
    assert pair["num_rows"] == 10
    assert pair["exact"].mean == pytest.approx(0.8)
    # Chance: 0.6 * 0.6 + 0.3 * 0.3 + 0.1 * 0.1 = 0.46; keep or reject: 0.7 * 0.7 + 0.3 * 0.3.
    assert pair["kappa"].mean == pytest.approx((0.8 - 0.46) / 0.54)
    assert pair["keep_kappa"].mean == pytest.approx((0.8 - 0.58) / 0.42)
    assert pair["kappa"].low < pair["kappa"].mean < pair["kappa"].high <= 1
    assert pair["confusion"] == {
        "accept": {"accept": 5, "reject": 1, "edit": 0},
        "reject": {"accept": 1, "reject": 2, "edit": 0},
        "edit": {"accept": 0, "reject": 0, "edit": 1},
    }
    everything = report.groups["(all)"]
    # 20 ratings, 12 + 6 + 2; two rows of unequal ones: 1 - 19 * 4 / (400 - 144 - 36 - 4).
    assert everything["alpha"].mean == pytest.approx(1 - 76 / 216)
    assert everything["keep_alpha"].mean == pytest.approx(1 - 76 / (400 - 14**2 - 6**2))
    assert {group: row["num_rows"] for group, row in report.groups.items()} == {
        **{"(all)": 10, "source: a": 6, "source: b": 4, "gate: accepted": 10}
    }
    assert report.groups["source: a"]["exact"].mean == pytest.approx(5 / 6)
    assert report.groups["source: b"]["exact"].mean == pytest.approx(3 / 4)


def test_three_reviewers_with_gaps(tmp_path):
    reviews = reviews_by(tmp_path, ann="AAR  A", bob="AAR R ", cem="ARR E ")
    report = review_report(reviews, facts_of("aaaaaa"), {})
    group = report.groups["(all)"]
    assert group["num_rows"] == 4
    # Equal pairs: 3 of 3, 1 of 3, 3 of 3, 0 of 1.
    assert group["exact"].mean == pytest.approx((1 + 1 / 3 + 1 + 0) / 4)
    # Ratings: AAA, AAR, RRR, RE: 5 A, 5 R, 1 E; differing (9 - 5) / 2 + (4 - 2) / 1 = 4.
    assert group["alpha"].mean == pytest.approx(1 - 10 * 4 / (121 - 25 - 25 - 1))
    assert sorted(report.pairs) == ["ann and bob", "ann and cem", "bob and cem"]
    assert report.pairs["bob and cem"]["num_rows"] == 4


def test_alpha_is_that_of_krippendorff():
    """Reproduce the example of "Computing Krippendorff's Alpha-Reliability" (2011), section C."""
    ratings = ["123321412   ", "1233224125 3", " 3332342251 ", "12332441251 "]
    counts = np.array(
        [[sum(row[unit] == value for row in ratings) for value in "12345"] for unit in range(12)]
    )
    assert nominal_alpha(counts) == pytest.approx(0.743, abs=5e-4)
    assert np.isnan(nominal_alpha(np.array([[2, 0], [3, 0]])))
    assert np.isnan(nominal_alpha(np.array([[1, 0], [0, 1]])))
    assert nominal_alpha(np.array([[2, 0], [0, 2]])) == 1


def test_the_gate_against_reviewers(tmp_path):
    reviews = reviews_by(tmp_path, ann=ANN, bob=BOB)
    verdicts = ["accepted"] * 7 + ["temporal", "length", "length"]
    sizes = {("a", "accepted"): 90, ("b", "accepted"): 10, ("a", "temporal"): 30}
    sizes |= {("b", "length"): 5, ("a", "length"): 5}
    # Together: A A A A R A R | R, E R.
    report = review_report(reviews, facts_of("aaaabbbaaa", verdicts), sizes)
    shares = {name: row["precision"].mean for name, row in report.accepted.items()}
    assert shares == {
        "a": 1,
        "b": pytest.approx(1 / 3),
        "(all)": pytest.approx(0.9 * 1 + 0.1 / 3),
    }
    assert {name: row["num_in_set"] for name, row in report.accepted.items()} == {
        **{"(all)": 100, "a": 90, "b": 10}
    }
    rejected = {name: row["rejected"].mean for name, row in report.rejected.items()}
    assert rejected == {"length": 0.5, "temporal": 1, "(all)": pytest.approx(0.75 * 1 + 0.25 * 0.5)}
    assert report.groups["gate: rejected"]["num_rows"] == 3
    # One video says nothing of others.
    assert np.isnan(report.rejected["temporal"]["rejected"].low)


def test_an_interval_of_precision(tmp_path):
    report = review_report(reviews_by(tmp_path, ann="AAAAAAAARE"), facts_of("a" * 10), {})
    share = report.accepted["a"]["precision"]
    # Wilson's, of 9 independent answers (10 less one), with Student's t of 9 degrees, 2.2622:
    # (0.8 + 2.8431 / 10) / 1.56862 -+ 2.2622 / 1.56862 * sqrt(0.16 / 9 + 5.1175 / 324).
    assert share.mean == pytest.approx(0.8)
    assert share.low == pytest.approx(0.42702, abs=2e-4)
    assert share.high == pytest.approx(0.95550, abs=2e-4)
    assert report.accepted["a"]["kept"].mean == pytest.approx(0.9)


def test_what_counts_nowhere(tmp_path):
    reviews = reviews_by(tmp_path, ann="AAA", bob="AAA")
    rows = facts_of("aa")
    rows["world-0001"] = rows["world-0001"]._replace(sha="0" * 64)
    report = review_report(reviews, rows, {})
    assert (report.num_stale, report.num_unknown) == (2, 2)
    assert report.pairs["ann and bob"]["num_rows"] == 1
    with pytest.raises(ValueError, match="none of 6 reviews is of a row of this set as it is now"):
        review_report(reviews, {}, {})


def test_tables_show_all_of_it(tmp_path):
    report = review_report(
        reviews_by(tmp_path, ann=ANN, **{"b|ob": BOB}), facts_of("aaaaaabbbb"), {}
    )
    text = "\n\n".join(table.to_markdown() for table in report_tables(report))
    assert text.count("**") == 2 * 5
    assert "| ann | 6 | 3 | 1 |" in text
    assert "b\\|ob" in text
    assert "80.0 [" in text
    assert "0.63 [" in text
    lonely = review_report(reviews_by(tmp_path, ann=ANN), facts_of("aaaaaabbbb"), {})
    assert [table.header[0] for table in report_tables(lonely)] == ["reviewer", "source"]
