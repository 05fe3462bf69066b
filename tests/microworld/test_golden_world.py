"""The world of a seed stays the same, byte for byte: demo and ablations were measured on it."""

import hashlib
import random

from vidreason.microworld.corpora import (
    WorldConfig,
    split_rollouts,
    write_annotations,
    write_stills,
)
from vidreason.microworld.encoder_pretraining import clip_facts
from vidreason.microworld.instructions import instructions
from vidreason.microworld.renderer import frame_times

CONFIG = WorldConfig(num_videos={"train": 12, "val": 12, "test": 12}, seed=3)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_the_annotations_of_a_seed(tmp_path):
    for split in CONFIG.num_videos:
        write_annotations(tmp_path, split, split_rollouts(split, CONFIG), CONFIG)
        write_stills(tmp_path, split, split_rollouts(split, CONFIG), CONFIG)
    endings = (".json", ".jsonl", ".csv")
    files = sorted(path for path in tmp_path.rglob("*") if path.suffix in endings)
    assert len(files) == 50
    contents = [
        file.relative_to(tmp_path).as_posix().encode() + file.read_bytes() for file in files
    ]
    assert sha256(b"".join(contents)) == (
        "b2daf692cb404f2f65afee862236df0b76ac69b984cb8eff05983a83654d76f9"
    )


def test_what_the_parts_of_a_seed_are_trained_on():
    rollouts = list(split_rollouts("train", CONFIG).values())
    times = frame_times()[:12]
    trained_on = {
        "instructions": instructions(rollouts, random.Random(1)),
        "facts": [sorted(clip_facts(rollout, times, 0.0, 1.5)) for rollout in rollouts],
    }
    assert {name: sha256(repr(content).encode()) for name, content in trained_on.items()} == {
        "instructions": "4929ca8ba7aeedb4828311dc8fb2ad8b4d79f05d74c87e91fce6fcb12500ec75",
        "facts": "0e063d00bbe567f5cd5e07c64e52e35e8a604592bc086fcd9747ae9c77dcc539",
    }
