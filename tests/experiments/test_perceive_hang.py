"""A video that hangs is one row of ``failures.jsonl``; ``perceive`` perceives the others."""

import json
from pathlib import Path

import pytest
from strange_decoder import strange_decoder
from test_perceive_runs import read, write_noise, write_world

from experiments.perceive.run import perceive
from experiments.program import run_program


def test_videos_that_hang_are_named_and_the_others_perceived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_world(tmp_path, 2)
    videos = tmp_path / "world" / "videos" / "page"
    for number, name in enumerate(("hanging", "silent"), start=2):  # when opened, when hashed
        write_noise(videos / f"{name}.mp4", number)
        with (tmp_path / "world" / "train.csv").open("a") as rows:
            rows.write(f"{name},a square moves,0,page,PT1S,https://example.org/{name}\n")
    limits = ["data.decode_timeout_seconds=0.5", "data.max_unreadable_fraction=0.5"]
    arguments = ["--config", str(path), *limits]
    with strange_decoder(tmp_path, monkeypatch):
        assert run_program(perceive, program="perceive", description="", argv=arguments) == 0
    printed = capsys.readouterr().out
    assert "perceived 2 videos, found 0 in the store, could not read 2" in printed
    rows = (tmp_path / "run" / "failures.jsonl").read_text().splitlines()
    failures = {Path(row["path"]).stem: row for row in map(json.loads, rows)}
    assert failures.keys() == {"hanging", "silent"}
    for row in failures.values():
        assert (row["cause"], row["detail"]) == ("timed-out", "timed out after 0.5 s")
    for name in failures:
        (videos / f"{name}.mp4").unlink()
    config = read(path, "data.max_unreadable_fraction=0.5")
    assert perceive(config).stored == 2
