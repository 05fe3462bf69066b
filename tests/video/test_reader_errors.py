"""Files that are no video, or not a whole one, are refused with path and cause."""

import json
import os
import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from av.sidedata import sidedata
from coded_video import copy_packets, decode_in_order, write_sound, write_video
from PIL import Image

from vidreason.video import index as indexing
from vidreason.video import media_content, reader
from vidreason.video.decoding import plan_runs
from vidreason.video.failures import FailureLog
from vidreason.video.mp4_tables import read_sample_table
from vidreason.video.reader import DIRECT, VideoReadError

ONE_GROUP = {"g": "40", "bf": "2", "x264-params": "scenecut=0"}
FOUR_GROUPS = {"g": "10", "bf": "2", "x264-params": "scenecut=0"}


def test_missing_empty_text_and_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.mp4").touch()
    text = "This is no video. " * 300
    for name in ("text.mp4", "text.txt", "text.avi"):
        (tmp_path / name).write_text(text)
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nother.ts\n#EXT-X-ENDLIST\n")
    write_video(tmp_path / "other.mp4", num_frames=3)
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile other.mp4\n")
    causes = {
        "missing.mp4": ("missing", "there is no such file"),
        "empty.mp4": ("empty", "the file is empty"),
        "text.mp4": ("not-a-video", "libav says 'Invalid data found when processing input'"),
        "text.txt": ("not-a-video", "it is a text file"),
        "text.avi": ("not-a-video", "libav says 'Invalid data found when processing input'"),
        "list.m3u8": ("not-a-video", ""),  # by libav or by us, as long as nothing else is opened
        "list.mp4": ("not-a-video", "it is a playlist, not a video"),
        ".": ("not-a-video", "it is not a regular file"),
    }
    for name, (cause, detail) in causes.items():
        path = str(tmp_path / name)
        with pytest.raises(VideoReadError) as caught:
            DIRECT.index(path)
        assert caught.value.path == path
        assert caught.value.cause == cause, name
        assert caught.value.detail.startswith(detail), name
        assert str(caught.value) == f"cannot read video {path!r}: {caught.value.detail}"
    assert capfd.readouterr() == ("", "")


def test_sound_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(VideoReadError, match=r"no video stream \(its streams: audio\)") as caught:
        DIRECT.index(str(write_sound(tmp_path / "sound.m4a")))
    assert caught.value.cause == "no-video-stream"


def test_the_cover_of_a_song_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=16000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame(32, 32, "yuvj420p")))
        container.mux(cover.encode(None))
        silence = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono"
        )
        silence.sample_rate = 16000
        container.mux(sound.encode(silence))
        container.mux(sound.encode(None))
    with pytest.raises(VideoReadError, match="it has no video stream"):
        DIRECT.index(str(path))


@pytest.mark.parametrize(
    ("name", "container_options", "cause"),
    [
        ("end.mp4", {}, "cut off: its index is missing"),  # it is at the lost end
        ("front.mp4", {"movflags": "faststart"}, r"cut off: \d+ of its 40 video packets"),
        ("parts.mp4", {"movflags": "frag_keyframe+empty_moov"}, r"cut off: \d+ of its \d+ video"),
        ("v.mkv", {}, r"cut off: its video ends at 0\.\d+ of 1\.60 s"),
    ],
)
def test_cut_off_files(
    name: str,
    container_options: dict[str, str],
    cause: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = write_video(tmp_path / name, options=FOUR_GROUPS, container_options=container_options)
    assert DIRECT.index(str(path)).num_frames == 40
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.6)])
    with pytest.raises(VideoReadError, match=cause) as caught:
        DIRECT.index(str(path))
    assert caught.value.cause == "truncated"
    assert str(path) in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_file_that_loses_its_end_after_it_was_indexed(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "v.mp4", options=FOUR_GROUPS, container_options={"movflags": "faststart"}
    )
    truth = decode_in_order(path)
    index = DIRECT.index(str(path))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.6)])

    np.testing.assert_array_equal(
        DIRECT.read_frames(index, [0])[0].permute(1, 2, 0).numpy(), truth[0]
    )
    with pytest.raises(VideoReadError):
        DIRECT.read_frames(index, [0, 39])


def test_a_file_that_was_replaced_after_it_was_indexed(tmp_path: Path) -> None:
    index = DIRECT.index(str(write_video(tmp_path / "v.mp4", options=FOUR_GROUPS)))
    write_video(tmp_path / "v.mp4", options={"g": "7", "bf": "0"}, ticks=range(0, 1600, 40))
    with pytest.raises(VideoReadError, match="not those that were indexed") as caught:
        DIRECT.read_frames(index, [39])
    assert caught.value.cause == "changed"


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_damage_is_never_shown_and_the_rest_is_exact(codec: str, tmp_path: Path) -> None:
    """One packet in the middle is overwritten: what depends on it raises, and nothing else."""
    options = {
        "libx264": FOUR_GROUPS,
        "libx265": {"x265-params": "keyint=10:min-keyint=10:open-gop=0:scenecut=0:log-level=none"},
    }[codec]
    path = write_video(tmp_path / "v.mp4", codec, options=options)
    truth = decode_in_order(path)
    packets = DIRECT.index(str(path)).packets
    assert packets is not None
    damaged_packet = int(packets.frame_packets[13])
    with av.open(str(path)) as container:
        positions = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    position, size = positions[damaged_packet]
    data = bytearray(path.read_bytes())
    data[position + 4 : position + size] = bytes(size - 4)
    path.write_bytes(data)

    index = DIRECT.index(str(path))
    assert index.num_frames == 40
    refused = []
    for number in range(40):
        try:
            (frame,) = DIRECT.read_frames(index, [number])
        except VideoReadError as error:
            refused.append((number, error))
        else:
            np.testing.assert_array_equal(frame.permute(1, 2, 0).numpy(), truth[number])
    assert 13 in dict(refused)
    assert set(dict(refused)) <= set(range(10, 20))
    assert all("at frame 1" in error.detail for _, error in refused)
    assert {error.cause for _, error in refused} == {"decode-error"}
    with pytest.raises(VideoReadError):
        DIRECT.read_frames(index, [0, 13, 39])


def test_a_damaged_first_frame_does_not_move_the_clock(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", options=FOUR_GROUPS)
    with av.open(str(path)) as container:
        packet = next(container.demux(video=0))
        position, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    data[position + size - 60 : position + size] = bytes(60)
    path.write_bytes(data)
    with pytest.raises(VideoReadError, match=r"its first frame is damaged|no frame can be decoded"):
        DIRECT.index(str(path))


def test_seeking_that_lands_wrong_costs_time_but_no_exactness(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", options=FOUR_GROUPS)
    truth = decode_in_order(path)
    index = DIRECT.index(str(path))
    assert index.packets is not None
    late = replace(index, packets=replace(index.packets, seek_ticks=index.packets.pts + 10**6))
    np.testing.assert_array_equal(
        DIRECT.read_frames(late, [25])[0].permute(1, 2, 0).numpy(), truth[25]
    )


def test_key_frames_that_are_none_cost_time_but_no_exactness(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", options=ONE_GROUP)
    truth = decode_in_order(path)
    index = DIRECT.index(str(path))
    assert index.packets is not None
    everywhere = np.ones_like(index.packets.is_key)
    lying = replace(index, packets=replace(index.packets, is_key=everywhere))
    assert lying.packets is not None
    assert plan_runs(lying.packets, [30])[0][0] > 0
    np.testing.assert_array_equal(
        DIRECT.read_frames(lying, [30])[0].permute(1, 2, 0).numpy(), truth[30]
    )


def test_a_crooked_display_matrix_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", num_frames=3, rotation=30)
    with pytest.raises(VideoReadError, match=r"its display matrix is no quarter turn"):
        DIRECT.index(str(path))


def test_cutting_by_copying_is_not_mistaken_for_a_loss(tmp_path: Path) -> None:
    source = write_video(tmp_path / "v.mkv", options=FOUR_GROUPS)
    for name in ("cut.mkv", "cut.mp4"):
        path = copy_packets(source, tmp_path / name, from_key_frame=2)
        assert DIRECT.index(str(path)).num_frames == 20


def test_the_error_survives_the_way_between_processes() -> None:
    error = VideoReadError("a.mp4", "empty", "the file is empty")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.path, copy.cause, copy.detail) == ("a.mp4", "empty", "the file is empty")
    assert copy.failure("id") == ("id", "a.mp4", "empty", "the file is empty")


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (ValueError("31 is not a valid Type"), "decode-error"),
        (struct.error("unpack requires 4 bytes"), "decode-error"),
        (KeyError("stbl"), "decode-error"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "decode-error"),
        (AssertionError("width has to be even"), "decode-error"),
        (RecursionError("too deep"), "decode-error"),
        (MemoryError(), "unsupported"),
        (av.error.MemoryError(12, "Cannot allocate memory"), "unsupported"),
        (OSError(5, "Input/output error"), "unreachable"),
        (FileNotFoundError(2, "No such file"), "missing"),
        (PermissionError(13, "Permission denied"), "unreachable"),
        (av.error.InvalidDataError(1, "Invalid data found"), "decode-error"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_whatever_is_raised_is_one_kind_of_error_with_its_cause(
    error: Exception, cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(write_video(tmp_path / "v.mp4", num_frames=3))
    index = DIRECT.index(path)

    def fail(*arguments: object, **options: object) -> None:
        raise error

    calls: list[tuple[object, str, Callable[[], object]]] = [
        (indexing, "survey_packets", lambda: DIRECT.index(path)),
        (indexing, "display_orientation", lambda: DIRECT.index(path)),
        (media_content, "hash_media", lambda: DIRECT.read_content(path)),
        (reader, "media_identity", lambda: DIRECT.identify(path)),
    ]
    for module, name, call in calls:
        with monkeypatch.context() as patched:
            patched.setattr(module, name, fail)
            with pytest.raises(VideoReadError) as caught:
                call()
        assert caught.value.path == path
        assert caught.value.cause in (cause, "missing")
        assert caught.value.__cause__ is error
    for name, call in (
        ("vidreason.video.decoding.PictureConverter", lambda: DIRECT.read_frames(index, [0])),
        ("vidreason.video.sequential.decode_packet", lambda: DIRECT.check_frames(path)),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(name, fail)
            with pytest.raises(VideoReadError) as caught:
                call()
        assert caught.value.cause == cause
        assert caught.value.__cause__ is error


def test_a_package_that_is_missing_is_no_fault_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(write_video(tmp_path / "v.mp4", num_frames=3))

    def fail(*arguments: object, **options: object) -> None:
        raise ImportError("no package")

    monkeypatch.setattr(indexing, "survey_packets", fail)
    with pytest.raises(ImportError, match="no package"):
        DIRECT.index(path)


def test_side_data_of_kinds_that_pyav_has_no_name_for() -> None:
    for number in (31, 4711):
        assert sidedata.Type(number).value == number
    assert sidedata.Type(sidedata.Type.DISPLAYMATRIX.value) is sidedata.Type.DISPLAYMATRIX
    with pytest.raises(ValueError, match="EXIF"):
        sidedata.Type("EXIF")


def test_names_of_all_kinds(tmp_path: Path) -> None:
    data = write_video(tmp_path / "v.mp4", num_frames=3).read_bytes()
    names = [b"new\nline.mp4", b"not utf-8 \xef\xff.mp4", b"frame%04d.png", b"img[1-2]*.jpg"]
    names += [b"concat:a|b.mp4", b"http:.mp4", b"pipe:0", b" ", b"-i", b"a,b;c=d.mp4", b"good.txt"]
    for name in names:
        path = os.path.join(os.fsencode(tmp_path), name)
        with open(path, "wb") as file:
            file.write(data)
        index = DIRECT.index(os.fsdecode(path))
        assert DIRECT.read_frames(index, [2]).shape == (1, 3, 48, 64)
        assert DIRECT.read_content(os.fsdecode(path)).is_settled
        os.unlink(path)
        with pytest.raises(VideoReadError) as caught:
            DIRECT.read_frames(index, [2])
        assert caught.value.cause == "missing"


def test_a_name_with_a_number_sign_is_that_of_one_file(tmp_path: Path) -> None:
    for name, level in (("frame%04d.png", 200), ("frame0001.png", 10)):
        picture = np.full((48, 64, 3), level, dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / name)
    for name, level in (("frame%04d.png", 200), ("frame0001.png", 10)):
        index = DIRECT.index(str(tmp_path / name))
        assert index.num_frames == 1
        assert DIRECT.read_frames(index, [0]).unique().tolist() == [level]


def test_what_is_no_file_is_neither_read_nor_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "one").symlink_to(tmp_path / "two")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    (tmp_path / "file").touch()
    for path, cause in (
        (str(tmp_path / "pipe.mp4"), "not-a-video"),
        (str(tmp_path / "one"), "unreachable"),
        (str(tmp_path / "file" / "v.mp4"), "unreachable"),
        ("/dev/zero", "not-a-video"),
        ("", "missing"),
        ("\0", "unreachable"),
        ("n" * 5000, "unreachable"),
    ):
        for read in (DIRECT.index, DIRECT.read_content, DIRECT.check_frames):
            with pytest.raises(VideoReadError) as caught:
                read(path)
            assert (caught.value.path, caught.value.cause) == (path, cause)


def test_a_name_that_is_not_utf_8_is_written_down_once(tmp_path: Path) -> None:
    name = os.fsdecode(b"/videos/\xef\xe9t\xe9.mp4")
    failure = VideoReadError(name, "missing", "there is no such file").failure(name)
    path = tmp_path / "failures.jsonl"
    for _ in range(2):
        FailureLog(path, 1.0, 10).record(1, [failure])
    (line,) = path.read_text().splitlines()
    assert json.loads(line)["path"] == name


def test_one_picture_is_a_video(tmp_path: Path) -> None:
    """In MPEG-TS too, of fewer packets than libav recognises it by."""
    for suffix in ("mp4", "mkv", "ts", "avi", "h264"):
        for num_frames in (1, 2, 3):
            path = write_video(tmp_path / f"v.{suffix}", num_frames=num_frames)
            index = DIRECT.index(str(path))
            assert index.num_frames == num_frames
            assert index.duration_seconds == pytest.approx(num_frames / 25, abs=2e-3)
            assert len(DIRECT.read_frames(index, range(num_frames))) == num_frames


def test_a_sample_table_that_claims_more_samples_than_bytes(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", options={"g": "1"}, codec="mpeg4")
    data = bytearray(path.read_bytes())
    table = data.index(b"stsz")
    data[table + 8 : table + 16] = (1).to_bytes(4, "big") + (2**31 - 1).to_bytes(4, "big")
    path.write_bytes(data)
    assert read_sample_table(str(path), 1) is None
