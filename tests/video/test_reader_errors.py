"""What is no video, or not a whole one, is refused with its path and a cause; never guessed at."""

import pickle
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from coded_video import copy_packets, decode_in_order, write_sound, write_video

from vidreason.video.decoding import plan_runs
from vidreason.video.reader import VideoReadError, index_video, read_frames

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
            index_video(path)
        assert caught.value.path == path
        assert caught.value.cause == cause, name
        assert caught.value.detail.startswith(detail), name
        assert str(caught.value) == f"cannot read video {path!r}: {caught.value.detail}"
    assert capfd.readouterr() == ("", "")


def test_sound_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(VideoReadError, match=r"no video stream \(its streams: audio\)") as caught:
        index_video(str(write_sound(tmp_path / "sound.m4a")))
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
        index_video(str(path))


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
    assert index_video(str(path)).num_frames == 40
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.6)])
    with pytest.raises(VideoReadError, match=cause) as caught:
        index_video(str(path))
    assert caught.value.cause == "truncated"
    assert str(path) in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_file_that_loses_its_end_after_it_was_indexed(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "v.mp4", options=FOUR_GROUPS, container_options={"movflags": "faststart"}
    )
    truth = decode_in_order(path)
    index = index_video(str(path))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.6)])

    np.testing.assert_array_equal(read_frames(index, [0])[0].permute(1, 2, 0).numpy(), truth[0])
    with pytest.raises(VideoReadError):
        read_frames(index, [0, 39])


def test_a_file_that_was_replaced_after_it_was_indexed(tmp_path: Path) -> None:
    index = index_video(str(write_video(tmp_path / "v.mp4", options=FOUR_GROUPS)))
    write_video(tmp_path / "v.mp4", options={"g": "7", "bf": "0"}, ticks=range(0, 1600, 40))
    with pytest.raises(VideoReadError, match="not those that were indexed") as caught:
        read_frames(index, [39])
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
    packets = index_video(str(path)).packets
    assert packets is not None
    damaged_packet = int(packets.frame_packets[13])
    with av.open(str(path)) as container:
        positions = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    position, size = positions[damaged_packet]
    data = bytearray(path.read_bytes())
    data[position + 4 : position + size] = bytes(size - 4)
    path.write_bytes(data)

    index = index_video(str(path))
    assert index.num_frames == 40
    refused = []
    for number in range(40):
        try:
            (frame,) = read_frames(index, [number])
        except VideoReadError as error:
            refused.append((number, error))
        else:
            np.testing.assert_array_equal(frame.permute(1, 2, 0).numpy(), truth[number])
    assert 13 in dict(refused)
    assert set(dict(refused)) <= set(range(10, 20))
    assert all("at frame 1" in error.detail for _, error in refused)
    assert {error.cause for _, error in refused} == {"decode-error"}
    with pytest.raises(VideoReadError):
        read_frames(index, [0, 13, 39])


def test_a_damaged_first_frame_does_not_move_the_clock(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", options=FOUR_GROUPS)
    with av.open(str(path)) as container:
        packet = next(container.demux(video=0))
        position, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    data[position + size - 60 : position + size] = bytes(60)
    path.write_bytes(data)
    with pytest.raises(VideoReadError, match=r"its first frame is damaged|no frame can be decoded"):
        index_video(str(path))


def test_seeking_that_lands_wrong_costs_time_but_no_exactness(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", options=FOUR_GROUPS)
    truth = decode_in_order(path)
    index = index_video(str(path))
    assert index.packets is not None
    late = replace(index, packets=replace(index.packets, seek_ticks=index.packets.pts + 10**6))
    np.testing.assert_array_equal(read_frames(late, [25])[0].permute(1, 2, 0).numpy(), truth[25])


def test_key_frames_that_are_none_cost_time_but_no_exactness(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", options=ONE_GROUP)
    truth = decode_in_order(path)
    index = index_video(str(path))
    assert index.packets is not None
    everywhere = np.ones_like(index.packets.is_key)
    lying = replace(index, packets=replace(index.packets, is_key=everywhere))
    assert lying.packets is not None
    assert plan_runs(lying.packets, [30])[0][0] > 0
    np.testing.assert_array_equal(read_frames(lying, [30])[0].permute(1, 2, 0).numpy(), truth[30])


def test_a_crooked_display_matrix_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", num_frames=3, rotation=30)
    with pytest.raises(VideoReadError, match=r"its display matrix is no quarter turn"):
        index_video(str(path))


def test_cutting_by_copying_is_not_mistaken_for_a_loss(tmp_path: Path) -> None:
    source = write_video(tmp_path / "v.mkv", options=FOUR_GROUPS)
    for name in ("cut.mkv", "cut.mp4"):
        path = copy_packets(source, tmp_path / name, from_key_frame=2)
        assert index_video(str(path)).num_frames == 20


def test_the_error_survives_the_way_between_processes() -> None:
    error = VideoReadError("a.mp4", "empty", "the file is empty")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.path, copy.cause, copy.detail) == ("a.mp4", "empty", "the file is empty")
    assert copy.failure("id") == ("id", "a.mp4", "empty", "the file is empty")
