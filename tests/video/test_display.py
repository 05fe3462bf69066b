"""Displayed pictures are read: turned as EXIF says, of square pixels, of bounded size."""

import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from coded_video import HEIGHT, WIDTH, draw, write_video
from PIL import Image, ImageOps

from vidreason.video.display import (
    Orientation,
    check_num_pixels,
    displayed_size,
    limited_size,
)
from vidreason.video.reader import DIRECT, GUARDED, VideoReader, VideoReadError
from vidreason.video.transforms import FrameTransform

CASES = Path(__file__).parents[1] / "assets" / "cases"
ORIENTATION = 0x0112  # the EXIF tag


def write_image(path: Path, orientation: int) -> Path:
    """An image of a corner-marked picture, coded as a camera does that was held otherwise."""
    picture = np.full((48, 64, 3), 90, dtype=np.uint8)
    picture[:16, :16], picture[:16, -16:], picture[-16:, :16] = (250, 0, 0), (0, 250, 0), 250
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    exif[0x010F] = "Camera & Sons"
    Image.fromarray(picture).save(path, exif=exif, lossless=True, quality=95)
    return path


def upright(path: Path) -> np.ndarray:
    """Pillow's upright picture of an image."""
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB")).astype(int)


def difference(frame: torch.Tensor, expected: np.ndarray) -> float:
    """Mean difference of a frame ``(3, H, W)`` and a picture, each averaged over 8 x 8 pixels.

    Programs double the chroma samples of a JPEG in different ways.
    """
    apart = frame.float() - torch.tensor(expected.copy()).permute(2, 0, 1)
    return float(torch.nn.functional.avg_pool2d(apart, 8).abs().mean())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
def test_images_are_turned_as_exif_says(suffix: str, orientation: int, tmp_path: Path) -> None:
    path = write_image(tmp_path / f"image.{suffix}", orientation)
    index = DIRECT.index(str(path))
    (frame,) = DIRECT.read_frames(index, [0])
    expected = upright(path)
    assert (index.num_frames, index.height, index.width) == (1, *expected.shape[:2])
    assert difference(frame, expected) < 4


@pytest.mark.parametrize("orientation", [1, 5, 6])
@pytest.mark.parametrize("suffix", ["avi", "mov", "mkv"])
def test_motion_jpeg_with_exif_in_each_picture(
    suffix: str, orientation: int, tmp_path: Path
) -> None:
    image = write_image(tmp_path / "image.jpg", orientation)
    path = tmp_path / f"v.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for number in range(5):
            packet = av.Packet(image.read_bytes())
            packet.pts = packet.dts = number
            packet.time_base = Fraction(1, 25)
            packet.is_keyframe = True
            packet.stream = stream
            container.mux(packet)
    index = DIRECT.index(str(path))
    expected = upright(image)
    assert (index.num_frames, index.height, index.width) == (5, *expected.shape[:2])
    for frame in DIRECT.read_frames(index, [4, 0]):
        assert difference(frame, expected) < 4


@pytest.mark.parametrize(("name", "size"), [("exif6.jpg", (64, 96)), ("exif1.png", (96, 64))])
def test_exif_of_the_cases(name: str, size: tuple[int, int]) -> None:
    index = GUARDED.index(str(CASES / name))
    assert (index.width, index.height, index.num_frames) == (*size, 1)
    frames = GUARDED.read_frames(index, [0])
    assert difference(frames[0], upright(CASES / name)) < 4


def test_pixels_that_are_not_square_are_scaled(tmp_path: Path) -> None:
    wide = DIRECT.index(str(CASES / "pixels_2_to_1.mp4"))
    square = DIRECT.index(str(CASES / "pixels_square.mp4"))
    assert (wide.width, wide.height) == (square.width, square.height)
    expected = DIRECT.read_frames(square, [0])[0].permute(1, 2, 0).numpy()
    assert difference(DIRECT.read_frames(wide, [0])[0], expected) < 4
    # A square of the scene is one for an encoder that cuts the centre out.
    crop = FrameTransform(size=60, short_side=60)
    boxes = []
    for index in (wide, square):
        gray = crop.resize(DIRECT.read_frames(index, [0]))[0].mean(0)
        shown = (gray - gray.median()).abs() > 40
        boxes.append((int(shown.any(0).sum()), int(shown.any(1).sum())))
    assert abs(boxes[0][0] - boxes[0][1]) <= 3, boxes
    assert max(abs(one - other) for one, other in zip(*boxes, strict=True)) <= 3


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi"])
@pytest.mark.parametrize(
    ("aspect", "rotation", "size"),
    [
        (Fraction(2, 1), 0, (128, 48)),
        (Fraction(8, 9), 0, (57, 48)),
        (Fraction(1, 2), 90, (48, 32)),
        (Fraction(1, 1), 0, (64, 48)),
    ],
)
def test_pixel_aspects_of_containers_and_codecs(
    suffix: str, aspect: Fraction, rotation: int, size: tuple[int, int], tmp_path: Path
) -> None:
    """In AVI and MPEG-TS only the codec's own headers tell it."""
    path = write_video(
        tmp_path / f"v.{suffix}", num_frames=10, rotation=rotation or None, pixel_aspect=aspect
    )
    index = DIRECT.index(str(path))
    picture = draw(2)
    if rotation and suffix in ("ts", "avi"):  # these tell no rotation
        size = size[::-1]
    elif rotation:
        picture = np.rot90(picture)
    assert (index.width, index.height) == size
    frames = DIRECT.read_frames(index, [2, 0])
    assert frames.shape == (2, 3, size[1], size[0])
    scaled = np.asarray(Image.fromarray(picture).resize(size)).astype(int)
    assert difference(frames[0], scaled) < 12


def test_sizes_are_pure_arithmetic() -> None:
    upright, turned = Orientation(), Orientation(quarter_turns=3)
    assert displayed_size(720, 576, Fraction(16, 15), upright) == (768, 576)
    assert displayed_size(720, 480, Fraction(8, 9), turned) == (480, 640)
    assert displayed_size(1, 1, Fraction(1, 3), upright) == (1, 1)
    for nonsense in (None, Fraction(0), Fraction(1, 1000), Fraction(65535)):
        assert displayed_size(64, 48, nonsense, upright) == (64, 48)
    assert limited_size(7680, 4320, 1280) == (1280, 720)
    assert limited_size(1080, 1920, 1280) == (720, 1280)
    assert limited_size(1280, 720, 1280) == limited_size(1280, 720, None) == (1280, 720)
    assert limited_size(5000, 1, 100) == (100, 1)
    check_num_pixels("v.mp4", 8192, 8192)
    with pytest.raises(VideoReadError, match="8193 x 8192 pixels, and at most 67,108,864"):
        check_num_pixels("v.mp4", 8193, 8192)


def test_frames_are_scaled_as_they_are_decoded(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", num_frames=6, rotation=90)
    index = DIRECT.index(str(path))
    full = DIRECT.read_frames(index, range(6))
    for limit in (None, 30):
        small = VideoReader(limit).read_frames(index, [5, 0, 5], max_side=32)
        assert small.shape == (3, 3, 32, 24)
        # Halved along both axes: nearly the mean of four pixels.
        means = full[[5, 0, 5]].float().unflatten(3, (24, 2)).unflatten(2, (32, 2)).mean((3, 5))
        assert (small - means).abs().mean() < 4
    assert DIRECT.read_frames(index, [1], max_side=64).equal(full[[1]])
    assert GUARDED.read_frames(index, [1], max_side=64).equal(full[[1]])


def test_all_kinds_of_pixels_become_rgb(tmp_path: Path) -> None:
    truth = draw(5, 62, 46)
    for name, codec, pixel_format in (
        ("gray.mkv", "ffv1", "gray"),
        ("alpha.mkv", "ffv1", "bgra"),
        ("ten.mkv", "ffv1", "yuv444p10le"),
        ("sixteen.mkv", "ffv1", "rgb48le"),
        ("palette.gif", "gif", "rgb8"),
        ("picture.apng", "apng", "rgba"),
    ):
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = 62, 46, pixel_format
            for number in (4, 5):
                frame = av.VideoFrame.from_ndarray(draw(number, 62, 46), format="rgb24")
                container.mux(stream.encode(frame.reformat(format=pixel_format)))
            container.mux(stream.encode(None))
        index = DIRECT.index(str(path))
        assert (index.num_frames, index.width, index.height) == (2, 62, 46), name
        apart = difference(DIRECT.read_frames(index, [1])[0], truth)
        assert apart < (40 if name.startswith("gray") else 30), name


@pytest.mark.parametrize(
    "size", [(16000, 16000), (2**31 - 1, 2**31 - 1), (8193, 8192), (60000, 2000)]
)
def test_a_small_image_that_claims_too_many_pixels(size: tuple[int, int], tmp_path: Path) -> None:
    data = write_image(tmp_path / "image.png", 1).read_bytes()
    start = data.index(b"IHDR")
    header = b"IHDR" + b"".join(side.to_bytes(4, "big") for side in size) + data[start + 12 :][:5]
    changed = data[:start] + header + zlib.crc32(header).to_bytes(4, "big") + data[start + 21 :]
    path = tmp_path / "large.png"
    path.write_bytes(changed)
    with pytest.raises(VideoReadError, match="at most 67,108,864") as caught:
        DIRECT.index(str(path))
    assert caught.value.cause == "unsupported"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(VideoReadError, match="no frame can be decoded") as caught:
        DIRECT.index(str(path))
    assert caught.value.cause == "decode-error"


def test_a_small_video_that_claims_too_many_pixels(tmp_path: Path) -> None:
    """Said by its container, and by each picture's own header, which has the last word."""
    for patched, cause in (((b"stsd", b"\xff\xc0"), "unsupported"), ((b"stsd",), None)):
        path = write_video(tmp_path / "v.mov", "mjpeg", num_frames=3, pixel_format="yuvj420p")
        data = bytearray(path.read_bytes())
        for mark in patched:
            sides = (WIDTH, HEIGHT) if mark == b"stsd" else (HEIGHT, WIDTH)
            size = b"".join(side.to_bytes(2, "big") for side in sides)
            offset = data.index(mark)
            while offset >= 0:
                start = data.index(size, offset)
                data[start : start + 4] = (16000).to_bytes(2, "big") * 2
                offset = data.find(mark, start)
        path.write_bytes(data)
        if cause is None:
            assert DIRECT.index(str(path)).height == HEIGHT
            continue
        with pytest.raises(VideoReadError, match=r"67,108,864|no frame can be decoded") as caught:
            DIRECT.index(str(path))
        assert caught.value.cause == cause
