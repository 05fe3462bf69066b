"""A packet is not a picture: fields, hidden and bundled pictures, and those that show one again."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from coded_video import X264, decode_in_order, number_of, write_video

from vidreason.video.packet_pictures import _count_av1, _count_mpeg2, _count_mpeg4, _count_vp9
from vidreason.video.reader import DIRECT, VideoReadError

CASES = Path(__file__).parents[1] / "assets" / "cases"


def rewrite(
    source: Path, target: Path, change: Callable[[int, bytes], list[bytes]], codec: str = ""
) -> Path:
    """Put other packets in the place of each; later ones of one packet are shown 1 ms later."""
    with av.open(str(source)) as reading, av.open(str(target), "w") as writing:
        stream = reading.streams.video[0]
        if codec:
            copy = writing.add_mux_stream(codec, rate=25, width=64, height=48)
        else:
            copy = writing.add_stream_from_template(stream)
        for number, packet in enumerate(p for p in reading.demux(stream) if p.size):
            for index, data in enumerate(change(number, bytes(packet))):
                other = av.Packet(data)
                other.pts, other.dts = packet.pts + index, packet.dts + index
                other.time_base, other.is_keyframe = packet.time_base, packet.is_keyframe
                other.stream = copy
                writing.mux(other)
    return target


def assert_as_decoded(path: Path, num_frames: int) -> None:
    """The reader gives what decoding in order gives, in any order of asking."""
    truth = decode_in_order(path)
    index = DIRECT.index(str(path))
    assert index.num_frames == len(truth) == num_frames
    assert (np.diff(index.timestamps) > 0).all()
    for wanted in (range(num_frames), [num_frames - 1, 0, num_frames // 2]):
        frames = DIRECT.read_frames(index, wanted).permute(0, 2, 3, 1).numpy()
        np.testing.assert_array_equal(frames, truth[list(wanted)])
    DIRECT.check_frames(str(path))


def test_fields_of_h264() -> None:
    """PAFF: each field of a frame is a packet."""
    path = CASES / "field_pictures.ts"
    assert_as_decoded(path, 20)
    index = DIRECT.index(str(path))
    assert (index.width, index.height) == (32, 64)
    np.testing.assert_allclose(np.diff(index.timestamps), 0.08, atol=1e-4)
    assert index.duration_seconds == pytest.approx(1.6, abs=1e-3)
    assert index.remarks == ()


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_fields_of_h264_in_other_containers(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"v.{suffix}"
    with av.open(str(CASES / "field_pictures.ts")) as reading, av.open(str(path), "w") as writing:
        copy = writing.add_stream_from_template(reading.streams.video[0])
        for packet in reading.demux(video=0):
            if packet.size:
                packet.stream = copy
                writing.mux(packet)
    assert_as_decoded(path, 20)


@pytest.mark.parametrize("name", ["v.mp4", "v.ts", "v.mkv"])
def test_interlaced_frames_keep_their_packets(name: str, tmp_path: Path) -> None:
    """MBAFF: fields within a frame's packet need no decoding to be counted."""
    options = {"x264-params": "interlaced=1:keyint=12:bframes=2:scenecut=0"}
    path = write_video(tmp_path / name, options=options)
    assert_as_decoded(path, 40)
    assert DIRECT.index(str(path)).packets is not None


@pytest.mark.parametrize("codec", ["mpeg2video", "mpeg4"])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_mpeg(codec: str, suffix: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / f"v.{suffix}", codec, options={"g": "12", "bf": "2"})
    assert_as_decoded(path, 40)
    assert DIRECT.index(str(path)).packets is not None


@pytest.mark.parametrize("name", ["v.asf", "v.mxf", "v.avi"])
def test_times_in_the_order_of_decoding(name: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / name, options=X264)
    index = DIRECT.index(str(path))
    np.testing.assert_allclose(index.timestamps, np.arange(40) / 25, atol=1.1e-3)
    assert [number_of(frame) for frame in DIRECT.read_frames(index, range(40))] == list(range(40))
    assert index.remarks == ()


@pytest.mark.parametrize("suffix", ["avi", "mkv"])
def test_packed_pictures_of_mpeg4(suffix: str, tmp_path: Path) -> None:
    """Packets as DivX wrote them: a picture and the one before it in one, then one for none."""
    source = write_video(tmp_path / "s.mkv", "mpeg4", 21, options={"g": "40", "bf": "1"})
    with av.open(str(source)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    is_b = [packet[packet.index(b"\0\0\1\xb6") + 4] >> 6 == 2 for packet in packets]
    assert sum(is_b) >= 8
    placeholder = b"\0\0\1\xb6\x51\x00"  # a P picture that is not coded

    def pack(number: int, data: bytes) -> list[bytes]:
        if number == 0:
            return [b"\0\0\1\xb2DivX503b1393p" + data]
        if is_b[number]:
            return [placeholder]
        bundled = packets[number + 1] if number + 1 < len(packets) and is_b[number + 1] else b""
        return [data + bundled]

    path = rewrite(source, tmp_path / f"v.{suffix}", pack)
    truth = decode_in_order(path)
    index = DIRECT.index(str(path))
    assert index.num_frames == len(truth) >= 20
    frames = DIRECT.read_frames(index, range(index.num_frames)).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(frames, truth)


def test_pictures_of_vp9_that_show_one_again(tmp_path: Path) -> None:
    source = write_video(tmp_path / "s.webm", "libvpx-vp9", options={"g": "40"})
    again = b"\x88"  # show the frame in the first of eight stores
    path = rewrite(
        source, tmp_path / "again.mkv", lambda n, data: [data, again] if n in (7, 20) else [data]
    )
    assert_as_decoded(path, 42)
    assert DIRECT.index(str(path)).packets is not None

    def bundle(number: int, data: bytes) -> list[bytes]:
        if number != 7:
            return [data]
        marker = bytes([0b110_01_001])  # sizes of two bytes, two frames
        sizes = len(data).to_bytes(2, "little") + (1).to_bytes(2, "little")
        return [data + again + marker + sizes + marker]

    path = rewrite(source, tmp_path / "bundled.mkv", bundle)
    assert_as_decoded(path, 41)


def test_hidden_pictures_of_av1_as_packets(tmp_path: Path) -> None:
    options = {"g": "24", "preset": "12"}
    source = write_video(tmp_path / "s.mp4", "libsvtav1", options=options)
    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        splitter = BitStreamFilterContext("av1_frame_split", stream)
        parts: list[list[bytes]] = []
        for packet in container.demux(stream):
            if packet.size:
                parts.append([bytes(part) for part in splitter.filter(packet)])
    assert sum(map(len, parts)) > 40
    path = rewrite(source, tmp_path / "v.mkv", lambda number, _: parts[number], "av1")
    assert_as_decoded(path, 40)
    assert DIRECT.index(str(path)).packets is not None


def test_what_the_counters_understand() -> None:
    def count(counter: Callable[[av.Packet], int | None], data: bytes) -> int | None:
        return counter(av.Packet(data))

    shown, hidden, profile_3 = b"\x82ab", b"\x80ab", b"\xb1ab"
    assert [count(_count_vp9, data) for data in (shown, hidden, profile_3)] == [1, 0, 1]
    index = b"\xc9\x03\0\x03\0\xc9"
    assert count(_count_vp9, hidden + shown + index) == 1
    assert count(_count_vp9, shown + shown + index) is None
    assert count(_count_vp9, hidden + index) is None  # it names more than there is
    delimiter, frame = b"\x12\0", b"\x32\x01"
    assert count(_count_av1, delimiter + frame + b"\x10") == 1
    assert count(_count_av1, delimiter + frame + b"\x00") == 0
    assert count(_count_av1, frame + b"\x00" + frame + b"\x10") == 1
    assert count(_count_av1, frame + b"\x10" + frame + b"\x10") is None
    assert count(_count_av1, frame) is None
    picture = b"\0\0\1\0abcd"
    whole, field = (b"\0\0\1\xb5\x80\0" + bytes([structure]) + b"\0" for structure in (3, 1))
    assert count(_count_mpeg2, picture + whole) == 1
    assert count(_count_mpeg2, picture + field + picture + field) == 1
    assert count(_count_mpeg2, picture + field) is None
    assert count(_count_mpeg2, b"abc") is None
    assert count(_count_mpeg4, b"\0\0\1\xb6" + bytes(20)) == 1
    assert count(_count_mpeg4, b"\0\0\1\xb6" + bytes(3)) is None
    assert count(_count_mpeg4, 2 * (b"\0\0\1\xb6" + bytes(20))) is None


def test_damaged_headers_end_in_frames_or_in_one_kind_of_error(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    sources = [
        write_video(tmp_path / "a.ts", options={"x264-params": "interlaced=1:keyint=6"}),
        write_video(tmp_path / "b.webm", "libvpx-vp9", 10),
        CASES / "field_pictures.ts",
        write_video(tmp_path / "c.mkv", "mpeg4", 10),
    ]
    outcomes = []
    for source in sources:
        data = np.frombuffer(source.read_bytes()[:20_000], np.uint8)
        for _ in range(15):
            changed = data.copy()
            offsets = generator.integers(100, len(data), 6)
            changed[offsets] = generator.integers(0, 256, 6)
            path = tmp_path / f"changed{source.suffix}"
            path.write_bytes(changed.tobytes())
            try:
                index = DIRECT.index(str(path))
                DIRECT.read_frames(index, [index.num_frames - 1, 0])
                outcomes.append("read")
            except VideoReadError as error:
                outcomes.append(error.detail)
    assert "read" in outcomes
    assert len(set(outcomes)) > 1
    assert not [outcome for outcome in outcomes if outcome.startswith("reading it ends with")]
