"""Predictions of other systems in the benchmarks' own forms, and the figures they published."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.evaluate.__main__ import main
from vidreason.evaluation.predictions.official import read_official_predictions
from vidreason.evaluation.predictions.submissions import write_submissions
from vidreason.example import Example

REAL = Path(
    os.environ.get("VIDREASON_ANNOTATIONS", Path(__file__).parents[3] / "shared/data/annotations")
)
needs_real_files = pytest.mark.skipif(
    not REAL.is_dir(), reason=f"the real annotation files are not in {REAL}"
)
REAL_WORDNET = Path(os.environ.get("VIDREASON_WORDNET", "/usr/share/wordnet"))
CHOICES = [
    Example(
        id=f"nextqa:val:7_{number}",
        corpus="nextqa",
        media="7.mp4",
        video_id="7",
        prompt="why",
        response="b",
        options=("a", "b", "c", "d", "e"),
        answer_index=1,
        question_type="CW",
    )
    for number in range(3)
]
OPEN = [
    Example(
        id=f"{corpus}:val:{one}",
        corpus=corpus,
        media="7.mp4",
        video_id="7",
        prompt="what",
        response="ball",
        answers=("ball",),
        question_type=kind,
    )
    for corpus, one, kind in (
        ("nextqa_open_ended", "7_0", "CW"),
        ("activitynet_qa", "v_7_1", "5"),
    )
]


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_what_was_submitted_is_read_again(tmp_path: Path) -> None:
    chosen = {"7_2": {"prediction": 4, "answer": 1}, "7_0": {"prediction": 1, "answer": 1}}
    path = write(tmp_path / "p.json", chosen | {"7_1": {"prediction": -1}})
    rows = read_official_predictions(path, CHOICES)
    assert [(row.id[-1], row.parsed, row.correct) for row in rows] == [
        *(("0", 1, True), ("1", None, False), ("2", 4, False))
    ]
    (written,) = write_submissions(rows, tmp_path)
    assert read_official_predictions(written, CHOICES) == rows
    # A question that could not be read has an answer all the same.
    assert read_official_predictions(path, CHOICES[:-1], num_unread=1) == rows[:-1]
    with pytest.raises(ValueError, match=r"1 answers are to no question \['7_2'\]"):
        read_official_predictions(path, CHOICES[:-1])


@pytest.mark.parametrize(
    ("example", "content"),
    [(OPEN[0], {"7": {"0": "Ball."}}), (OPEN[1], [{"question_id": "v_7_1", "answer": "Ball."}])],
)
def test_texts(tmp_path: Path, example: Example, content: object) -> None:
    (row,) = read_official_predictions(write(tmp_path / "p.json", content), [example])
    assert (row.output, row.parsed, row.correct) == ("Ball.", "ball", True)


@pytest.mark.parametrize(
    ("examples", "content", "message"),
    [
        (CHOICES, {"7_0": {"prediction": 1}}, r"2 are not answered \['7_1', '7_2'\]"),
        (CHOICES[:1], {"7_0": {"prediction": 1}, "8_0": 1}, r"1 answers are to no question"),
        (CHOICES[:1], {"7_0": {"prediction": 5}}, "7_0: expected .* index of an option"),
        (CHOICES[:1], {"7_0": 3}, "7_0: expected .* found 3"),
        (CHOICES[:1], {"7_0": {"prediction": 1, "answer": 2}}, "of different splits or versions"),
        (CHOICES[:1], [1], "p.json: expected an object, found list"),
        (OPEN[:1], {"7": "ball"}, "p.json: 7: expected an object, found str"),
        (OPEN[:1], {"7": {"0": 2}}, "expected a text, found 2"),
        (OPEN[1:], {"v_7_1": "ball"}, "expected an array of answers, found dict"),
        (OPEN[1:], [{"question_id": "v_7_1"}], "entry 0 has no question_id and answer"),
        (OPEN[1:], [{"question_id": "v_7_1", "answer": "x"}] * 2, "'v_7_1' is answered twice"),
        ([replace(OPEN[0], corpus="vcr")], {}, "no official form of predictions for 'vcr'"),
    ],
)
def test_other_forms_are_refused(
    tmp_path: Path, examples: list[Example], content: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_official_predictions(write(tmp_path / "p.json", content), examples)


def scores(tmp_path: Path, file: Path, reader: str, root: Path, *more: str) -> dict[str, float]:
    """Return what the command writes: percent by group."""
    corpus = f"data.benchmark=[{{reader: {reader}, root: '{root}', split: val}}]"
    assert main(["--from", str(file), "--out", str(tmp_path / "out"), corpus, *more]) == 0
    (rows,) = json.loads((tmp_path / "out" / "metrics.json").read_text())["runs"].values()
    return {row["group"]: round(100 * row["accuracy"], 2) for row in rows}


@needs_real_files
@pytest.mark.slow  # all questions of a real benchmark
def test_nextqa_scores_as_published(tmp_path: Path) -> None:
    root = REAL / "nextqa"
    result = scores(tmp_path, root / "HGA-bert-ft-h256-val-example.json", "nextqa", root)
    assert result == {
        **{"all": 49.74, "C": 46.26, "T": 50.74, "D": 59.33, "CW": 46.99, "CH": 44.22},
        **{"TN": 49.53, "TC": 52.49, "DC": 44.07, "DL": 72.54, "DO": 55.41},
    }


@needs_real_files
@pytest.mark.slow  # all questions of a real benchmark
def test_activitynet_qa_scores_as_the_script_should(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = REAL / "activitynet_qa"
    result = scores(tmp_path, root / "pred_val_example.json", "activitynet_qa", root)
    assert (result["all"], result["free"]) == (39.84, 50.55)
    assert (result["motion"], result["yesno"], result["number"]) == (18.78, 76.34, 64.03)
    assert "prints 75.83 for free" in capsys.readouterr().out


@needs_real_files
@pytest.mark.skipif(not REAL_WORDNET.is_dir(), reason=f"WordNet 3.0 is not in {REAL_WORDNET}")
@pytest.mark.slow  # all questions of a real benchmark
def test_nextqa_open_ended_scores_as_published(tmp_path: Path) -> None:
    root = tmp_path / "next_oe"
    root.mkdir()
    (root / "val.csv").symlink_to(REAL / "next_oe" / "val.csv")
    (root / "map_vid_vidorID.json").symlink_to(REAL / "nextqa" / "map_vid_vidorID.json")
    result = scores(
        tmp_path,
        REAL / "next_oe" / "HGA-same-att-qns23ans7-val-example.json",
        "nextqa_open_ended",
        root,
        f"evaluation.wordnet={REAL_WORDNET}",
        f"evaluation.stop_words={REAL / 'next_oe' / 'stopwords.txt'}",
    )
    assert result["all"] == 21.5  # published: 21.48, with another lemmatiser


def test_another_run_folder_is_refused_before_any_table_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = tmp_path / "again"
    tables = tmp_path / "run/evaluation/tables.md"
    tables.parent.mkdir(parents=True)
    tables.write_text("of the first run")
    assert main(["--from", str(tmp_path / "run"), f"run_dir={again}"]) == 2
    said = capsys.readouterr().err
    assert f"run_dir={again}: --from writes" in said
    assert f"write `--out {again}/evaluation`" in said
    assert tables.read_text() == "of the first run"
    assert not again.exists()
