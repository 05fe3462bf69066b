"""Planted copies are found, and different videos are told apart, on microworld videos."""

from pathlib import Path

import numpy as np
import pytest
import torch
from video_copies import write_copy

from vidreason.microworld.renderer import write_video
from vidreason.microworld.scenes import draw_rollouts
from vidreason.video import perceptual_hash
from vidreason.video.perceptual_hash import (
    SAME_VIDEO_DISTANCE,
    VideoHash,
    VideoHashIndex,
    distance,
    hash_frames,
    hash_video,
)

NUM_VIDEOS, NUM_COPIED = 24, 2
COPIES = {
    "re-encoded": {"crf": 36},
    "at half size": {"scale": 0.5, "crf": 30},
    "mirrored": {"mirrored": True, "crf": 30},
    "trimmed": {"first": 0.1, "last": 0.83, "crf": 28},
    "trimmed and mirrored": {"first": 0.15, "mirrored": True, "crf": 30},
    "darker": {"gamma": 1.4},
    "at another frame rate": {"rate": 5, "crf": 28},
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    paths = []
    for number, rollout in draw_rollouts("train", NUM_VIDEOS, 0):
        paths.append(folder / f"{number}.mp4")
        write_video(rollout, paths[-1])
    return paths


@pytest.fixture(scope="module")
def index(videos: list[Path]) -> VideoHashIndex:
    built = VideoHashIndex()
    for path in videos:
        built.add(path.name, hash_video(str(path)))
    return built


def test_every_planted_copy_is_found_and_nothing_else(
    videos: list[Path], index: VideoHashIndex, tmp_path: Path
) -> None:
    for kind, changes in COPIES.items():
        for path in videos[:NUM_COPIED]:
            copy = write_copy(path, tmp_path / path.name, **changes)
            matches = index.find(hash_video(str(copy)))
            assert [name for name, _ in matches] == [path.name], kind


def test_different_videos_are_far_apart(videos: list[Path], index: VideoHashIndex) -> None:
    hashes = [video for _, video in index._videos]
    apart = [distance(one, two) for k, one in enumerate(hashes) for two in hashes[:k]]
    assert len(apart) == NUM_VIDEOS * (NUM_VIDEOS - 1) // 2
    assert min(apart) > SAME_VIDEO_DISTANCE
    assert np.median(apart) > 0.35
    assert distance(hashes[0], hashes[0]) == 0.0


def test_a_mirrored_pictures_hash_is_the_mirrored_hash() -> None:
    pictures = torch.randint(0, 256, (5, 3, 96, 64), generator=torch.manual_seed(0)).byte()
    plain = VideoHash(step_seconds=1.0, frames=hash_frames(pictures)[0], is_flat=np.zeros(5, bool))
    np.testing.assert_array_equal(hash_frames(pictures.flip(-1))[0], plain.mirrored.frames)
    np.testing.assert_array_equal(plain.mirrored.mirrored.frames, plain.frames)


def random_hash(num_frames: int, step_seconds: float, seed: int = 0) -> VideoHash:
    pictures = torch.randint(0, 256, (num_frames, 3, 32, 32), generator=torch.manual_seed(seed))
    frames, is_flat = hash_frames(pictures.byte())
    return VideoHash(step_seconds=step_seconds, frames=frames, is_flat=is_flat)


def test_the_shift_in_time_and_the_step_do_not_matter() -> None:
    video = random_hash(60, 0.25)
    later = VideoHash(step_seconds=0.25, frames=video.frames[23:], is_flat=video.is_flat[23:])
    assert distance(video, later) == distance(later, video) == 0.0
    assert distance(video, video.every(4, 1)) == distance(video.every(4, 1), video) == 0.0
    assert distance(video, random_hash(60, 0.25, seed=1)) > 0.4


def test_too_little_to_compare_is_no_match() -> None:
    video = random_hash(60, 0.25)
    for first, last in ((0, 2), (58, 60)):
        scrap = VideoHash(
            step_seconds=0.25, frames=video.frames[first:last], is_flat=video.is_flat[first:last]
        )
        assert distance(video, scrap) == 1.0
    black = VideoHash(step_seconds=0.25, frames=video.frames, is_flat=np.ones(60, dtype=np.bool_))
    assert distance(black, black) == 1.0
    index = VideoHashIndex()
    assert index.find(video) == []
    index.add("black", black)
    assert index.find(black) == []
    gray = torch.full((2, 3, 48, 64), 90, dtype=torch.uint8)
    assert hash_frames(gray)[1].all()


def test_spans_and_long_videos(videos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = hash_video(str(videos[0]))
    assert (whole.step_seconds, len(whole.frames)) == (0.25, 24)
    part = hash_video(str(videos[0]), 1.0, 3.5)
    assert len(part.frames) == 10
    assert distance(whole, part) < 0.02
    monkeypatch.setattr(perceptual_hash, "MAX_FRAMES", 8)  # 24 steps are now too many, and 12
    coarse = hash_video(str(videos[0]))
    assert (coarse.step_seconds, len(coarse.frames)) == (1.0, 6)
    assert distance(whole, coarse) < 0.1
