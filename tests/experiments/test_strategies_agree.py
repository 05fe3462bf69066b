"""One process, DDP and FSDP2 learn the same: losses, final weights, by the program itself.

Real processes that talk by gloo, on the CPU in float32, with one seed and one global batch. Target
tokens are 2 to 80 a sample; some videos have no object token, one has no visual token at all: with
two or three processes it is a whole micro-batch.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from forked_fit import Orders, free_port, srun_environment
from tiny_experiment import NUM_VIDEOS, fill_store, made_up_tokens

from experiments.fit.metrics_log import read_metrics
from vidreason.model import VideoReasoner
from vidreason.perception.visual_tokens import OBJECT_TOKEN, VisualTokens
from vidreason.training.checkpoint import newest_checkpoint
from vidreason.training.checkpoint_files import read_checkpoint

pytestmark = pytest.mark.slow

TOLERANCE = 1e-5
"""Tolerance of losses between 4 and 7, and of weights. Measured: at most 5e-7 and 2e-7."""
WITHIN_SECONDS = 280
GLOBAL_BATCH = 6
STEPS = 5


def varied_tokens(number: int) -> VisualTokens:
    """Up to four clips and up to four objects; video 2 has no token."""
    clips, objects = (0, 0) if number == 2 else (1 + number % 4, number * 2 % 5)
    tokens = made_up_tokens(number, clips + objects)
    tokens.kinds[clips:] = OBJECT_TOKEN
    tokens.spans[clips:, 1] = tokens.spans[clips:, 0]
    tokens.boxes[clips:] = torch.tensor([0.1, 0.2, 0.5, 0.6])
    tokens.areas[clips:] = 0.1
    return tokens


@dataclass(frozen=True)
class Trained:
    """The folder of a run that has ended well."""

    run_dir: Path

    @property
    def losses(self) -> list[float]:
        rows = read_metrics(str(self.run_dir)).values()
        return [row["train/loss"] for row in rows if "train/loss" in row]

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return read_checkpoint(newest_checkpoint(self.run_dir / "checkpoints"))["state_dict"]

    def samples(self, world_size: int) -> set[str]:
        paths = [self.run_dir / f"samples-rank{rank}.jsonl" for rank in range(world_size)]
        lines = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
        return {sample for line in lines for sample in line["ids"]}


@pytest.fixture(scope="module")
def varied_experiment(tiny_experiment, tmp_path_factory):
    """The tiny experiment with other visual tokens, and long captions beside its questions."""
    folder = tmp_path_factory.mktemp("varied")
    nextqa = tiny_experiment.parent / "nextqa" / "NExTVideo" / "00"
    videos = [str(nextqa / f"{100 + number}.mp4") for number in range(NUM_VIDEOS)]
    fill_store(videos, str(folder / "store"), varied_tokens)
    (folder / "webvid" / "videos").mkdir(parents=True)
    with (folder / "webvid" / "train.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["videoid", "name", "page_dir"])
        for number, video in enumerate(videos):
            (folder / "webvid" / "videos" / Path(video).name).symlink_to(video)
            writer.writerow([Path(video).stem, "it falls " * (1 + number * 3 % 8), ""])
    config = yaml.safe_load(tiny_experiment.read_text())
    config["store"]["path"] = str(folder / "store")
    webvid = {"reader": "webvid", "root": str(folder / "webvid"), "media_dir": str(nextqa)}
    config["data"] |= {"train": [*config["data"]["train"], webvid], "validation": []}
    config["data"]["global_batch_size"] = GLOBAL_BATCH
    # Dropout depends on the rank. With so large an epsilon a step is in proportion to the gradient:
    # AdamW itself would make whole steps of gradients that are nothing but rounding.
    config["reasoner"]["lora"]["dropout"] = 0.0
    config["optimizer"] = {
        "learning_rate": 1.0,
        "epsilon": 1.0,
        "weight_decay": 0.0,
        "warmup_steps": 1,
    }
    config["trainer"] |= {"stop_after_steps": STEPS, "loggers": [], "checkpoint_every_n_steps": 3}
    path = folder / "varied.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="module")
def train(nursery, varied_experiment, tmp_path_factory):
    """``train(strategy, num_processes, batch_size, *overrides)`` gives a :class:`Trained`."""

    def run(strategy, num_processes, batch_size, *overrides, run_dir=None):
        run_dir = run_dir or tmp_path_factory.mktemp(f"{strategy}-{num_processes}") / "run"
        settings = {
            "run_dir": run_dir,
            "trainer.strategy": strategy,
            "trainer.devices": num_processes,
            "data.batch_size": batch_size,
        }
        arguments = ["--config", str(varied_experiment)]
        arguments += [f"{key}={value}" for key, value in settings.items()]
        port = free_port()
        ranks = [
            nursery.start(
                Orders(
                    arguments=[*arguments, *overrides],
                    environment=srun_environment(rank, num_processes, port),
                    log=f"{run_dir}-{rank}.log",
                )
            )
            for rank in range(num_processes)
        ]
        for number, rank in enumerate(ranks):
            assert rank.wait(WITHIN_SECONDS) == 0, Path(f"{run_dir}-{number}.log").read_text()
        return Trained(run_dir)

    return run


@pytest.fixture(scope="module")
def alone(train):
    return train("auto", 1, 2)


def assert_same_learning(actual: Trained, expected: Trained) -> None:
    assert len(actual.losses) == STEPS
    assert actual.losses == pytest.approx(expected.losses, abs=TOLERANCE)
    weights, others = expected.weights, actual.weights
    assert others.keys() == weights.keys()
    for name, value in weights.items():
        torch.testing.assert_close(
            others[name], value, atol=TOLERANCE, rtol=0, msg=lambda text, n=name: n + text
        )


def test_one_process_learns_of_all_kinds_of_samples(alone):
    """Others are compared with this run: it moves, and meets the video without tokens."""
    assert alone.losses[-1] < alone.losses[0] - 0.1
    assert any("102" in sample for sample in alone.samples(1))


@pytest.mark.parametrize(
    ("strategy", "num_processes", "batch_size"),
    [
        pytest.param("ddp", 2, 1),
        pytest.param("ddp", 3, 2),
        ("fsdp2", 2, 1),
        pytest.param("fsdp2", 1, 3),
        pytest.param("fsdp2", 3, 1),
    ],
)
def test_strategies_and_numbers_of_processes_learn_the_same(
    train, alone, strategy, num_processes, batch_size
):
    trained = train(strategy, num_processes, batch_size)
    assert trained.samples(num_processes) == alone.samples(1)
    assert_same_learning(trained, alone)
    # LoraMerge has compared its logits with those of the run.
    merged = VideoReasoner.from_pretrained(trained.run_dir / "reasoner").state_dict()
    for name, value in (
        VideoReasoner.from_pretrained(alone.run_dir / "reasoner").state_dict().items()
    ):
        torch.testing.assert_close(merged[name], value, atol=TOLERANCE, rtol=0, msg=name)
