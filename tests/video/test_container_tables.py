"""A container's table of its packets is used only where it agrees with demuxing."""

import random
import tarfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from coded_video import VARIANTS, X264, copy_packets, number_of, write_video

import vidreason.video.survey as survey_module
from vidreason.video.matroska_blocks import read_block_table
from vidreason.video.media import TarMember
from vidreason.video.mp4_tables import lacks_index, read_sample_table
from vidreason.video.reader import DIRECT, VideoIndex, VideoReadError

ASSETS = Path(__file__).parents[1] / "assets" / "videos"
REAL_VIDEOS = Path(__file__).parents[3] / "shared" / "data" / "videos"

IndexBoth = Callable[[Path], bool]


@pytest.fixture
def index_both(monkeypatch: pytest.MonkeyPatch) -> IndexBoth:
    """Index by the tables and by demuxing, compare; True if the tables told all there is."""
    used = []
    from_table = survey_module._survey_from_table

    def spy(*arguments: object) -> object:
        used.append(from_table(*arguments))  # type: ignore[arg-type]
        return used[-1]

    monkeypatch.setattr(survey_module, "_survey_from_table", spy)

    def index_both(path: Path) -> bool:
        outcomes = []
        for few in (0, 10**9):
            monkeypatch.setattr(survey_module, "FEW_PACKETS", few)
            used.clear() if few == 0 else None
            try:
                outcomes.append(DIRECT.index(str(path)))
            except VideoReadError as error:
                outcomes.append((error.cause, error.detail))
        by_tables, by_demuxing = outcomes
        if isinstance(by_demuxing, VideoIndex):
            assert isinstance(by_tables, VideoIndex), by_tables
            _assert_equal(by_tables, by_demuxing)
        else:
            assert by_tables == by_demuxing
        return bool(used) and used[-1] is not None

    return index_both


def _assert_equal(one: VideoIndex, other: VideoIndex) -> None:
    for field in vars(one).keys() - {"packets", "timestamps"}:
        assert getattr(one, field) == getattr(other, field), field
    np.testing.assert_array_equal(one.timestamps, other.timestamps)
    assert (one.packets is None) == (other.packets is None)
    for field, values in vars(one.packets).items() if one.packets else ():
        np.testing.assert_array_equal(values, getattr(other.packets, field), field)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind_of_video(variant: str, tmp_path: Path, index_both: IndexBoth) -> None:
    name, codec, options, pixel_format = VARIANTS[variant]
    path = write_video(tmp_path / name, codec, options=options, pixel_format=pixel_format)
    has_tables = name.endswith((".mp4", ".mkv", ".webm")) and variant not in ("h264-one-gop", "vp8")
    assert index_both(path) == has_tables


def test_what_moves_and_hides_frames(tmp_path: Path, index_both: IndexBoth) -> None:
    steps = random.Random(1).choices([7, 20, 33, 100, 400], k=39)
    ticks = [0, *np.cumsum(steps).tolist()]
    assert index_both(write_video(tmp_path / "vfr.mp4", ticks=ticks, options=X264))
    assert index_both(write_video(tmp_path / "v.mp4", options=X264, with_audio=True))
    assert index_both(write_video(tmp_path / "turned.mp4", options=X264, rotation=90))
    front = {"movflags": "faststart"}
    path = write_video(tmp_path / "front.mp4", options=X264, container_options=front)
    assert index_both(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.6)])
    assert not index_both(path)
    fragments = {"movflags": "frag_keyframe+empty_moov"}
    path = write_video(tmp_path / "parts.mp4", options=X264, container_options=fragments)
    assert not index_both(path)
    source = write_video(tmp_path / "source.mkv", options=X264)
    assert index_both(copy_packets(source, tmp_path / "late.mp4", delay=5000))
    assert index_both(copy_packets(source, tmp_path / "cut.mp4", from_key_frame=1))


@pytest.mark.parametrize("first", [0, 3, 10, 15])
@pytest.mark.parametrize("length", [10, 24, 40])
def test_edit_lists(first: int, length: int, tmp_path: Path, index_both: IndexBoth) -> None:
    """Frames cut from the start or the end by an edit list are left to libav to find."""
    path = write_video(tmp_path / "v.mp4", options=X264)
    data = bytearray(path.read_bytes())
    entry = data.index(b"elst") + 12
    media_time = int.from_bytes(data[entry + 4 : entry + 8], "big", signed=True)
    with av.open(str(path)) as container:
        ticks_a_frame = container.streams.video[0].duration // 40
    data[entry : entry + 4] = (length * 40).to_bytes(4, "big")  # in milliseconds
    data[entry + 4 : entry + 8] = (media_time + first * ticks_a_frame).to_bytes(4, "big")
    path.write_bytes(data)
    assert index_both(path) == (first == 0 and length == 40)


def test_damaged_tables_are_not_believed(tmp_path: Path, index_both: IndexBoth) -> None:
    """Bytes of the index are changed: either way of indexing says the same, whatever that is."""
    options = {"movflags": "faststart"}
    path = write_video(tmp_path / "v.mp4", options=X264, container_options=options)
    data = path.read_bytes()
    offset = data.index(b"stbl")
    generator = random.Random(0)
    tables = {kind: data.index(kind, offset) for kind in (b"stts", b"ctts", b"stss", b"stsz")}
    num_used = 0
    for start, stop in pairwise(sorted([*tables.values(), data.index(b"mdat")])):
        for _ in range(40):
            changed = bytearray(data)
            changed[generator.randrange(start, stop)] = generator.randrange(256)
            path.write_bytes(changed)
            num_used += index_both(path)
    assert 0 < num_used < 160


@pytest.mark.parametrize("folder", [ASSETS, REAL_VIDEOS], ids=["assets", "beside the checkout"])
def test_real_videos(folder: Path, index_both: IndexBoth) -> None:
    paths = sorted(path for path in folder.glob("*.*") if path.suffix in (".mp4", ".mkv", ".webm"))
    if not paths:
        pytest.skip("further real videos are not beside this checkout")
    for path in paths:
        index_both(path)


def test_missing_index_and_other_files(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", options=X264)
    assert not lacks_index(str(path))
    assert read_sample_table(str(path), 2) is None
    path.write_bytes(path.read_bytes()[:1000])
    assert lacks_index(str(path))
    (tmp_path / "text.mp4").write_text("This is no video. " * 300)
    assert not lacks_index(str(tmp_path / "text.mp4"))
    assert read_sample_table(str(tmp_path / "text.mp4"), 1) is None
    other = write_video(tmp_path / "v.mkv", num_frames=3)
    assert not lacks_index(str(other))


@pytest.mark.parametrize("grouped", [False, True], ids=["simple blocks", "block groups"])
def test_matroska_of_other_programs(grouped: bool, tmp_path: Path, index_both: IndexBoth) -> None:
    """Clusters that begin anywhere, blocks in groups, another track between them, no seek table."""
    source = write_video(tmp_path / "source.mkv", options=X264, with_audio=True)
    for per_cluster in (1, 7, 40):
        path = tmp_path / f"{per_cluster}.mkv"
        path.write_bytes(remux(source, per_cluster, grouped=grouped))
        assert index_both(path)
        index = DIRECT.index(str(path))
        numbers = [number_of(frame) for frame in DIRECT.read_frames(index, range(39, -1, -3))]
        assert numbers == list(range(39, -1, -3))


def test_vp9_packets_that_show_nothing(tmp_path: Path, index_both: IndexBoth) -> None:
    """Their bytes are changed so that they only say so: no decoder could read them."""
    path = write_video(tmp_path / "v.webm", "libvpx-vp9", options={"g": "12"})
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    data = path.read_bytes()
    for number in (5, 17, 29):
        start = data.index(packets[number])
        data = data[:start] + bytes([data[start] & ~0b10]) + data[start + 1 :]
    path.write_bytes(data)
    table = read_block_table(str(path))
    assert table is not None
    assert np.flatnonzero(~table.is_shown).tolist() == [5, 17, 29]
    assert index_both(path)


def test_matroska_with_sound_and_uneven_times(tmp_path: Path, index_both: IndexBoth) -> None:
    steps = random.Random(1).choices([7, 20, 33, 100, 400], k=39)
    ticks = [0, *np.cumsum(steps).tolist()]
    path = write_video(tmp_path / "vfr.mkv", ticks=ticks, options=X264, with_audio=True)
    assert index_both(path)
    assert index_both(copy_packets(path, tmp_path / "late.mkv", delay=5000))
    assert index_both(copy_packets(path, tmp_path / "cut.mkv", from_key_frame=1))
    data = path.read_bytes()
    (tmp_path / "torn.mkv").write_bytes(data[: int(len(data) * 0.6)])
    assert not index_both(tmp_path / "torn.mkv")
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        tar.add(path, "vfr.mkv")
    with tarfile.open(tmp_path / "shard.tar") as tar:
        member = TarMember(tar.name, tar.getmember("vfr.mkv").offset_data, len(data), "vfr.mkv")
    whole, part = read_block_table(str(path)), read_block_table(member.media)
    assert whole is not None
    assert part is not None
    np.testing.assert_array_equal(part.pts, whole.pts)


@pytest.mark.parametrize("unusual", ["live", "laced", "cut", "long id", "no time", "second track"])
def test_unusual_matroska_is_left_to_demuxing(unusual: str, tmp_path: Path) -> None:
    path = tmp_path / "v.mkv"
    options = {"live": "1"} if unusual == "live" else {}
    data = write_video(path, options=X264, container_options=options).read_bytes()
    # A cluster's size may hold any byte; its first elements are time 0 and then a block.
    time = data.index(b"\xe7\x81\x00\xa3", data.index(b"\x1f\x43\xb6\x75"))
    block = time + 3
    changed = bytearray(data)
    if unusual == "laced":
        flags = block + 2 + (9 - data[block + 1].bit_length()) + 2
        changed[flags] |= 0x02
    elif unusual == "cut":
        del changed[-1]
    elif unusual == "long id":
        changed[block] = 0x23
    elif unusual == "no time":
        changed[time] = 0xA7
    elif unusual == "second track":
        changed[data.index(b"\x83\x81\x01", data.index(b"\x16\x54\xae\x6b")) + 2] = 2
    path.write_bytes(changed)
    assert read_block_table(str(path)) is None
    path.write_bytes(data)
    assert (read_block_table(str(path)) is None) == (unusual == "live")


@pytest.mark.slow
def test_damaged_blocks_give_the_frames_of_the_file_or_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes of a Matroska file are changed: what either way of indexing lets read is the same."""
    path = write_video(tmp_path / "v.mkv", options=X264)
    data = path.read_bytes()
    generator = random.Random(0)
    first = data.index(b"\x1f\x43\xb6\x75")
    num_read = 0
    for _ in range(150):
        changed = bytearray(data)
        changed[generator.randrange(first, len(data))] = generator.randrange(256)
        path.write_bytes(changed)
        outcomes = []
        for few in (0, 10**9):
            monkeypatch.setattr(survey_module, "FEW_PACKETS", few)
            try:
                index = DIRECT.index(str(path))
                frames = DIRECT.read_frames(index, range(0, index.num_frames, 3))
                outcomes.append((index.timestamps.tolist(), frames.numpy().tobytes()))
            except VideoReadError as error:
                outcomes.append(error.cause)
        assert outcomes[0] == outcomes[1]
        num_read += isinstance(outcomes[0], tuple)
    assert 0 < num_read < 150


def remux(source: Path, per_cluster: int, *, grouped: bool) -> bytes:
    """A Matroska file with so many blocks in each cluster and no seek table."""
    data = source.read_bytes()
    segment = data.index(b"\x18\x53\x80\x67")
    kept = b""
    for kind in (b"\x15\x49\xa9\x66", b"\x16\x54\xae\x6b"):  # Info, Tracks
        offset = data.index(kind, data.index(kind, segment) + 4)  # the seek table names it first
        length_size = 9 - data[offset + 4].bit_length()
        length = int.from_bytes(data[offset + 4 : offset + 4 + length_size])
        length &= (1 << 7 * length_size) - 1
        kept += data[offset : offset + 4 + length_size + length]
    with av.open(str(source)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        rows = [(packet.pts, packet.is_keyframe, bytes(packet)) for packet in packets]
    for first in range(0, len(rows), per_cluster):
        start = min(pts for pts, _, _ in rows[first : first + per_cluster])
        cluster = element(b"\xbf", bytes(4)) + element(b"\xe7", start.to_bytes(3))
        for pts, is_key, content in rows[first : first + per_cluster]:
            time = (pts - start).to_bytes(2)
            cluster += element(b"\xa3", b"\x82" + time + b"\x80" + bytes(9))  # of a second track
            if grouped:
                block = element(b"\xa1", b"\x81" + time + b"\0" + content)
                reference = b"" if is_key else element(b"\xfb", b"\xff")
                cluster += element(b"\xa0", block + element(b"\x9b", b"\x28") + reference)
            else:
                flags = b"\x80" if is_key else b"\0"
                cluster += element(b"\xa3", b"\x81" + time + flags + content)
        kept += element(b"\x1f\x43\xb6\x75", cluster) + element(b"\xec", bytes(200))
    return data[:segment] + element(b"\x18\x53\x80\x67", kept)


def element(kind: bytes, content: bytes) -> bytes:
    """An EBML element; its length takes as few bytes as it can."""
    size = next(n for n in range(1, 9) if len(content) < (1 << 7 * n) - 1)
    return kind + (len(content) | 1 << 7 * size).to_bytes(size) + content
