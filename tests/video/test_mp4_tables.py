"""What an mp4 file's own tables say is what demuxing all of it says; else they are not used."""

import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from coded_video import VARIANTS, X264, copy_packets, write_video

import vidreason.video.survey as survey_module
from vidreason.video.index import VideoIndex, index_video
from vidreason.video.mp4_tables import lacks_index, read_sample_table
from vidreason.video.reader import VideoReadError

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
                outcomes.append(index_video(str(path)))
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
    place = data.index(b"stbl")
    generator = random.Random(0)
    tables = {kind: data.index(kind, place) for kind in (b"stts", b"ctts", b"stss", b"stsz")}
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
