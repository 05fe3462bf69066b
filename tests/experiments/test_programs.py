"""The programs one after the other, on real videos of 8 frames, one of which cannot be read."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from data_modules.corpora import CorpusConfig
from experiments.evaluate.run import evaluate
from experiments.experiment_config import ExperimentConfig
from experiments.fit.metrics_log import METRICS_FILE, read_metrics
from experiments.fit.run import fit
from experiments.generate import main as generate
from experiments.kept_runs import PRIORS, ROW_NAMES, predictions_file
from experiments.perceive.run import perceive
from experiments.trained_model import load_trained_model, trained_token_source
from vidreason import cli
from vidreason.config import merge_config
from vidreason.evaluation.predictions.row_files import read_predictions
from vidreason.video.failures import UnreadableVideosError

CHECKOUT = Path(__file__).parents[2]
NUM_VIDEOS = 6
NUM_QUESTIONS = 25


class Experiment:
    """Builds configurations of the filmed experiment, all with the same store and run folder."""

    def __init__(self, files: list[str], folder: Path, broken: Path) -> None:
        self.files = files
        self.folder = folder
        self.broken = broken
        self.videos = sorted(broken.parent.glob("*.mp4"))
        self.root = broken.parents[2]
        self.run_dir = folder / "run"

    def config(self, *overrides: str) -> ExperimentConfig:
        folders = [f"run_dir={self.run_dir}", f"store.path={self.folder / 'store'}"]
        return merge_config(ExperimentConfig, self.files, [*folders, *overrides])


@pytest.fixture(scope="module")
def experiment(tiny_experiment, filmed_experiment, tmp_path_factory) -> Experiment:
    """After perceive and fit."""
    overlay, broken = filmed_experiment
    folder = tmp_path_factory.mktemp("programs")
    built = Experiment([str(tiny_experiment), str(overlay)], folder, broken)
    counts = perceive(built.config())
    assert (counts.perceived, counts.stored, counts.unreadable) == (NUM_VIDEOS - 1, 0, 1)
    fit(built.config())
    return built


def test_perceive_skips_what_is_stored_and_names_what_it_cannot_read(experiment, capsys):
    config = experiment.config()
    counts = perceive(config)
    assert (counts.perceived, counts.stored, counts.unreadable) == (0, NUM_VIDEOS - 1, 1)
    assert "found 5 in the store, could not read 1" in capsys.readouterr().out
    lines = (experiment.run_dir / "failures.jsonl").read_text().splitlines()
    assert {json.loads(line)["path"] for line in lines} == {str(experiment.broken)}


def test_perceive_ends_with_a_summary_when_too_many_videos_are_unreadable(experiment):
    config = experiment.config("data.max_unreadable_fraction=0.1")
    with pytest.raises(UnreadableVideosError) as error:
        perceive(config)
    # The limit of these videos, by the name that it has in a configuration.
    said = "1 of 6 samples had an unreadable video (data.max_unreadable_fraction = 0.1)"
    assert error.value.lines()[0] == said
    assert error.value.lines()[-1].endswith("or raise data.max_unreadable_fraction")


def test_perceive_without_a_store_or_corpora(experiment):
    with pytest.raises(ValueError, match=r"store\.path is empty"):
        perceive(experiment.config("store.path=''"))
    with pytest.raises(ValueError, match=r"are empty; name a corpus"):
        perceive(experiment.config("data.train=[]", "data.benchmark=[]"))


@pytest.mark.slow  # each process imports torch anew
def test_perceive_with_several_processes(experiment, tmp_path):
    config = experiment.config(f"store.path={tmp_path}", "perceive.num_workers=2")
    counts = perceive(config)
    assert (counts.perceived, counts.stored, counts.unreadable) == (NUM_VIDEOS - 1, 0, 1)
    again = perceive(experiment.config(f"store.path={tmp_path}"))
    assert (again.perceived, again.stored) == (0, NUM_VIDEOS - 1)


def test_the_loss_is_the_same_with_and_without_the_store(experiment, tmp_path):
    fit(experiment.config("store.path=''", f"run_dir={tmp_path}"))
    losses = [
        [metrics["train/loss"] for metrics in read_metrics(str(folder)).values()]
        for folder in (experiment.run_dir, tmp_path)
    ]
    assert len(losses[0]) == 3
    assert losses[0] == losses[1]


def test_looking_at_the_model_during_training_does_not_change_it(experiment, tmp_path):
    overrides = (
        "sample_generations.every_n_steps=1",
        "evaluation={every_n_steps: 1, limit: 4}",
        "trainer.validate_every_n_steps=2",
        # Another list of validation examples than the plain run's, which has none.
        f"data.validation={[{'reader': 'nextqa', 'root': str(experiment.root), 'split': 'val'}]}",
        "data.max_unreadable_fraction=0.5",
    )
    fit(experiment.config(f"run_dir={tmp_path}", *overrides))
    plain, watched = (
        {step: metrics["train/loss"] for step, metrics in read_metrics(str(folder)).items()}
        for folder in (experiment.run_dir, tmp_path)
    )
    assert watched == plain
    assert len(list((tmp_path / "benchmark").glob("step-*.jsonl"))) == 3


@pytest.mark.slow  # starts two processes, each of which imports torch
def test_two_processes_learn_what_one_does(experiment, tmp_path):
    overrides = ["reasoner.lora.dropout=0", "store.dtype=float32"]  # dropout depends on the rank
    fit(experiment.config(f"run_dir={tmp_path / 'one'}", *overrides))
    configs = [item for file in experiment.files for item in ("--config", file)]
    folders = [f"run_dir={tmp_path / 'two'}", f"store.path={experiment.folder / 'store'}"]
    parallel = ["trainer.devices=2", "trainer.strategy=ddp"]
    command = [sys.executable, "-m", "experiments.fit", *configs, *folders, *overrides, *parallel]
    subprocess.run(command, check=True, cwd=CHECKOUT, capture_output=True, timeout=280)
    one, two = (
        [metrics["train/loss"] for metrics in read_metrics(str(tmp_path / name)).values()]
        for name in ("one", "two")
    )
    assert len(two) == 3
    assert two == pytest.approx(one, rel=1e-5)


def test_fit_leaves_a_record_and_the_merged_model(experiment):
    files = {path.name for path in experiment.run_dir.iterdir()}
    assert {"config.yaml", "run.json", "checkpoints", "reasoner", "tensorboard"} <= files
    recorded = merge_config(ExperimentConfig, [str(experiment.run_dir / "config.yaml")])
    assert recorded == experiment.config()


def test_a_finished_run_started_again_trains_no_further(experiment):
    before = (experiment.run_dir / METRICS_FILE).read_text()
    fit(experiment.config())
    assert (experiment.run_dir / METRICS_FILE).read_text() == before


def test_evaluate_writes_predictions_metrics_and_tables(experiment, capsys):
    config = experiment.config()
    root = config.data.benchmark[0].root
    config.data.validation = [CorpusConfig(reader="nextqa", root=root, split="val", limit=6)]
    assert config.controls == [
        *("none", "half_frames", "single_frame", "blind", "shuffled_frames", "shuffled")
    ]
    assert list(ROW_NAMES) == [*config.controls, "random"]
    runs = evaluate(config)
    controls = [ROW_NAMES[control] for control in config.controls]
    assert list(runs) == [*controls, *PRIORS.values()]
    folder = experiment.run_dir / "evaluation"
    for control in config.controls:
        name = ROW_NAMES[control]
        predictions = read_predictions(folder / f"predictions-{control}.jsonl")
        assert predictions == runs[name]
        assert len(predictions) == NUM_QUESTIONS
    metrics = json.loads((folder / "metrics.json").read_text())
    rows = metrics["runs"][ROW_NAMES["none"]]
    overall = next(row for row in rows if row["group"] == "all")
    assert overall["num_questions"] == NUM_QUESTIONS
    assert overall["num_videos"] == NUM_VIDEOS - 1
    assert 0 <= overall["low"] <= overall["accuracy"] <= overall["high"] <= 1
    assert {row["minus"] for row in metrics["differences"]} == {*controls[1:], *PRIORS.values()}
    calibration = metrics["calibration"]["nextqa: confidence of choices"]
    # Six answers of a reasoner that has learnt nothing tell of no temperature.
    assert calibration["temperature"] is None
    (note,) = (note for note in metrics["notes"] if "at the fitted temperature" in note)
    assert "because of 6 validation answers" in note
    assert len(read_predictions(predictions_file(config, "validation"))) == 6
    assert calibration["scores"]["as it is"]["num_answers"] == NUM_QUESTIONS
    assert metrics["submissions"] == ["submissions/nextqa_answers.json"]
    chosen = json.loads((folder / metrics["submissions"][0]).read_text())
    assert [answer["prediction"] for answer in chosen.values()] == [
        row.parsed for row in runs[ROW_NAMES["none"]]
    ]
    printed = capsys.readouterr().out
    assert "blind (no visual tokens)" in printed
    assert "paired difference" in printed
    assert "full model" in (folder / "tables.md").read_text()
    page = (folder / "report.html").read_text()
    assert all(f'"id":{json.dumps(row.id)}' in page for row in runs[ROW_NAMES["none"]])
    assert f"{overall['accuracy']:.1%} [{overall['low']:.1%}, {overall['high']:.1%}]" in page
    assert page.count("data:image/jpeg;base64,") >= NUM_VIDEOS - 1


def test_visual_tokens_come_without_the_reasoner(experiment):
    config = experiment.config()
    _, source = load_trained_model(config)
    video = str(experiment.videos[0])
    assert trained_token_source(config).key(video) == source.key(video)


def test_evaluate_refuses_what_it_cannot_do(experiment, tmp_path):
    with pytest.raises(ValueError, match=r"there is no reasoner folder .*set model=FOLDER"):
        evaluate(experiment.config(f"run_dir={tmp_path}"))


def arguments(experiment: Experiment, *more: str) -> list[str]:
    configs = [item for file in experiment.files for item in ("--config", file)]
    return [*configs, f"model={experiment.run_dir / 'reasoner'}", *more]


def test_generate_answers_each_prompt_about_each_video(experiment, capsys):
    first, second = experiment.videos[:2]
    wanted = [f"video={first}", f"video={second}", "prompt=why: a, b?", "prompt=[x", "predict=true"]
    with pytest.raises(ValueError, match="prompt"):
        merge_config(ExperimentConfig, [], ["prompt=why"])  # YAML wants a list; generate does not
    assert generate(arguments(experiment, *wanted[:3], "predict=true")) == 0
    printed = capsys.readouterr().out
    assert printed.count(f"{first}\n> why: a, b?\n") == 1
    assert printed.count(f"{second}\n> why: a, b?\n") == 1
    assert printed.count("> Based on the events observed in the video") == 2


def test_generate_says_in_one_line_that_a_video_is_broken_and_answers_the_others(
    experiment, capsys
):
    videos = [f"video={experiment.broken}", f"video={experiment.videos[0]}", "video=absent.mp4"]
    assert generate(arguments(experiment, *videos, "prompt=why?")) == 1
    captured = capsys.readouterr()
    complaints = [line for line in captured.err.splitlines() if line.startswith("generate: ")]
    assert len(complaints) == 2
    assert complaints[0].startswith(f"generate: cannot read video '{experiment.broken}'")
    assert "absent.mp4" in complaints[1]
    assert f"{experiment.videos[0]}\n> why?\n" in captured.out


@pytest.mark.parametrize(
    ("given", "message"),
    [(["prompt=why?"], "video=PATH"), (["video=a.mp4"], "say what to ask")],
)
def test_generate_says_what_is_missing(experiment, given, message, capsys):
    assert generate(arguments(experiment, *given)) == 2
    assert message in capsys.readouterr().err


def test_ask_answers_from_the_reasoner_folder(experiment, capsys):
    model = ["--model", str(experiment.run_dir / "reasoner")]
    assert cli.main(["ask", str(experiment.videos[0]), "why?", *model]) == 0
    assert capsys.readouterr().out.endswith("\n")
    predict = ["ask", str(experiment.videos[0]), "--predict", *model]
    assert cli.main(predict) == 0
    assert capsys.readouterr().out
    assert cli.main([*predict, "--candidates", "greedy", "--json"]) == 0
    predicted = json.loads(capsys.readouterr().out)
    always = {"answer", "confidence", "evidence", "warnings"}
    more = {"predictions", "futures", "num_events", "covered_mass", "likely"}
    assert predicted.keys() == always | more
    assert len(predicted["futures"]) <= 1
    assert cli.main(["ask", str(experiment.videos[0]), "--why", "--json", *model]) == 0
    assert json.loads(capsys.readouterr().out).keys() == always | {"steps"}
    assert cli.main(["ask", str(experiment.broken), "why?", *model]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"vidreason ask: cannot read video '{experiment.broken}'")
    assert cli.main(["ask", str(experiment.videos[0]), "why?", "--model", "absent"]) == 2


def test_an_exported_folder_answers_as_the_run_does(experiment, tmp_path, capsys):
    """The adapters beside their base, and the weights they were merged into, say the same."""
    assert cli.main(["export", str(experiment.run_dir), str(tmp_path / "exported")]) == 0
    answers = []
    for folder in (tmp_path / "exported", experiment.run_dir / "reasoner"):
        capsys.readouterr()
        question = ["ask", str(experiment.videos[0]), "why did it fall"]
        assert cli.main([*question, "--model", str(folder)]) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1] != "\n"
