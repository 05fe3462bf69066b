"""Use of the store, on the microworld's real parts: steps without perception, same numbers."""

import statistics
import time
from pathlib import Path

import pytest
import torch

from data_modules.training_data import TrainingDataModule
from experiments.demo.config import DemoConfig
from experiments.demo.run import stage_experiment
from experiments.fit.metrics_log import read_metrics
from experiments.fit.run import fit
from vidreason.microworld.corpora import WorldConfig, write_world
from vidreason.perception.visual_tokens import VisualTokens
from vidreason.store.entries import decode_entry, encode_entry
from vidreason.store.visual_token_source import VisualTokenSource
from vidreason.video.reader import DIRECT

NUM_VIDEOS = 64
STAGE_1 = (
    *("data.num_epochs=2", "data.validation=[]"),
    *("optimizer.warmup_steps=1", "trainer.log_every_n_steps=1"),
)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    num_videos = {"train": NUM_VIDEOS, "val": 1, "test": 1}
    write_world(folder / "world", WorldConfig(num_videos=num_videos))
    return folder


def experiment(world: Path, run_dir: Path, store: Path | str, dtype: str = "float32"):
    """The demo's stage 1, shortened."""
    config = stage_experiment(DemoConfig(run_dir=str(world), stage1=list(STAGE_1)), "stage1")
    config.run_dir, config.store.path, config.store.dtype = str(run_dir), str(store), dtype
    return config


def losses(run_dir: Path) -> list[float]:
    return [metrics["train/loss"] for metrics in read_metrics(str(run_dir)).values()]


@pytest.mark.slow  # perceives each of 64 videos three times
def test_epoch_2_from_the_store_is_faster_and_the_same(world, tmp_path, monkeypatch):
    stamps: list[float] = []
    waits: list[float] = []
    count_batch, load = TrainingDataModule.on_after_batch_transfer, VisualTokenSource.__call__

    def stamp(self, *arguments):
        stamps.append(time.perf_counter())
        return count_batch(self, *arguments)

    def wait(self, *requested):
        start = time.perf_counter()
        tokens = load(self, *requested)
        waits.append(time.perf_counter() - start)
        return tokens

    monkeypatch.setattr(TrainingDataModule, "on_after_batch_transfer", stamp)
    monkeypatch.setattr(VisualTokenSource, "__call__", wait)
    steps, videos = {}, {}
    for name, store in (("on the fly", ""), ("from the store", tmp_path / "store")):
        stamps.clear()
        waits.clear()
        config = experiment(world, tmp_path / name, store)
        fit(config)
        # Of any micro-batches that follow each other and are as many as a step's, one ends a step.
        num_batches = config.data.global_batch_size // config.data.batch_size
        epoch_2 = stamps[-NUM_VIDEOS // config.data.batch_size :]
        spans = zip(epoch_2, epoch_2[num_batches:], strict=False)
        steps[name] = statistics.median(end - start for start, end in spans)
        videos[name] = statistics.median(waits[-NUM_VIDEOS:])
    step_ratio, video_ratio = (
        measured["on the fly"] / measured["from the store"] for measured in (steps, videos)
    )
    print(f"seconds in epoch 2, a step of 32: {steps}, ratio {step_ratio:.1f}")
    print(f"seconds in epoch 2, a video's tokens: {videos}, ratio {video_ratio:.0f}")
    assert losses(tmp_path / "on the fly") == losses(tmp_path / "from the store")
    assert video_ratio >= 50
    # What is left of a step is the training itself, the store's part is a hundredth of it.
    assert step_ratio >= 3


@pytest.fixture(scope="module")
def perceived(world) -> list[VisualTokens]:
    config = experiment(world, world / "run", world / "store")
    source = VisualTokenSource(config.perceiver, config.store, "cpu", DIRECT)
    videos = sorted((world / "world" / "webvid" / "videos").rglob("*.mp4"))[:4]
    return [source(str(video)) for video in videos]


BOUNDS = {"bfloat16": (0.9999, 0.003), "int8": (0.999, 0.02)}
"""Least cosine of a token with its rounded self, and largest relative error of a token."""


@pytest.mark.slow  # perceives 64 videos
@pytest.mark.parametrize("dtype", BOUNDS)
def test_rounding_moves_real_tokens_by_little(perceived, dtype):
    exact = torch.cat([tokens.features for tokens in perceived])
    key = bytes(16)
    rounded = torch.cat(
        [decode_entry(key, encode_entry(key, tokens, dtype)).features for tokens in perceived]
    )
    cosine = torch.cosine_similarity(exact.double(), rounded.double()).min().item()
    errors = (exact - rounded).norm(dim=1) / exact.norm(dim=1)
    print(
        f"{dtype}: {len(exact)} tokens, least cosine {cosine:.6f}, relative error "
        f"{errors.median():.5f} (median), {errors.max():.5f} (largest)"
    )
    assert cosine > BOUNDS[dtype][0]
    assert errors.max() < BOUNDS[dtype][1]


@pytest.mark.slow  # trains three times
def test_rounding_moves_the_loss_by_little(world, tmp_path):
    runs = {}
    for dtype in ("float32", "bfloat16", "int8"):
        fit(experiment(world, tmp_path / dtype, world / "store", dtype))
        runs[dtype] = losses(tmp_path / dtype)
    for dtype in ("bfloat16", "int8"):
        # Of an epoch, not of a step: what is rounded differently trains apart, step by step.
        change = abs(sum(runs[dtype]) / sum(runs["float32"]) - 1)
        print(f"{dtype}: relative change of the mean loss {change:.1e}")
        assert change < 0.01
