"""``evaluate`` killed and started again, and on several ranks: the same answers, none twice."""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from experiments.evaluate import __main__ as program
from experiments.evaluate import contenders
from experiments.evaluate import run as evaluation_run
from experiments.evaluate.run import evaluate
from experiments.experiment_config import ExperimentConfig
from experiments.kept_runs import ROW_NAMES
from vidreason.atomic_file import UNFINISHED
from vidreason.config import merge_config
from vidreason.evaluation.manifest import manifest_from_json
from vidreason.evaluation.predictions.kept import KeptPredictions
from vidreason.evaluation.predictions.row_files import (
    prediction_line,
    read_predictions,
    read_predictions_file,
    write_predictions,
)
from vidreason.evaluation.predictions.rows import BenchmarkPrediction
from vidreason.model import build_reasoner
from vidreason.perception.models import video_encoder_sizes

CHECKOUT = Path(__file__).parents[2]
NUM_CHOICES = 30
NUM_OPEN = 6
TIMEOUT_SECONDS = 280
CONTROLS = ("none", "blind")
SECONDS = re.compile(rb'"batch_seconds_share": [0-9.e-]+')


class Evaluation:
    """One configuration, in run folders of its own that share the reasoner."""

    def __init__(self, config: Path, folder: Path) -> None:
        self.config_file = config
        self.folder = folder

    def overrides(self, name: str, *more: str) -> list[str]:
        values = (f"run_dir={self.folder / name}", f"model={self.folder / 'reasoner'}")
        return [*values, f"controls=[{','.join(CONTROLS)}]", *more]

    def config(self, name: str, *more: str) -> ExperimentConfig:
        return merge_config(ExperimentConfig, [str(self.config_file)], self.overrides(name, *more))

    def command(self, name: str, *more: str, launcher: tuple[str, ...] = ()) -> list[str]:
        start = [sys.executable, "-m", *launcher, "experiments.evaluate"]
        return [*start, "--config", str(self.config_file), *self.overrides(name, *more)]

    def results(self, name: str) -> dict[str, bytes]:
        """The files that are left, without the seconds that answers took."""
        folder = self.folder / name / "evaluation"
        return {
            path.relative_to(folder).as_posix(): SECONDS.sub(b"", path.read_bytes())
            for path in folder.rglob("*")
            if path.is_file()
        }


@pytest.fixture(scope="module")
def evaluation(tiny_experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """Questions with options and without; new weights; and a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("evaluate")
    choices = tiny_experiment.parent / "nextqa"
    opened = folder / "open"
    opened.mkdir()
    for name in ("NExTVideo", "map_vid_vidorID.json"):
        (opened / name).symlink_to(choices / name)
    rows = [f"{100 + n},30,8,8,what is {n},ball,{n},CW\n" for n in range(NUM_OPEN)]
    (opened / "val.csv").write_text(
        "video,frame_count,width,height,question,answer,qid,type\n" + "".join(rows)
    )
    config = yaml.safe_load(tiny_experiment.read_text())
    config["data"]["benchmark"] = [
        {"reader": "nextqa", "root": str(choices), "split": "val"},
        {
            **{"reader": "nextqa_open_ended", "root": str(opened), "split": "val"},
            "media_dir": str(choices),
        },
    ]
    config["evaluation"] = {"batch_size": 3, "report_items": 0}  # no videos to look at
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    built = Evaluation(file, folder)
    loaded = built.config("whole")
    torch.manual_seed(0)
    width = video_encoder_sizes(loaded.perceiver.video_encoder).width
    reasoner = build_reasoner(loaded.reasoner, width, perceiver=loaded.perceiver)
    reasoner.save_pretrained(folder / "reasoner")
    evaluate(loaded)
    return built


def test_what_a_run_leaves(evaluation: Evaluation) -> None:
    folder = evaluation.folder / "whole" / "evaluation"
    priors = ("majority", "text-prior", "random-option")
    names = [f"predictions-{name}.jsonl" for name in (*CONTROLS, *priors)]
    names += ["metrics.json", "report.html", "tables.md", "submissions/nextqa_answers.json"]
    assert sorted(evaluation.results("whole")) == sorted(names)
    manifests = {}
    for name in CONTROLS:
        read = read_predictions_file(folder / f"predictions-{name}.jsonl")
        assert len(read.predictions) == NUM_CHOICES + NUM_OPEN
        assert all(row.batch_seconds_share > 0 for row in read.predictions)
        assert all(row.num_prompt_tokens > 0 for row in read.predictions)
        manifests[name] = manifest_from_json(read.manifest, name)
    assert manifests["blind"].protocol_hash == manifests["none"].protocol_hash
    assert manifests["blind"].hash != manifests["none"].hash
    assert set(manifests["none"].questions) == {"nextqa", "nextqa_open_ended"}


def test_a_finished_run_started_again_asks_nothing(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = evaluation.results("whole")

    def load(*_: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(contenders, "load_trained_model", load)
    runs = evaluate(evaluation.config("whole"))
    assert len(runs[ROW_NAMES["none"]]) == NUM_CHOICES + NUM_OPEN
    assert evaluation.results("whole") == before


def test_another_reasoner_folder_is_a_row_beside(evaluation: Evaluation) -> None:
    """The same folder under another name gives the same answers, and its own tag."""
    copy = f"{{kind: reasoner, weights: {{model: {evaluation.folder / 'reasoner'}}}}}"
    runs = evaluate(evaluation.config("beside", f"baselines.copy={copy}"))
    full, blind = ROW_NAMES["none"], ROW_NAMES["blind"]
    assert {"copy [re-trained]", "copy [re-trained], blind"} <= runs.keys()
    for row, other in ((full, "copy [re-trained]"), (blind, "copy [re-trained], blind")):
        answers, others = (
            [(one.id, one.output, one.option_log_likelihoods) for one in runs[name]]
            for name in (row, other)
        )
        assert answers == others
    with pytest.raises(ValueError, match=r"copy.weights: kind reasoner is made of .model: RUN"):
        evaluate(evaluation.config("wrong", "baselines.copy={kind: reasoner}"))


def test_a_control_that_takes_two_videos_is_na_with_one(
    evaluation: Evaluation, tiny_experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tiny_experiment.parent / "nextqa"
    copy = f"{{kind: reasoner, weights: {{model: {evaluation.folder / 'reasoner'}}}}}"
    one_video = (
        f"data.benchmark=[{{reader: nextqa, root: {root}, split: val, limit: 3}}]",
        "controls=[none,shuffled]",
        f"baselines.copy={copy}",
    )
    config = evaluation.config("one_video", *one_video)
    runs = evaluate(config)
    printed = capsys.readouterr()
    reason = "the control 'shuffled' shows another video, and all questions are about one"
    said, first = printed.err.index(f"will be n/a: {reason}"), printed.err.index("3 questions, ")
    assert said < first  # before anything is asked
    names = ROW_NAMES["shuffled"], "copy [re-trained], another video"
    for name in names:
        assert len(runs[name]) == 3
        assert not any(row.output or row.option_log_likelihoods for row in runs[name])
        assert {row.correct for row in runs[name]} == {None}
    assert all(row.option_log_likelihoods for row in runs[ROW_NAMES["none"]])
    folder = evaluation.folder / "one_video" / "evaluation"
    note = f"{', '.join(names)}: n/a, because {reason}"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert any(line.startswith(note) for line in metrics["notes"])
    assert {metrics["runs"][name] == [] for name in names} == {True}
    assert not {row["minus"] for row in metrics["differences"]} & set(names)
    # Told apart from zero on each of its pages, also where the scores are made anew.
    before = evaluation.results("one_video")
    assert program.main(["--from", str(folder.parent)]) == 0
    assert evaluation.results("one_video") == before
    for text in (printed.out, (folder / "tables.md").read_text()):
        assert sum(name in line and "n/a" in line for line in text.splitlines() for name in names)
    assert re.search(
        r"another video(?:'|&#x27;)s tokens</th><td>n/a", (folder / "report.html").read_text()
    )
    # Kept answers are taken, and a second video makes the control.
    assert evaluate(config)[names[0]] == runs[names[0]]
    two = evaluate(
        evaluation.config("two_videos", one_video[0].replace("limit: 3", "limit: 6"), one_video[1])
    )
    assert all(row.option_log_likelihoods for row in two[names[0]])


def test_all_scores_come_again_from_the_predictions_alone(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = evaluation.results("whole")
    folder = evaluation.folder / "whole" / "evaluation"
    moved = evaluation.folder / "moved"
    shutil.copytree(folder, moved)
    for name in ("tables.md", "submissions/nextqa_answers.json"):
        (moved / name).unlink()

    def refuse(*_: object) -> None:
        raise AssertionError("a model, a corpus or a store was opened")

    for name in ("load_trained_model", "trained_model_identity"):
        monkeypatch.setattr(contenders, name, refuse)
    monkeypatch.setattr(evaluation_run, "open_corpora", refuse)
    assert program.main(["--from", str(moved)]) == 0
    after = {
        path.relative_to(moved).as_posix(): SECONDS.sub(b"", path.read_bytes())
        for path in moved.rglob("*")
        if path.is_file()
    }
    assert after == before
    shutil.rmtree(moved)
    capsys.readouterr()
    assert program.main(["--from", str(folder / "predictions-blind.jsonl")]) == 0
    assert "blind (no visual tokens)" in capsys.readouterr().out
    assert evaluation.results("whole") == before  # a file by itself is printed only
    assert program.main(["--from", str(folder), "--from", str(folder)]) == 2
    assert "is there twice; one call scores one run" in capsys.readouterr().err


def test_compare(evaluation: Evaluation, capsys: pytest.CaptureFixture[str]) -> None:
    folder = evaluation.folder / "whole" / "evaluation"
    none, blind = (str(folder / f"predictions-{control}.jsonl") for control in CONTROLS)
    assert program.main(["compare", none, blind]) == 0
    printed = capsys.readouterr().out
    assert "what is compared: control: 'none' and 'blind'" in printed
    assert "NOT COMPARABLE" not in printed
    assert "nextqa: A - B in points" in printed
    longer = evaluation.folder / "longer.jsonl"
    manifest = read_predictions_file(none).manifest
    assert manifest is not None
    kept = manifest_from_json(manifest, none)
    other = replace(kept, answering=kept.answering | {"decoding": {"max_new_tokens": 99}})
    rows = read_predictions(none)
    write_predictions(longer, rows, other.as_json())
    assert program.main(["compare", str(evaluation.folder / "whole"), str(longer)]) == 1
    printed = capsys.readouterr().out
    assert "answering.decoding.max_new_tokens: 4 and 99" in printed
    assert "NOT COMPARABLE, nextqa: A - B" in printed
    write_predictions(longer, rows)
    assert program.main(["compare", none, str(longer)]) == 1
    assert "B does not say what its answers were made with" in capsys.readouterr().out
    for changed in (
        rows[1:],
        [replace(rows[0], reference=4 - int(str(rows[0].reference))), *rows[1:]],
    ):
        write_predictions(longer, changed)
        assert program.main(["compare", none, str(longer)]) == 2
        assert "were not asked the same" in capsys.readouterr().err


@pytest.mark.parametrize("after_batches", [5, pytest.param(12, marks=pytest.mark.slow)])
def test_a_run_that_was_cut_off_answers_only_what_is_missing(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch, after_batches: int
) -> None:
    """Cut off in the middle of a batch: half its rows are there, and a piece of the next one."""
    name = f"cut-{after_batches}"
    append, batches = KeptPredictions.append, iter(range(100))

    def cut_off(kept: KeptPredictions, rows: list[BenchmarkPrediction]) -> None:
        if next(batches) == after_batches:
            append(kept, rows[:1])
            with next(kept.path.parent.glob("*.part")).open("ab") as file:
                file.write(prediction_line(rows[1])[:-20])
            raise KeyboardInterrupt
        append(kept, rows)

    monkeypatch.setattr(KeptPredictions, "append", cut_off)
    with pytest.raises(KeyboardInterrupt):
        evaluate(evaluation.config(name))
    requests: list[str] = []

    def count(kept: KeptPredictions, rows: list[BenchmarkPrediction]) -> None:
        requests.extend(f"{kept.path.name} {row.id}" for row in rows)
        append(kept, rows)

    monkeypatch.setattr(KeptPredictions, "append", count)
    evaluate(evaluation.config(name))
    assert evaluation.results(name) == evaluation.results("whole")
    assert len(set(requests)) == len(requests)
    total = len(CONTROLS) * (NUM_CHOICES + NUM_OPEN)
    assert total - len(requests) == 3 * after_batches + 1


def test_another_model_or_decoding_is_not_mixed_in(evaluation: Evaluation) -> None:
    before = evaluation.results("whole")
    for override, message in (
        ("decoding.max_new_tokens=5", "max_new_tokens: 4 and 5"),
        ("evaluation.batch_size=4", "batch_size: 3 and 4"),
        ("data.limit=9", r"questions\.nextqa: "),
    ):
        with pytest.raises(ValueError, match=rf"{message}.*remove the folder .* another run_dir"):
            evaluate(evaluation.config("whole", override))
    assert evaluation.results("whole") == before


@pytest.mark.parametrize("batch_size", [pytest.param(1, marks=pytest.mark.slow), 8])
def test_the_batch_size_changes_no_answer(evaluation: Evaluation, batch_size: int) -> None:
    name = f"batch-{batch_size}"
    evaluate(evaluation.config(name, f"evaluation.batch_size={batch_size}", "controls=[none]"))
    expected, result = (
        read_predictions(evaluation.folder / run / "evaluation" / "predictions-none.jsonl")
        for run in ("whole", name)
    )
    for row, other in zip(expected, result, strict=True):
        assert (other.id, other.parsed, other.output) == (row.id, row.parsed, row.output)
        assert other.option_log_likelihoods == pytest.approx(row.option_log_likelihoods, abs=1e-5)


def run(command: list[str], environment: dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command,
        cwd=CHECKOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def succeed(processes: "list[subprocess.Popen[str]]") -> None:
    for process in processes:
        output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
        assert process.returncode == 0, output


def num_answered(folder: Path) -> int:
    parts = []
    for path in folder.glob("predictions-*"):
        # The program removes its parts once the whole file is there.
        with suppress(FileNotFoundError):
            if path.suffix != UNFINISHED:
                parts.append(path.read_bytes())
    return sum(max(0, text.count(b"\n") - 1) for text in parts)


@pytest.mark.slow  # starts the program four times
@pytest.mark.parametrize("seed", range(2))
def test_a_program_killed_at_random_points_gives_the_same_numbers(
    evaluation: Evaluation, seed: int
) -> None:
    generator = random.Random(seed)
    name = f"killed-{seed}"
    folder = evaluation.folder / name / "evaluation"
    for _ in range(3):
        former = num_answered(folder) if folder.exists() else 0
        process = run(evaluation.command(name), {})
        wanted = former + generator.randint(1, 25)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while process.poll() is None and (not folder.exists() or num_answered(folder) < wanted):
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.kill()
        process.communicate(timeout=TIMEOUT_SECONDS)
    succeed([run(evaluation.command(name), {})])
    assert evaluation.results(name) == evaluation.results("whole")


LAUNCHERS = ("trainer.devices", "torchrun", "srun")


def start(
    evaluation: Evaluation, name: str, launcher: str, *overrides: str
) -> "list[subprocess.Popen[str]]":
    if launcher == "trainer.devices":
        return [run(evaluation.command(name, "trainer.devices=2", *overrides), {})]
    if launcher == "torchrun":
        torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
        return [run(evaluation.command(name, *overrides, launcher=torchrun), {})]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {
        **{"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "evaluate", "SLURM_JOB_NODELIST": "localhost"},
        **{"SLURM_NNODES": "1", "SLURM_NODEID": "0", "SLURM_NODELIST": "localhost"},
        **{"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "GLOO_SOCKET_IFNAME": "lo"},
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
    }
    command = evaluation.command(name, *overrides)
    return [
        run(command, {**shared, "SLURM_PROCID": rank, "SLURM_LOCALID": rank}) for rank in ("0", "1")
    ]


@pytest.mark.slow  # starts the program on two ranks
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_ranks_give_what_one_gives(evaluation: Evaluation, launcher: str) -> None:
    name = f"two-{launcher}"
    succeed(start(evaluation, name, launcher))
    assert evaluation.results(name) == evaluation.results("whole")


@pytest.mark.slow  # starts the program on two ranks, and then on one
def test_ranks_that_were_killed_are_gone_on_with_by_one(evaluation: Evaluation) -> None:
    processes = start(evaluation, "two-killed", "srun")
    folder = evaluation.folder / "two-killed" / "evaluation"
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not folder.exists() or num_answered(folder) < 12:
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes)
        time.sleep(0.001)
    for process in processes:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=TIMEOUT_SECONDS)
    assert len(list(folder.glob("*.part"))) == 2  # both have answered
    succeed([run(evaluation.command("two-killed"), {})])
    assert evaluation.results("two-killed") == evaluation.results("whole")


@pytest.mark.slow  # starts the program on two ranks
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_what_the_first_rank_alone_finds_wrong_ends_all(
    evaluation: Evaluation, launcher: str
) -> None:
    """Within the time limit, and said once."""
    before = evaluation.results("whole")
    processes = start(evaluation, "whole", launcher, "evaluation.batch_size=4")
    outputs = [process.communicate(timeout=TIMEOUT_SECONDS)[0] for process in processes]
    assert processes[0].returncode != 0
    assert "".join(outputs).count("evaluate: ") == 1, outputs
    assert "batch_size: 3 and 4" in "".join(outputs)
    assert evaluation.results("whole") == before
