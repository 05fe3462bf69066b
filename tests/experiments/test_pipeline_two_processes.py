"""Stage 1, stage 2, merge, export, evaluate: on two processes by the same commands as on one.

Real commands, videos, and processes that talk by gloo; videos are perceived on the fly by both
ranks, into one store, and one of them is broken.
"""

import csv
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml

from callbacks.run_record import read_starts
from experiments.fit.metrics_log import read_metrics
from vidreason import cli
from vidreason.evaluation.predictions.row_files import read_predictions
from vidreason.training.checkpoint import newest_checkpoint

CHECKOUT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 240
LAUNCHERS = {
    "one process": ([], ["trainer.devices=1"]),
    "Lightning's launcher": ([], ["trainer.devices=2", "trainer.strategy=ddp"]),
    "torchrun": (
        ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"],
        ["trainer.devices=2", "trainer.strategy=ddp"],
    ),
}


@dataclass
class Pipeline:
    """The commands of both stages with one launcher, all results in one folder."""

    folder: Path
    launcher: str
    files: list[str]
    webvid: Path

    def command(self, program: str, *overrides: str) -> list[str]:
        start, folders = LAUNCHERS[self.launcher]
        configs = [item for file in self.files for item in ("--config", file)]
        named = [f"store.path={self.folder / 'store'}", *folders, *overrides]
        return [sys.executable, "-m", *start, f"experiments.{program}", *configs, *named]

    def run(self, program: str, *overrides: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(program, *overrides),
            cwd=CHECKOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )

    def succeed(self, program: str, *overrides: str) -> str:
        finished = self.run(program, *overrides)
        assert finished.returncode == 0, finished.stdout
        return finished.stdout

    def stage1(self) -> Path:
        run_dir = self.folder / "stage1"
        corpus = {"reader": "webvid", "root": str(self.webvid), "split": "train"}
        self.succeed(
            "fit",
            f"run_dir={run_dir}",
            "stage=alignment",
            "reasoner.lora=null",
            f"data.train={json.dumps([corpus])}",
        )
        return run_dir

    def stage2(self, stage1: Path) -> Path:
        run_dir = self.folder / "stage2"
        checkpoint = newest_checkpoint(stage1 / "checkpoints")
        self.succeed("fit", f"run_dir={run_dir}", f"initial_checkpoint={checkpoint}")
        return run_dir


@pytest.fixture(scope="module")
def build_pipeline(tiny_experiment, filmed_experiment, tmp_path_factory):
    """From a launcher to its pipeline."""
    overlay, broken = filmed_experiment
    webvid = tmp_path_factory.mktemp("webvid")
    videos = sorted(broken.parent.glob("*.mp4"))
    (webvid / "videos").mkdir()
    with (webvid / "train.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["videoid", "name", "page_dir"])
        for number, video in enumerate(videos):
            (webvid / "videos" / video.name).hardlink_to(video)
            writer.writerow([video.stem, f"square number {number} moves" * (number + 1), ""])
    pipeline_settings = webvid / "pipeline.yaml"
    # Dropout depends on the rank; the store's half precision on when a video was perceived.
    settings = {
        "store": {"dtype": "float32"},
        "data": {"max_unreadable_fraction": 0.5},
        "optimizer": {"warmup_steps": 1},
        "reasoner": {"lora": {"dropout": 0.0}},
        "controls": ["none", "blind"],
    }
    pipeline_settings.write_text(yaml.safe_dump(settings))

    def build(launcher: str) -> Pipeline:
        folder = tmp_path_factory.mktemp(launcher.replace("'", "").replace(" ", "_"))
        return Pipeline(
            folder, launcher, [str(tiny_experiment), str(overlay), str(pipeline_settings)], webvid
        )

    return build


@pytest.fixture(scope="module")
def one_process(build_pipeline):
    """The pipeline on one process: its folder."""
    pipeline = build_pipeline("one process")
    stage2 = pipeline.stage2(pipeline.stage1())
    pipeline.succeed("evaluate", f"run_dir={stage2}")
    return pipeline.folder


def losses(run_dir):
    rows = read_metrics(str(run_dir)).values()
    return [row["train/loss"] for row in rows if "train/loss" in row]


def trained(run_dir):
    return torch.load(newest_checkpoint(run_dir / "checkpoints"), weights_only=True)["state_dict"]


@pytest.mark.slow  # three commands on two processes each, which import torch
@pytest.mark.parametrize("launcher", ["Lightning's launcher", "torchrun"])
def test_the_pipeline_gives_on_two_processes_what_it_gives_on_one(
    build_pipeline, one_process, launcher, tmp_path, capsys
):
    pipeline = build_pipeline(launcher)
    stage1 = pipeline.stage1()
    stage2 = pipeline.stage2(stage1)
    for run, other in ((stage1, one_process / "stage1"), (stage2, one_process / "stage2")):
        (start,) = read_starts(run)
        assert (start["world_size"], start["end"]["cause"]) == (2, "finished")
        assert losses(run) == pytest.approx(losses(other), rel=1e-4)
        expected, actual = trained(other), trained(run)
        assert expected.keys() == actual.keys()
        for name, value in expected.items():
            torch.testing.assert_close(actual[name], value, atol=1e-4, rtol=1e-3, msg=name)
    failed = [json.loads(line) for line in (stage1 / "failures.jsonl").read_text().splitlines()]
    assert {failure["path"] for failure in failed} == {str(pipeline.webvid / "videos" / "105.mp4")}

    assert cli.main(["export", str(stage2), str(tmp_path / "exported")]) == 0
    answers = []
    for folder in (tmp_path / "exported", stage2 / "reasoner"):
        capsys.readouterr()
        question = ["ask", str(pipeline.webvid / "videos" / "100.mp4"), "why did it fall"]
        assert cli.main([*question, "--model", str(folder)]) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1] != "\n"

    # Of the one process' model: a last digit of a weight may turn an answer.
    reasoner = one_process / "stage2" / "reasoner"
    pipeline.succeed("evaluate", f"run_dir={stage2}", f"model={reasoner}")
    for name in ("predictions-none.jsonl", "predictions-blind.jsonl"):
        two, one = (
            read_predictions(folder / "evaluation" / name)
            for folder in (stage2, one_process / "stage2")
        )
        assert two == one


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["Lightning's launcher", "torchrun"])
@pytest.mark.parametrize("failing", ["record", "merge"])
def test_what_fails_on_rank_0_alone_ends_all_ranks(build_pipeline, tmp_path, launcher, failing):
    """Within the time limit: the other rank is not left waiting."""
    pipeline = build_pipeline(launcher)
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    if failing == "record":
        (run_dir / "run.json").mkdir()  # cannot be read as the record, nor written
    else:
        (run_dir / "reasoner").write_text("no folder")
    finished = pipeline.run("fit", f"run_dir={run_dir}", "trainer.stop_after_steps=1")
    assert finished.returncode != 0
    assert str(run_dir) in finished.stdout
