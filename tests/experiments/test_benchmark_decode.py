"""Decoding is measured on videos of known frames; a long video costs what a short one does."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import experiments.benchmark.decode as program
from experiments.benchmark.__main__ import main
from experiments.benchmark.videos import VideoPlan, write_benchmark_video, write_repeated
from vidreason.video.reader import DIRECT

PLAN = VideoPlan(width=640, height=360, rate=25, group=50, b_frames=3, preset="veryfast")
NUM_ONCE = 100


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("once") / "once.mp4"
    write_benchmark_video(path, PLAN, NUM_ONCE)
    return path


def sampled(num_frames: int) -> list[int]:
    return [int(number) for number in (np.arange(16) + 0.5) / 16 * num_frames]


def cpu_seconds(path: Path) -> float:
    started = time.process_time()
    index = DIRECT.index(str(path))
    DIRECT.read_frames(index, sampled(index.num_frames))
    return time.process_time() - started


@pytest.mark.slow  # measures
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_sixteen_frames_of_an_hour_cost_those_of_a_minute(
    suffix: str, once: Path, tmp_path: Path
) -> None:
    """An hour of 90,000 frames, against its first minute; the frames are exact in both."""
    truth = program.decode_in_order(str(once), list(range(NUM_ONCE)))
    paths = []
    for minutes in (1, 60):
        path = tmp_path / f"{minutes}.{suffix}"
        write_repeated(once, path, minutes * 60 * PLAN.rate // NUM_ONCE)
        index = DIRECT.index(str(path))
        assert index.num_frames == minutes * 60 * PLAN.rate
        assert index.duration_seconds == pytest.approx(minutes * 60)
        wanted = sampled(index.num_frames)
        frames = DIRECT.read_frames(index, wanted).permute(0, 2, 3, 1)
        expected = torch.from_numpy(truth[[number % NUM_ONCE for number in wanted]])
        assert torch.equal(frames, expected)
        paths.append(path)
    ratios = []
    for turn in range(3):
        order = -1 if turn % 2 else 1
        minute, hour = [cpu_seconds(path) for path in paths[::order]][::order]
        ratios.append(hour / minute)
    assert np.median(ratios) <= 1.5


@pytest.mark.slow
def test_the_program_measures_and_compares(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(program.SIZES, "360p", (64, 48, 25))
    arguments = ["--sizes", "360p", "--seconds", "2", "--long-seconds", "60", "--rounds", "1"]
    report = ["--output-dir", str(tmp_path)]
    assert main(["decode", "--frames", "4", *arguments, *report]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert "| 360p-gop48-b0 | ours | " in (tmp_path / "decode.md").read_text()
    assert set(measured["videos"]) == {f"360p-gop{g}-b{b}" for g in (48, 250) for b in (0, 3)}
    for rows in [*measured["videos"].values(), measured["long"]["mp4"]["long"]]:
        assert rows["ours"]["times_ours"] == 1
        assert {"ours, watched", "pyav by seeking"} < set(rows)
        assert {row["equal_frames"] for name, row in rows.items() if "ours" in name} == {"4/4"}
    assert set(measured["long"]["mkv"]["long / minute"]) >= {"ours", "ours, watched"}
