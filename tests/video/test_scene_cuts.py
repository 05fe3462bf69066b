"""Cuts between drawn shots are found where they are; pans, fades, flashes and motion are none."""

from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from vidreason.video.reader import DIRECT
from vidreason.video.scene_cuts import LOOKS_PER_SECOND, find_scene_cuts

WIDTH, HEIGHT, RATE = 96, 54, 24
Pictures = Iterator[np.ndarray]


def landscape(seed: int, width: int = WIDTH) -> np.ndarray:
    """A picture (H, W, 3) of smooth spots, of other colours for each seed."""
    generator = np.random.default_rng(seed)
    picture = generator.random((HEIGHT, width, 3))
    for axis in (0, 1):
        for _ in range(3):
            picture = sum(np.roll(picture, shift, axis) for shift in range(-3, 4)) / 7
    picture = (picture - picture.mean(axis=(0, 1))) / picture.std(axis=(0, 1))
    return np.clip(generator.uniform(0.3, 0.7, 3) + 0.16 * picture, 0, 1) * 255


def shot(seed: int, num_frames: int, speed: float = 0) -> Pictures:
    """The camera stands, or moves by ``speed`` pixels a frame."""
    wide = landscape(seed, WIDTH + round(speed * num_frames))
    for number in range(num_frames):
        left = round(speed * number)
        yield wide[:, left : left + WIDTH]


def fade(num_frames: int) -> Pictures:
    """One shot becomes black, then another one comes."""
    yield from shot(1, 30)
    for number in range(num_frames):
        yield landscape(1) * (1 - number / num_frames)
    for number in range(num_frames):
        yield landscape(2) * (number / num_frames)
    yield from shot(2, 30)


def dissolve() -> Pictures:
    yield from shot(1, 30)
    for number in range(24):
        yield landscape(1) * (1 - number / 24) + landscape(2) * (number / 24)
    yield from shot(2, 30)


def flashes() -> Pictures:
    """The light of a camera twice, and one black frame."""
    for number, picture in enumerate(shot(3, 100, speed=0.3)):
        if number in (30, 31, 32, 60, 61):
            yield picture * 0.1 + 230
        else:
            yield picture * 0 if number == 80 else picture


def moving_object() -> Pictures:
    """A bright box of half the picture's height crosses it in a second."""
    for number in range(72):
        picture = landscape(4).copy()
        left = number * 4 - 60
        picture[10:40, max(left, 0) : max(left + 50, 0)] = (250, 240, 20)
        yield picture


def standing_then_panning() -> Pictures:
    """The camera begins to move by twice the picture's width a second."""
    wide = landscape(5, WIDTH + 8 * 40)
    for number in range(70):
        left = 8 * max(number - 30, 0)
        yield wide[:, left : left + WIDTH]


def darkening() -> Pictures:
    for number, picture in enumerate(shot(6, 70)):
        yield picture * (0.5 if number >= 35 else 1)


def write(path: Path, pictures: Pictures) -> Path:
    generator = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"crf": "23", "preset": "ultrafast", "threads": "1"}
        for picture in pictures:
            noisy = np.clip(picture + generator.normal(0, 3, picture.shape), 0, 255)
            frame = av.VideoFrame.from_ndarray(noisy.astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("lengths", "speed"), [((40, 50, 37), 0), ((60, 45, 60), 0.8), ((300, 61, 440), 0.3)]
)
def test_cuts_are_located_to_a_step(lengths: tuple[int, ...], speed: float, tmp_path: Path) -> None:
    """Also those beside the pieces that the video is decoded in."""
    shots = (shot(10 + n, length, speed) for n, length in enumerate(lengths))
    path = write(tmp_path / "v.mp4", (picture for one in shots for picture in one))
    cuts = find_scene_cuts(DIRECT.index(str(path)), reader=DIRECT)
    true = np.cumsum(lengths)[:-1] / RATE
    assert len(cuts) == len(true)
    for cut, moment in zip(cuts, true, strict=True):
        assert cut.last_before_seconds < moment <= cut.first_after_seconds + 1e-6
        step = cut.first_after_seconds - cut.last_before_seconds
        assert step <= 1 / LOOKS_PER_SECOND + 1 / RATE


def test_a_span_has_only_its_cuts(tmp_path: Path) -> None:
    shots = [picture for n in range(4) for picture in shot(20 + n, 48)]
    index = DIRECT.index(str(write(tmp_path / "v.mp4", iter(shots))))
    (cut,) = find_scene_cuts(index, 2.5, 5.5, reader=DIRECT)
    assert cut.last_before_seconds < 4 <= cut.first_after_seconds
    # A span may begin and end at a cut, or be too short for any.
    assert find_scene_cuts(index, 2.0, 4.0, reader=DIRECT) == []
    assert find_scene_cuts(index, 3.95, 4.0, reader=DIRECT) == []


@pytest.mark.parametrize(
    "draw",
    [
        lambda: shot(7, 72, speed=0.5),
        lambda: shot(8, 72, speed=4),
        standing_then_panning,
        lambda: fade(24),
        lambda: fade(48),
        dissolve,
        flashes,
        moving_object,
        darkening,
        lambda: iter([np.zeros((HEIGHT, WIDTH, 3))] * 48),
    ],
)
def test_what_is_no_cut(draw: Callable[[], Pictures], tmp_path: Path) -> None:
    path = write(tmp_path / "v.mp4", draw())
    assert find_scene_cuts(DIRECT.index(str(path)), reader=DIRECT) == []


def test_files_whose_frames_are_counted(tmp_path: Path) -> None:
    shots = [picture for n in range(2) for picture in shot(30 + n, 40)]
    index = DIRECT.index(str(write(tmp_path / "v.avi", iter(shots))))
    assert index.packets is None
    (cut,) = find_scene_cuts(index, reader=DIRECT)
    assert cut.last_before_seconds < 40 / RATE <= cut.first_after_seconds
