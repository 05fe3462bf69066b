"""Times of frames: the file's own times and clock, also where they are odd."""

import dataclasses
import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from coded_video import (
    X264,
    copy_packets,
    decode_in_order,
    number_of,
    write_video,
)

from vidreason.video import reader
from vidreason.video.clock import fill_in
from vidreason.video.container import demux, open_video
from vidreason.video.reader import DIRECT, VideoReadError

CASES = Path(__file__).parents[1] / "assets" / "cases"


def retimed(source: Path, target: Path, pts: list[int]) -> Path:
    """The packets of a Matroska file with other times, in ms, written in place."""
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        packets = [
            (bytes(packet), packet.pts) for packet in container.demux(video=0) if packet.size
        ]
    offset = 0
    for (content, old), new in zip(packets, pts, strict=True):
        offset = data.index(content[:40], offset)
        # Before the content: the time relative to the cluster's, two bytes, and the flags.
        relative = int.from_bytes(data[offset - 3 : offset - 1], "big", signed=True) + new - old
        data[offset - 3 : offset - 1] = relative.to_bytes(2, "big", signed=True)
    target.write_bytes(data)
    return target


def test_one_repeated_time_changes_no_other() -> None:
    repeated = DIRECT.index(str(CASES / "one_repeated_timestamp.mkv"))
    other = DIRECT.index(str(CASES / "no_repeated_timestamp.mkv"))
    assert repeated.duration_seconds == other.duration_seconds == pytest.approx(10.1)
    np.testing.assert_allclose(repeated.timestamps, other.timestamps, atol=1e-3)
    assert (np.diff(repeated.timestamps) > 0).all()
    assert [remark.kind for remark in repeated.remarks] == ["times-filled-in"]
    assert repeated.remarks[0].detail.startswith("1 of its 10 frames")
    assert other.remarks == ()
    times = np.linspace(0, 10, 30)
    assert DIRECT.read_frames_at(repeated, times).equal(DIRECT.read_frames_at(other, times))


@pytest.mark.parametrize(
    ("pts", "expected"),
    [
        ([0, 40, 80, 80, 160], [0, 40, 80, 80.5, 160]),
        ([0, 0, 0, 120, 160], [0, 1 / 3, 2 / 3, 120, 160]),
        ([0, 40, 80, 120, 120], [0, 40, 80, 120, 120.5]),
        ([0, 5000, 80, 120, 160], [0, 40, 80, 120, 160]),
    ],
)
def test_odd_times_of_single_frames(pts: list[int], expected: list[float], tmp_path: Path) -> None:
    source = write_video(tmp_path / "s.mkv", num_frames=5, options={"g": "12", "bf": "0"})
    path = retimed(source, tmp_path / "v.mkv", pts)
    index = DIRECT.index(str(path))
    np.testing.assert_allclose(index.timestamps * 1000, expected, atol=1e-9)
    assert [number_of(frame) for frame in DIRECT.read_frames(index, [4, 0, 3, 1, 2])] == [
        4,
        0,
        3,
        1,
        2,
    ]
    assert [remark.kind for remark in index.remarks] == ["times-filled-in"]


def test_frames_are_shown_in_the_order_of_their_times(tmp_path: Path) -> None:
    source = write_video(tmp_path / "s.mkv", num_frames=5, options={"g": "12", "bf": "0"})
    index = DIRECT.index(str(retimed(source, tmp_path / "v.mkv", [0, 40, 80, 60, 160])))
    np.testing.assert_allclose(index.timestamps * 1000, [0, 40, 60, 80, 160], atol=1e-9)
    assert [number_of(frame) for frame in DIRECT.read_frames(index, range(5))] == [0, 1, 3, 2, 4]


def test_more_frames_a_second_than_the_clock_has_ticks(tmp_path: Path) -> None:
    """2000 frames a second in Matroska, whose clock ticks once a millisecond."""
    path = tmp_path / "fast.mkv"
    source = write_video(tmp_path / "s.mkv", options={"g": "12", "bf": "0"})
    with av.open(str(source)) as reading, av.open(str(path), "w") as writing:
        copy = writing.add_stream_from_template(reading.streams.video[0])
        for number, packet in enumerate(p for p in reading.demux(video=0) if p.size):
            packet.pts = packet.dts = number // 2
            packet.duration = 0
            packet.stream = copy
            writing.mux(packet)
    index = DIRECT.index(str(path))
    np.testing.assert_allclose(index.timestamps, np.arange(40) / 2000, atol=1e-9)
    assert index.duration_seconds < 0.1
    assert number_of(DIRECT.read_frames_at(index, [0.0126])[0]) == 25
    assert index.remarks[0].detail.startswith("20 of its 40 frames")


def test_frames_with_b_frames_and_a_repeated_time(tmp_path: Path) -> None:
    source = write_video(tmp_path / "s.mkv", options=X264)
    with av.open(str(source)) as container:
        pts = [packet.pts for packet in container.demux(video=0) if packet.size]
    pts[pts.index(440)] = 400
    path = retimed(source, tmp_path / "v.mkv", pts)
    index = DIRECT.index(str(path))
    expected = np.arange(40) / 25
    expected[11] = expected[10] + 0.0005
    np.testing.assert_allclose(index.timestamps, expected, atol=1e-9)
    frames = DIRECT.read_frames(index, range(40)).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(frames, decode_in_order(path))


def test_what_fills_in_times() -> None:
    step = Fraction(3)
    times, remark = fill_in([5, 6, 9], step)
    assert (times.tolist(), remark) == ([5, 6, 9], None)
    for ticks, expected in (
        ([None, 4, None, 8, None], [2, 4, 6, 8, 10]),
        ([7], [7]),
        ([7, 7], [7, 7.5]),
        ([7, 7, None, 10], [7, 7.5, 8.75, 10]),
        ([None, 7], [4, 7]),
        ([0, 1, 2, 3, 100, 5, 6], [0, 1, 2, 3, 4, 5, 6]),
        ([50, 1, 2, 3], [0, 1, 2, 3]),
    ):
        times, remark = fill_in(ticks, step)
        assert times.tolist() == expected
        assert (remark is None) == (len(ticks) == 1)
        assert (np.diff(times) > 0).all()
    times, remark = fill_in([None, None, None], step)
    assert times.tolist() == [0, 3, 6]
    assert remark is not None
    assert remark.kind == "no-times"


def test_files_without_times_say_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_remarked", set())
    paths = [write_video(tmp_path / name, num_frames=4) for name in ("a.h264", "b.h264", "c.mp4")]
    with caplog.at_level(logging.WARNING):
        indices = [DIRECT.index(str(path)) for path in paths]
    assert [[remark.kind for remark in index.remarks] for index in indices] == [
        ["no-times"],
        ["no-times"],
        [],
    ]
    (record,) = caplog.records
    assert "a.h264" in record.getMessage()
    assert "evenly spaced" in record.getMessage()


def test_times_are_on_the_clock_of_the_file() -> None:
    index = DIRECT.index(str(CASES / "picture_starts_after_sound.mp4"))
    assert index.timestamps[0] == pytest.approx(2.0)
    assert index.duration_seconds == pytest.approx(8.0)
    assert index.remarks == ()
    frames = DIRECT.read_frames_at(index, [5.0, 0.0, 7.95])
    assert frames.equal(DIRECT.read_frames(index, [30, 0, 59]))
    index.span(6.5, 7.0)
    index.span(0.0, 2.5)
    index.span()
    with pytest.raises(VideoReadError, match=r"its picture begins at 2\.00 s, after") as e:
        index.span(0.5, 1.5)
    assert e.value.cause == "span-outside"


def write_with_sound(path: Path, picture_ms: int, sound_ms: int) -> Path:
    """25 frames and a second of sound that begin at these times on the container's clock."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        sound = container.add_stream("mp2", rate=16000, layout="mono")
        black = np.concatenate([np.full((48, 64), 16, np.uint8), np.full((24, 64), 128, np.uint8)])
        packets = []
        for number in range(25):
            frame = av.VideoFrame.from_ndarray(black, "yuv420p")
            frame.pts, frame.time_base = picture_ms + 40 * number, Fraction(1, 1000)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        for number in range(28):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 576), np.int16), "s16", "mono")
            silence.sample_rate, silence.time_base = 16000, Fraction(1, 16000)
            silence.pts = sound_ms * 16 + 576 * number
            packets += sound.encode(silence)
        packets += sound.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "ts", "mpg"])
@pytest.mark.parametrize(
    ("picture_ms", "sound_ms", "offset"),
    [(0, 0, 0.0), (2000, 0, 2.0), (0, 2000, 0.0), (36_002_000, 36_000_000, 2.0), (5000, 5000, 0.0)],
)
def test_the_clock_begins_with_the_first_stream(
    suffix: str, picture_ms: int, sound_ms: int, offset: float, tmp_path: Path
) -> None:
    path = write_with_sound(tmp_path / f"v.{suffix}", picture_ms, sound_ms)
    index = DIRECT.index(str(path))
    # An encoder of sound begins up to 481 samples early.
    assert index.timestamps[0] == pytest.approx(offset, abs=0.035)
    np.testing.assert_allclose(np.diff(index.timestamps), 0.04, atol=1e-3)
    assert index.duration_seconds == pytest.approx(index.timestamps[0] + 1, abs=2e-3)


def test_joined_segments_give_all_frames_in_order() -> None:
    path = CASES / "joined_segments.ts"
    index = DIRECT.index(str(path))
    assert index.num_frames == 120
    assert (np.diff(index.timestamps) > 0).all()
    assert index.duration_seconds == pytest.approx(11.9, abs=0.2)
    frames = DIRECT.read_frames(index, range(120))
    assert frames.permute(0, 2, 3, 1).numpy().tobytes() == decode_in_order(path).tobytes()
    assert DIRECT.read_frames(index, [100, 3]).equal(frames[[100, 3]])
    DIRECT.check_frames(str(path))


@pytest.mark.parametrize("suffix", ["ts", "mpg"])
@pytest.mark.parametrize("delays", [(0, 0, 0), (0, 500, 100), (0, 40 * 40, 80 * 40), (0, 10**8, 0)])
def test_joined_files_of_other_clocks(suffix: str, delays: tuple[int, ...], tmp_path: Path) -> None:
    """A clock may begin anew, go on, or jump by hours, where one file ends and the next begins."""
    codec = {"ts": "libx264", "mpg": "mpeg2video"}[suffix]
    data = b""
    for number, delay in enumerate(delays):
        path, options = tmp_path / f"part{number}.mkv", {"g": "12", "bf": "2"}
        source = write_video(path, codec, options=options, first_number=40 * number)
        part = copy_packets(source, tmp_path / f"part{number}.{suffix}", delay=delay)
        data += part.read_bytes()
    path = tmp_path / f"joined.{suffix}"
    path.write_bytes(data)
    index = DIRECT.index(str(path))
    assert index.num_frames == 120
    np.testing.assert_allclose(index.timestamps, np.arange(120) / 25, atol=0.13)
    assert (np.diff(index.timestamps) > 0).all()
    wanted = [119, 0, 41, 39, 40, 79, 80]
    assert [number_of(frame) for frame in DIRECT.read_frames(index, wanted)] == wanted


def test_joined_segments_of_other_sizes(tmp_path: Path) -> None:
    """An adaptive stream changes its resolution: frames come in the size of the first part."""
    first = write_video(tmp_path / "a.ts", options=X264)
    second = write_video(tmp_path / "b.ts", options=X264, first_number=40, scale=2)
    path = tmp_path / "joined.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes() + first.read_bytes())
    index = DIRECT.index(str(path))
    assert (index.num_frames, index.width, index.height) == (120, 64, 48)
    wanted = [79, 39, 40, 119, 80]
    assert [number_of(frame) for frame in DIRECT.read_frames(index, wanted)] == [79, 39, 40, 39, 0]
    assert [remark.kind for remark in index.remarks] == ["clock-restarts"]


def test_what_pyav_raises_at_the_end_of_such_a_file_is_its_end(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.ts", num_frames=10)

    class Demuxer:
        def __init__(self, container: av.container.InputContainer) -> None:
            self.container = container

        def demux(self, stream: av.VideoStream) -> Iterator[av.Packet]:
            yield from (packet for packet in self.container.demux(stream) if packet.size)
            raise IndexError("list index out of range")

    with open_video(str(path)) as video:
        broken = dataclasses.replace(video, container=Demuxer(video.container))
        packets = list(demux(broken))
    assert [packet.size > 0 for packet in packets] == [True] * 10 + [False]


def test_a_clock_that_goes_back_within_a_group_loses_no_frame(tmp_path: Path) -> None:
    """No file ends there: only its clock is wrong, by more than a repeated time."""
    source = write_video(tmp_path / "s.ts", options={"g": "40", "bf": "0"})
    path = tmp_path / "v.ts"
    with av.open(str(source)) as container:
        starts = [packet.pts for packet in container.demux(video=0) if packet.size]
    data = bytearray(source.read_bytes())
    for number, pts in enumerate(starts):
        if number >= 20:
            data = data.replace(stamp(pts), stamp(pts - 40 * 900))
    path.write_bytes(data)
    index = DIRECT.index(str(path))
    assert [number_of(frame) for frame in DIRECT.read_frames(index, range(40))] == list(range(40))
    assert [remark.kind for remark in index.remarks] == ["clock-restarts"]
    np.testing.assert_allclose(index.timestamps, np.arange(40) / 25, atol=0.05)


def stamp(pts: int) -> bytes:
    """A presentation timestamp in the header of an MPEG-TS packet without another one."""
    parts = (pts >> 30 & 7, pts >> 15 & 0x7FFF, pts & 0x7FFF)
    number = 0x21 << 32 | parts[0] << 33 | 1 << 16 | parts[1] << 17 | 1 | parts[2] << 1
    return number.to_bytes(5, "big")


def test_streams_that_appear_on_the_way_end_no_reading(tmp_path: Path) -> None:
    """The second part of a broadcast has sound, of which its start knew nothing."""
    first = write_video(tmp_path / "a.ts", num_frames=100, options=X264, scale=4)
    second = write_with_sound(tmp_path / "b.ts", 0, 0)
    path = tmp_path / "joined.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    index = DIRECT.index(str(path))
    assert index.num_frames == 125
    assert DIRECT.read_frames(index, [124]).float().mean() < 60  # of the dark second part
    whole = tmp_path / "long.ts"  # libav looks for streams in the first seven seconds
    whole.write_bytes(first.read_bytes() * 3 + second.read_bytes())
    assert DIRECT.index(str(whole)).num_frames == 325
