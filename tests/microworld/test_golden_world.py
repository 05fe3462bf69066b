"""The world of a seed stays the same, byte for byte: demo and ablations were measured on it."""

import hashlib
import random

from vidreason.microworld.corpora import (
    WorldConfig,
    instructions,
    split_rollouts,
    write_annotations,
)
from vidreason.microworld.encoder_pretraining import clip_facts
from vidreason.microworld.renderer import frame_times

CONFIG = WorldConfig(num_videos={"train": 12, "val": 12, "test": 12}, seed=3)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_the_annotations_of_a_seed(tmp_path):
    for split in CONFIG.num_videos:
        write_annotations(tmp_path, split, split_rollouts(split, CONFIG), CONFIG)
    endings = (".json", ".jsonl", ".csv")
    files = sorted(path for path in tmp_path.rglob("*") if path.suffix in endings)
    assert len(files) == 49
    contents = [
        file.relative_to(tmp_path).as_posix().encode() + file.read_bytes() for file in files
    ]
    assert sha256(b"".join(contents)) == (
        "e550ed35afc7baf3f5d634d7fd7867a32505cdcd0736e92ceed687d5deafcfcb"
    )


def test_what_the_parts_of_a_seed_are_trained_on():
    rollouts = list(split_rollouts("train", CONFIG).values())
    times = frame_times()[:12]
    trained_on = {
        "stories": [(rollout.scene, rollout.events) for rollout in rollouts],
        "instructions": instructions(rollouts, random.Random(1)),
        "facts": [sorted(clip_facts(rollout, times, 0.0, 1.5)) for rollout in rollouts],
    }
    assert {name: sha256(repr(content).encode()) for name, content in trained_on.items()} == {
        "stories": "28c0465b0e044e6c166b3d55107d423cefefa4577def3b7712dbb7c311924790",
        "instructions": "33270d31ec7ba353c17f477959e7aa98ee79c2ef4f99c6b83c13514def3f85cc",
        "facts": "c52e1bf115e097385bbd04e95965af05293609fc19f90b946a0ff5edc26b16bf",
    }
