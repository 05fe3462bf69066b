"""A video is the same in whatever form it is handed over."""

import numpy as np
import pytest
import torch
from PIL import Image

from vidreason.video.given import as_media
from vidreason.video.reader import VideoReader


@pytest.fixture
def frames():
    return np.random.default_rng(0).integers(0, 256, (7, 34, 50, 3), dtype=np.uint8)


def read(media):
    reader = VideoReader(timeout_seconds=None)
    index = reader.index(media)
    pictures = reader.read_frames(index, list(range(len(index.timestamps))))
    return pictures.permute(0, 2, 3, 1).numpy(), index


@pytest.mark.parametrize("fps", [8, 29.97, 0.5])
def test_frames_in_memory_are_read_back_bit_by_bit(frames, fps, tmp_path):
    pictures, index = read(as_media(frames, tmp_path, fps))
    assert np.array_equal(pictures, frames)
    assert index.timestamps == pytest.approx(np.arange(7) / fps, abs=1.1e-3)
    assert index.duration_seconds == pytest.approx(7 / fps, abs=2e-3)


def test_all_forms_of_frames_are_one_file(frames, tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(7)]
    for path, frame in zip(paths, frames, strict=True):
        Image.fromarray(frame).save(path)
    forms = (
        frames,
        torch.from_numpy(frames),
        torch.from_numpy(frames).permute(0, 3, 1, 2),
        paths,
        tuple(map(str, paths)),
    )
    assert len({as_media(form, tmp_path, 4) for form in forms}) == 1
    assert as_media(frames, tmp_path, 4) != as_media(frames, tmp_path, 5)
    assert as_media(frames, tmp_path, 4) != as_media(frames[:6], tmp_path, 4)


def test_files_addresses_and_bytes(tmp_path, frames):
    assert as_media(tmp_path / "a.mp4", tmp_path) == str(tmp_path / "a.mp4")
    assert as_media("https://example.org/a.mp4", tmp_path) == "https://example.org/a.mp4"
    content = (tmp_path / as_media(frames, tmp_path, 4)).read_bytes()
    copies = [as_media(content, tmp_path) for _ in range(2)]
    assert copies[0] == copies[1]
    assert np.array_equal(read(copies[0])[0], frames)


def test_what_is_no_video_is_said_in_words(frames, tmp_path):
    Image.fromarray(frames[0]).save(tmp_path / "a.png")
    Image.fromarray(frames[0, :20]).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"no picture")
    for video, fps, message in (
        (frames, None, "give their rate"),
        (frames, 0, "found 0"),
        (frames, float("nan"), "found nan"),
        ("a.mp4", 4, "a file tells its own times"),
        (b"abc", 4, "a file tells its own times"),
        (frames.astype(np.float32), 4, r"uint8; found shape \(7, 34, 50, 3\), float32"),
        (frames[0], 4, r"found shape \(34, 50, 3\)"),
        (frames[:0], 4, "at least one frame"),
        ([], 4, "at least one frame"),
        (5, None, "found int"),
        ([5], 4, "a list holds paths of picture files; found int"),
        ([tmp_path / "a.png", tmp_path / "b.png"], 4, "is 50 x 20, the first one 50 x 34"),
        ([tmp_path / "c.png"], 4, "cannot be read"),
        ([tmp_path / "absent.png"], 4, "cannot be read"),
    ):
        with pytest.raises(ValueError, match=message):
            as_media(video, tmp_path, fps)
