"""Stage 2 on a written instruction set, through the data module that reads all corpora."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.experiment_config import ExperimentConfig
from experiments.fit.metrics_log import read_metrics
from experiments.fit.run import fit
from vidreason.config import merge_config
from vidreason.microworld.corpora import WorldConfig, original_video, split_rollouts, write_world
from vidreason.microworld.language import explanation, next_events, predictions
from vidreason.reasoning.predictions import Prediction
from vidreason.teacher.clip import Clip
from vidreason.teacher.draft import Draft, Step
from vidreason.teacher.instruction_set import write_instruction_set
from vidreason.teacher.journal_records import Ended
from vidreason.teacher.provenance import TeacherProvenance
from vidreason.teacher.verdicts import Verdict

WORLD = WorldConfig(num_videos={"train": 4, "val": 1}, questions_per_video=1)


def ended(world: Path) -> Iterator[Ended]:
    """Every video with what really happened in it, and what may follow."""
    for split in ("train", "val"):
        for video_id, rollout in split_rollouts(split, WORLD).items():
            futures = next_events(rollout, 4, random.Random(video_id))
            yield Ended(
                Clip(
                    source="microworld",
                    video_id=video_id,
                    media=str(original_video(world, video_id)),
                    split="train" if split == "train" else "val",
                    licence="CC0-1.0",
                ),
                Verdict(
                    draft=Draft(
                        steps=tuple(map(Step, explanation(rollout))),
                        predictions=tuple(
                            Prediction(*row) for row in predictions(rollout, futures)
                        ),
                    )
                ),
                failure=None,
                detail="",
                created="2026-03-01T10:00:00Z",
            )


@pytest.mark.slow  # it makes and perceives videos
def test_a_written_set_trains_stage_two(tiny_experiment: Path, tmp_path: Path) -> None:
    world, folder = tmp_path / "world", tmp_path / "set"
    write_world(world, WORLD)
    write_instruction_set(
        folder, lambda: ended(world), TeacherProvenance(teacher="event logs"),
    )  # fmt: skip
    config = merge_config(
        ExperimentConfig,
        [str(tiny_experiment), str(folder / "training.yaml")],
        [
            *(f"run_dir={tmp_path / 'run'}", "store.path=''", "trainer.stop_after_steps=2"),
            *("data.max_unreadable_fraction=0", "optimizer.warmup_steps=1"),
        ],
    )
    fit(config)
    samples = (tmp_path / "run/samples-rank0.jsonl").read_text().splitlines()
    ids = [one for line in samples for one in json.loads(line)["ids"]]
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    known = {
        f"causal_vid_instruct:train:{row['id']}:{kind}"
        for row in rows
        for kind in ("explanation", "prediction")
    }
    assert len(ids) == 8
    assert set(ids) == known
    metrics = read_metrics(str(tmp_path / "run"))
    assert metrics
    assert not (tmp_path / "run/failures.jsonl").exists()
