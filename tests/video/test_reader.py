"""Frames read are the frames written, whatever the codec, the order of asking and the container."""

import pickle
import random
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.stream import Disposition
from coded_video import (
    HEIGHT,
    VARIANTS,
    WIDTH,
    X264,
    copy_packets,
    decode_in_order,
    draw,
    number_of,
    write_video,
)

from vidreason.video.decoding import decode_frames, plan_runs
from vidreason.video.index import index_and_keep_open
from vidreason.video.reader import DIRECT

ASSETS = Path(__file__).parents[1] / "assets" / "videos"
REAL_VIDEOS = Path(__file__).parents[3] / "shared" / "data" / "videos"
"""More real videos lie beside some checkouts; they are not part of the repository."""

ORDERS = {
    "in order": list(range(40)),
    "backwards": list(reversed(range(40))),
    "sparse": [3, 38, 3, 17],
    "last": [39],
    "around key frames": [11, 12, 13, 23, 24, 25, 22],
    "shuffled": random.Random(0).sample(range(40), 40),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_frames_read_are_the_frames_written_in_any_order(variant: str, tmp_path: Path) -> None:
    name, codec, options, pixel_format = VARIANTS[variant]
    path = write_video(tmp_path / name, codec, options=options, pixel_format=pixel_format)
    truth = decode_in_order(path)

    index = DIRECT.index(str(path))

    assert (index.num_frames, index.width, index.height) == (40, WIDTH, HEIGHT)
    np.testing.assert_allclose(index.timestamps, np.arange(40) / 25, atol=1.1e-3)
    assert index.duration_seconds == pytest.approx(1.6, abs=2e-3)
    for order in ORDERS.values():
        frames = DIRECT.read_frames(index, order)
        assert [number_of(frame) for frame in frames] == order
        np.testing.assert_array_equal(frames.permute(0, 2, 3, 1).numpy(), truth[order])


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_video_kept_open_gives_the_same_frames(variant: str, tmp_path: Path) -> None:
    name, codec, options, pixel_format = VARIANTS[variant]
    path = write_video(tmp_path / name, codec, options=options, pixel_format=pixel_format)
    truth = decode_in_order(path)
    with index_and_keep_open(str(path)) as (index, video):
        assert (video is not None) == (name[-4:] in (".mp4", ".mkv", "webm"))
        for order in ORDERS.values():  # one after the other, wherever the last one left the file
            pictures = np.empty((len(order), HEIGHT, WIDTH, 3), dtype=np.uint8)
            decode_frames(index, order, pictures, video)
            np.testing.assert_array_equal(pictures, truth[order])


def test_each_single_frame_of_an_open_gop_is_exact(tmp_path: Path) -> None:
    """Leading pictures need the group before: asked for one by one, each starts its own run."""
    for name, codec in (("v.mp4", "libx265"), ("w.mkv", "libx264")):
        options = VARIANTS["h265-open-gop" if codec == "libx265" else "h264-open-gop"][2]
        path = write_video(tmp_path / name, codec, options=options)
        truth = decode_in_order(path)
        index = DIRECT.index(str(path))
        assert index.packets is not None
        keys = np.flatnonzero(index.packets.is_key)
        followers = index.packets.pts[keys[1:] + 1]
        assert (followers < index.packets.pts[keys[1:]]).any(), "the file has no leading pictures"
        for number in range(40):
            (frame,) = DIRECT.read_frames(index, [number])
            np.testing.assert_array_equal(frame.permute(1, 2, 0).numpy(), truth[number])


def test_no_packet_is_decoded_twice_and_groups_without_wanted_frames_are_left_out(
    tmp_path: Path,
) -> None:
    index = DIRECT.index(str(write_video(tmp_path / "v.mp4", options=X264)))
    assert index.packets is not None
    runs = plan_runs(index.packets, [30, 2, 1, 26, 39])

    assert [start for start, _ in runs] == [0, 24, 36]
    assert all(index.packets.is_key[start] for start, _ in runs)
    assert all(stop < start for (_, stop), (start, _) in pairwise(runs))
    assert runs[0][1] < 6


def test_variable_frame_rate(tmp_path: Path) -> None:
    steps = random.Random(1).choices([7, 20, 33, 100, 400], k=39)
    ticks = [0, *np.cumsum(steps).tolist()]
    for name in ("v.mp4", "v.mkv"):
        path = write_video(tmp_path / name, ticks=ticks, options=X264)
        index = DIRECT.index(str(path))
        np.testing.assert_allclose(index.timestamps, np.array(ticks) / 1000, atol=1e-4)

        between = [(a + b) / 2000 for a, b in pairwise(ticks)]
        frames = DIRECT.read_frames_at(index, between)
        assert [number_of(frame) for frame in frames] == list(range(39))
        assert number_of(DIRECT.read_frames_at(index, [ticks[-1] / 1000 + 1])[0]) == 39


def test_a_late_start_counts_from_the_first_frame(tmp_path: Path) -> None:
    source = write_video(tmp_path / "source.mkv", options=X264)
    for name in ("late.mkv", "late.ts", "late.mp4"):
        path = copy_packets(source, tmp_path / name, delay=5000)
        index = DIRECT.index(str(path))
        assert index.start_time_seconds >= 5
        assert index.timestamps[0] == 0
        assert index.duration_seconds == pytest.approx(1.6, abs=2e-3)
        frames = DIRECT.read_frames_at(index, [0.0, 0.5, 1.59])
        assert [number_of(frame) for frame in frames] == [0, 12, 39]


@pytest.mark.parametrize("name", ["cut.mkv", "cut.mp4"])
@pytest.mark.parametrize("variant", ["h264-open-gop-mkv", "h265-open-gop"])
def test_a_stream_cut_at_an_open_group_shows_what_a_player_shows(
    variant: str, name: str, tmp_path: Path
) -> None:
    """``ffmpeg -ss ... -c copy``: pictures that refer to what was cut off are never shown."""
    _, codec, options, _ = VARIANTS[variant]
    source = write_video(tmp_path / "source.mkv", codec, options=options)
    path = copy_packets(source, tmp_path / name, from_key_frame=1)
    truth = decode_in_order(path)
    index = DIRECT.index(str(path))

    assert index.num_frames == len(truth) == 28
    frames = DIRECT.read_frames(index, range(28))
    assert [number_of(frame) for frame in frames] == list(range(12, 40))
    np.testing.assert_array_equal(frames.permute(0, 2, 3, 1).numpy(), truth)


def test_a_broadcast_recorded_from_the_middle_of_a_group(tmp_path: Path) -> None:
    """Its first frame is the first key frame; what comes before it in the file cannot be shown."""
    options = {"g": "12", "bf": "0", "x264-params": "scenecut=0:repeat-headers=1"}
    source = write_video(tmp_path / "source.ts", options=options)
    path = tmp_path / "late.ts"
    with av.open(str(source)) as reader, av.open(str(path), "w") as writer:
        copy = writer.add_stream_from_template(reader.streams.video[0])
        for number, packet in enumerate(p for p in reader.demux(video=0) if p.size):
            if number >= 5:
                packet.stream = copy
                writer.mux(packet)

    index = DIRECT.index(str(path))
    assert index.num_frames == 28
    assert [number_of(f) for f in DIRECT.read_frames(index, [27, 0, 13])] == [39, 12, 25]


def test_edit_list_hides_the_frames_before_the_cut(tmp_path: Path) -> None:
    """The media time of the edit list is moved on by ten frames: they are decoded, not shown."""
    path = write_video(tmp_path / "v.mp4", options={"g": "40", "bf": "0"})
    data = bytearray(path.read_bytes())
    entry = data.index(b"elst") + 12
    media_time = int.from_bytes(data[entry + 4 : entry + 8], "big", signed=True)
    with av.open(str(path)) as container:
        ticks_a_frame = container.streams.video[0].duration // 40
    data[entry : entry + 4] = (30 * 40).to_bytes(4, "big")  # length in milliseconds
    data[entry + 4 : entry + 8] = (media_time + 10 * ticks_a_frame).to_bytes(4, "big")
    path.write_bytes(data)

    index = DIRECT.index(str(path))
    assert index.num_frames == 30
    assert [number_of(frame) for frame in DIRECT.read_frames(index, [29, 0, 7])] == [39, 10, 17]


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_frames_come_in_displayed_orientation(degrees: int, mirrored: bool, tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", num_frames=3, rotation=degrees, mirrored=mirrored)
    with av.open(str(path)) as container:
        matrix = next(container.decode(video=0)).side_data.get("DISPLAYMATRIX")
    a, b, _, c, d, *_ = (
        np.frombuffer(bytes(matrix), dtype="<i4") // 65536
        if matrix is not None
        else (1, 0, 0, 0, 1)
    )
    index = DIRECT.index(str(path))
    frames = DIRECT.read_frames(index, [0, 2])
    expected_size = (WIDTH, HEIGHT) if degrees % 180 == 0 else (HEIGHT, WIDTH)
    assert (index.width, index.height) == expected_size
    assert frames.shape == (2, 3, index.height, index.width)

    # Where the matrix sends each corner of the coded picture, the displayed picture has its colour.
    truth = decode_in_order(path)
    for row in (4, HEIGHT - 5):
        for column in (4, WIDTH - 5):
            x, y = column - (WIDTH - 1) / 2, row - (HEIGHT - 1) / 2
            shown_x = a * x + c * y + (index.width - 1) / 2
            shown_y = b * x + d * y + (index.height - 1) / 2
            pixel = frames[1, :, int(shown_y), int(shown_x)].tolist()
            assert pixel == truth[2, row, column].tolist()


def test_camera_that_writes_a_clockwise_quarter_turn(tmp_path: Path) -> None:
    """A phone held upright: the matrix bytes of the track header say 90 degrees clockwise."""
    path = write_video(tmp_path / "v.mp4", num_frames=3)
    data = path.read_bytes()
    upright = b"".join(v.to_bytes(4, "big") for v in (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30))
    turned = b"".join(
        (v & 0xFFFFFFFF).to_bytes(4, "big") for v in (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    )
    header = data.index(b"tkhd")
    offset = data.index(upright, header)
    path.write_bytes(data[:offset] + turned + data[offset + len(turned) :])

    index = DIRECT.index(str(path))
    (frame,) = DIRECT.read_frames(index, [2])
    assert (index.width, index.height, index.rotation_degrees) == (HEIGHT, WIDTH, 270)
    clockwise = np.rot90(decode_in_order(path)[2], k=-1)
    np.testing.assert_array_equal(frame.permute(1, 2, 0).numpy(), clockwise)


def test_audio_is_passed_over(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", options=X264, with_audio=True)
    index = DIRECT.index(str(path))
    assert [number_of(frame) for frame in DIRECT.read_frames(index, [39, 0, 20])] == [39, 0, 20]


@pytest.mark.parametrize(("default", "chosen"), [(None, (WIDTH, HEIGHT)), (2, (48, 32))])
def test_of_several_video_streams_the_default_or_else_the_largest_is_read(
    default: int | None, chosen: tuple[int, int], tmp_path: Path
) -> None:
    path = tmp_path / "several.mkv"
    sizes = [(32, 24), (WIDTH, HEIGHT), (48, 32)]
    with av.open(str(path), "w", options={"default_mode": "passthrough"}) as container:
        streams = [container.add_stream("libx264", rate=25) for _ in sizes]
        for number, (stream, (width, height)) in enumerate(zip(streams, sizes, strict=True)):
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.disposition = Disposition.default if number == default else Disposition(0)
        for number in range(10):
            for stream, (width, height) in zip(streams, sizes, strict=True):
                picture = av.VideoFrame.from_ndarray(draw(number, width, height), format="rgb24")
                picture.pts = number
                container.mux(stream.encode(picture))
        for stream in streams:
            container.mux(stream.encode(None))

    index = DIRECT.index(str(path))
    assert (index.width, index.height, index.num_frames) == (*chosen, 10)
    truth = decode_in_order(path, sizes.index(chosen))
    frames = DIRECT.read_frames(index, [9, 4]).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(frames, truth[[9, 4]])


def test_hidden_vp8_packets_are_no_frames(tmp_path: Path) -> None:
    """The bit that says "shown" is cleared in one packet: a player shows one frame less."""
    source = write_video(tmp_path / "source.webm", "libvpx", options={"g": "40"})
    path = tmp_path / "hidden.webm"
    with av.open(str(source)) as reader, av.open(str(path), "w") as writer:
        copy = writer.add_stream_from_template(reader.streams.video[0])
        for number, packet in enumerate(p for p in reader.demux(video=0) if p.size):
            data = bytearray(bytes(packet))
            if number == 7:
                data[0] &= ~0x10
            changed = av.Packet(bytes(data))
            changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
            changed.is_keyframe = packet.is_keyframe
            changed.stream = copy
            writer.mux(changed)

    truth = decode_in_order(path)
    index = DIRECT.index(str(path))
    assert index.num_frames == len(truth) == 39
    np.testing.assert_array_equal(
        DIRECT.read_frames(index, range(39)).permute(0, 2, 3, 1).numpy(), truth
    )


def test_names_and_tags_that_libav_stumbles_over(tmp_path: Path) -> None:
    """A colon is not a protocol, and a tag in another encoding is no reason to refuse a video."""
    path = write_video(tmp_path / "10:30 50% \u00e9t\u00e9.mkv", num_frames=3)
    data = path.read_bytes()
    assert data.count(b"Lavf") >= 1
    path.write_bytes(data.replace(b"Lavf", b"La\xe9\xff"))
    assert DIRECT.index(str(path)).num_frames == 3


def test_an_index_survives_pickling_and_no_frames_is_an_empty_batch(tmp_path: Path) -> None:
    index = DIRECT.index(str(write_video(tmp_path / "v.mp4", num_frames=5)))
    copy = pickle.loads(pickle.dumps(index))
    assert number_of(DIRECT.read_frames(copy, [3])[0]) == 3
    empty = DIRECT.read_frames(index, [])
    assert empty.shape == (0, 3, HEIGHT, WIDTH)
    assert empty.dtype == torch.uint8


def test_a_frame_out_of_range_is_an_error_of_the_caller(tmp_path: Path) -> None:
    index = DIRECT.index(str(write_video(tmp_path / "v.mp4", num_frames=5)))
    for number in (-1, 5):
        with pytest.raises(ValueError, match=rf"{number} is out of range.*is 4"):
            DIRECT.read_frames(index, [0, number])


@pytest.mark.parametrize(
    ("name", "num_frames", "size"),
    [
        ("av1_video.mkv", 125, (640, 360)),
        ("h265_video.mp4", 10, (128, 128)),
        ("h264_10bits.mp4", 30, (200, 200)),
    ],
)
def test_real_videos_of_the_assets(name: str, num_frames: int, size: tuple[int, int]) -> None:
    _assert_equal_to_sequential_decoding(ASSETS / name, num_frames, size, stream_index=0)


@pytest.mark.parametrize(
    ("name", "num_frames", "size", "stream_index"),
    [("nasa_13013.mp4", 390, (480, 270), 3), ("bt709_full_range.mp4", 30, (1280, 720), 0)],
)
def test_real_videos_beside_the_checkout(
    name: str, num_frames: int, size: tuple[int, int], stream_index: int
) -> None:
    path = REAL_VIDEOS / name
    if not path.exists():
        pytest.skip(f"the further real video {name} is not beside this checkout")
    _assert_equal_to_sequential_decoding(path, num_frames, size, stream_index=stream_index)


def _assert_equal_to_sequential_decoding(
    path: Path, num_frames: int, size: tuple[int, int], *, stream_index: int
) -> None:
    truth = decode_in_order(path, stream_index)
    index = DIRECT.index(str(path))
    assert index.num_frames == len(truth) == num_frames
    assert (index.width, index.height) == size
    order = random.Random(2).sample(range(num_frames), min(num_frames, 24))
    for wanted in (order, order[:3], [num_frames - 1]):
        frames = DIRECT.read_frames(index, wanted).permute(0, 2, 3, 1).numpy()
        np.testing.assert_array_equal(frames, truth[wanted])
