"""Planted copies are found, and different videos are told apart, on microworld videos."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

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

NUM_VIDEOS, NUM_COPIED = 24, 3
COPIES = {
    "re-encoded": {"crf": 36},
    "at half size": {"scale": 0.5, "crf": 30},
    "mirrored": {"mirrored": True, "crf": 30},
    "trimmed": {"first": 0.1, "last": 0.83, "crf": 28},
    "trimmed and mirrored": {"first": 0.15, "mirrored": True, "crf": 30},
    "darker": {"gamma": 1.4},
    "at another frame rate": {"rate": 5, "crf": 28},
}


def write_copy(
    source: Path,
    target: Path,
    *,
    first: float = 0.0,
    last: float = 1.0,
    mirrored: bool = False,
    scale: float = 1.0,
    gamma: float = 1.0,
    rate: int | None = None,
    crf: int = 18,
) -> Path:
    """Write what somebody else's copy of ``source`` may be."""
    with av.open(str(source)) as container:
        own_rate = int(container.streams.video[0].average_rate)
        pictures = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    pictures = pictures[round(first * len(pictures)) : round(last * len(pictures))]
    rate = rate or own_rate
    shown = [pictures[k * own_rate // rate] for k in range(len(pictures) * rate // own_rate)]
    height, width = (int(size * scale) for size in shown[0].shape[:2])
    with av.open(str(target), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(rate))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": str(crf), "preset": "ultrafast", "threads": "1"}
        for picture in shown:
            changed = 255 * (picture / 255) ** gamma
            changed = np.ascontiguousarray((changed[:, ::-1] if mirrored else changed).astype("u1"))
            frame = av.VideoFrame.from_ndarray(changed, format="rgb24").reformat(width, height)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return target


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
            found = index.find(hash_video(str(copy)))
            assert [name for name, _ in found] == [path.name], kind


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
    frames = np.random.default_rng(seed).integers(0, 2**63, num_frames, dtype=np.uint64)
    is_flat = np.zeros(num_frames, dtype=np.bool_)
    return VideoHash(step_seconds=step_seconds, frames=frames << np.uint64(1), is_flat=is_flat)


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
    assert distance(whole, coarse) < 0.05
