"""Recall and false alarms of the perceptual hash, kind of copy by kind: the table in its module."""

import os
from pathlib import Path
from typing import Any

import pytest
from video_copies import write_copy

from vidreason.microworld.renderer import write_video
from vidreason.microworld.scenes import draw_rollouts
from vidreason.video.perceptual_hash import VideoHashIndex, hash_video

REAL = Path(os.environ.get("VIDREASON_VIDEOS", Path(__file__).parents[3] / "shared/data/videos"))
# Kind of copy, how it is made, and the share of copies that has to be found.
KINDS: list[tuple[str, dict[str, Any], float]] = [
    ("re-encoded", {"crf": 36}, 1.0),
    ("re-encoded at half size", {"scale": 0.5, "crf": 30}, 1.0),
    ("mirrored", {"mirrored": True, "crf": 30}, 1.0),
    ("start cut by a quarter", {"first": 0.25, "crf": 28}, 0.95),
    ("end cut by a quarter", {"last": 0.75, "crf": 28}, 0.95),
    ("half of it cut", {"first": 0.25, "last": 0.75, "crf": 28}, 0.95),
    ("three quarters cut", {"first": 0.375, "last": 0.625, "crf": 28}, 0.9),
    ("start cut, mirrored, half size", {"first": 0.25, "mirrored": True, "scale": 0.5}, 0.95),
]


def index_of(paths: list[Path]) -> VideoHashIndex:
    index = VideoHashIndex()
    for path in paths:
        index.add(path.name, hash_video(str(path)))
    return index


def world_videos(folder: Path, split: str, number: int) -> list[Path]:
    paths = []
    for index, rollout in draw_rollouts(split, number):
        paths.append(folder / f"{split}{index}.mp4")
        write_video(rollout, paths[-1])
    return paths


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "changes", "floor"), KINDS, ids=[kind for kind, *_ in KINDS])
def test_recall_and_false_alarms(
    kind: str, changes: dict[str, Any], floor: float, tmp_path: Path
) -> None:
    videos = world_videos(tmp_path, "test", 30)
    index = index_of(videos)
    num_found = num_false = 0
    for path in videos:
        copy = write_copy(path, tmp_path / "copy.mp4", **changes)
        matches = {name for name, _ in index.find(hash_video(str(copy)))}
        num_found += path.name in matches
        num_false += len(matches - {path.name})
    print(f"{kind}: {num_found} of {len(videos)} found, {num_false} others")
    assert num_found >= floor * len(videos)
    assert num_false <= 1


@pytest.mark.slow
def test_different_videos_raise_no_alarm(tmp_path: Path) -> None:
    index = index_of(world_videos(tmp_path, "test", 30))
    others = world_videos(tmp_path, "train", 60)
    alarms = [path.name for path in others if index.find(hash_video(str(path)))]
    assert len(alarms) <= 1


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real videos are not in {REAL}")
def test_copies_of_real_videos(tmp_path: Path) -> None:
    videos = [path for path in sorted(REAL.iterdir()) if path.suffix in (".mp4", ".mkv")]
    index = index_of(videos)
    for kind, changes, _ in KINDS[:3]:
        for path in videos:
            copy = write_copy(path, tmp_path / "copy.mp4", **changes)
            matches = [name for name, _ in index.find(hash_video(str(copy)))]
            assert matches in ([path.name], []), kind
            print(f"{kind}: {path.name} {'found' if matches else 'missed'}")
