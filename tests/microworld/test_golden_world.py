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
    assert len(files) == 36
    contents = [
        file.relative_to(tmp_path).as_posix().encode() + file.read_bytes() for file in files
    ]
    assert sha256(b"".join(contents)) == (
        "d64f2b9cbfb66804a74616ede26f8e49b53a3666a1ee367f5acb0911892cd137"
    )


def test_what_the_parts_of_a_seed_are_trained_on():
    rollouts = list(split_rollouts("train", CONFIG).values())
    times = frame_times()[:12]
    trained_on = {
        "instructions": instructions(rollouts, random.Random(1)),
        "facts": [sorted(clip_facts(rollout, times, 0.0, 1.5)) for rollout in rollouts],
    }
    assert {name: sha256(repr(content).encode()) for name, content in trained_on.items()} == {
        "instructions": "0bd29d698941b9f17ccd76ea0d41a6405ed57a4c561c6b09244ff9523965e26d",
        "facts": "e5807e589529c6ee59c41acd23d8487ab9cfab4c965fec1d015a85725e0d4239",
    }
