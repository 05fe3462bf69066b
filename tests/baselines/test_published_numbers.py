"""Published numbers: a table of their own, for the benchmarks of a run."""

from data_modules.corpora import BUILT_IN_READERS
from experiments.evaluate.report import write_report
from experiments.kept_runs import ROW_NAMES
from vidreason.baselines.published import PUBLISHED, TITLE, published_table
from vidreason.evaluation.config import EvaluationConfig
from vidreason.evaluation.manifest import Manifest
from vidreason.evaluation.predictions.rows import BenchmarkPrediction


def test_every_number_has_a_source_and_a_benchmark_that_is_read_here():
    assert {one.corpus for one in PUBLISHED} <= set(BUILT_IN_READERS)
    assert all(0 < float(one.number) <= 100 and one.source for one in PUBLISHED)
    assert len({(one.model, one.corpus, one.measure, one.number) for one in PUBLISHED}) == len(
        PUBLISHED
    )


def test_only_the_benchmarks_of_a_run_are_shown():
    table = published_table(["nextgqa", "clevrer"])
    assert [row[:3] for row in table.rows] == [
        ("SeViLA on nextgqa", "Acc@QA", "68.1"),
        ("SeViLA on nextgqa", "Acc@GQA", "16.6"),
    ]
    assert all("(second hand)" in row[3] for row in table.rows)
    assert published_table(["clevrer", "vcr"]) is None


def test_the_report_shows_them_apart_from_what_was_measured(tmp_path, capsys):
    rows = [
        BenchmarkPrediction(
            id=f"nextqa:val:{number}", corpus="nextqa", video_id=str(number), question_type="CW",
            options=("a", "b"), reference=0, output="(A)",
        )
        for number in range(2)
    ]  # fmt: skip
    runs = {ROW_NAMES["none"]: rows, "sevila [generic]": rows}
    config = EvaluationConfig(report_items=0)
    manifests = {"sevila [generic]": Manifest(system={"fidelity": "generic"})}
    write_report(tmp_path, runs, config, model="m", manifests=manifests)
    markdown = (tmp_path / "tables.md").read_text()
    measured, reported = markdown.split(f"**{TITLE}**")
    assert "64.91" in reported
    assert "64.91" not in measured
    assert "full model" in measured
    assert "full model" not in reported.split("\n\n")[1]
    assert "64.91" in (tmp_path / "report.html").read_text()
    assert TITLE in capsys.readouterr().out
    assert "64.91" not in (tmp_path / "metrics.json").read_text()
    write_report(tmp_path, runs, config, model="m")
    assert "64.91" not in (tmp_path / "tables.md").read_text()
