"""A video that hangs or crashes its decoder counts as unreadable, and the next one is read."""

import errno
import gc
import hashlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from coded_video import decode_in_order, write_video
from strange_decoder import decoders, end_decoder, strange_decoder
from torch.utils.data import DataLoader, Dataset

import vidreason.video.reader as reader_module
from vidreason.video import watchdog
from vidreason.video.decoder_process import SharedPictures
from vidreason.video.reader import DIRECT, GUARDED, VideoReader, VideoReadError


@pytest.fixture
def decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Decoder processes that hang and crash at files called so; none is there before or after."""
    with strange_decoder(tmp_path, monkeypatch):
        yield


@pytest.fixture
def videos(tmp_path: Path) -> list[Path]:
    """A hanging one, a crashing one, one of neither kind."""
    good = write_video(tmp_path / "good.mp4")
    paths = [tmp_path / "hanging.mp4", tmp_path / "crashing.mp4"]
    for path in paths:
        path.write_bytes(good.read_bytes())
    return [*paths, good]


def test_frames_are_those_that_are_read_directly(tmp_path: Path, decoder: None) -> None:
    path = write_video(tmp_path / "v.mp4")
    index = GUARDED.index(str(path))
    other = GUARDED.index(str(write_video(tmp_path / "w.mkv", first_number=40)))
    truth = torch.from_numpy(decode_in_order(path)).permute(0, 3, 1, 2)
    for wanted in ([3, 39, 3], [0], []):
        frames = GUARDED.read_frames(index, wanted)
        assert torch.equal(frames, truth[wanted])
        assert frames.stride() == DIRECT.read_frames(index, wanted).stride()
        assert torch.equal(GUARDED.read_frames(other, wanted), DIRECT.read_frames(other, wanted))
    assert len(decoders()) == 1
    frames = GUARDED.read_frames(index, [5])
    end_decoder()
    frames += 1  # the memory outlives its process, and is this one's own
    assert torch.equal(frames - 1, truth[[5]])


def test_a_hang_is_killed_and_the_next_video_is_read(videos: list[Path], decoder: None) -> None:
    hanging, crashing, good = map(str, videos)
    GUARDED.read_frames(GUARDED.index(good), [0])
    started = time.monotonic()
    with pytest.raises(VideoReadError, match=r"timed out after 0\.2 s") as caught:
        VideoReader(0.2).index(hanging)
    assert time.monotonic() - started < 2
    assert (caught.value.path, caught.value.cause) == (hanging, "timed-out")
    assert decoders() == []
    with pytest.raises(VideoReadError, match="ended by SIGSEGV") as caught:
        GUARDED.index(crashing)
    assert (caught.value.path, caught.value.cause) == (crashing, "crashed")
    index = GUARDED.index(good)
    assert GUARDED.read_frames(index, [1]).shape == (1, 3, 48, 64)
    Path(good).rename(hanging)
    with pytest.raises(VideoReadError, match=r"timed out after 0\.2 s"):
        VideoReader(0.2).read_frames(replace(index, path=hanging), [1])


def test_an_error_keeps_the_decoder_and_its_index(videos: list[Path], decoder: None) -> None:
    good = str(videos[2])
    index = GUARDED.index(good)
    with pytest.raises(VideoReadError, match="there is no such file"):
        GUARDED.read_frames(replace(index, path="/none.mp4"), [0])
    with pytest.raises(VideoReadError) as caught:
        GUARDED.index("/none.mp4")
    assert caught.value.cause == "missing"
    assert torch.equal(GUARDED.read_frames(index, [7]), DIRECT.read_frames(index, [7]))
    with pytest.raises(ValueError, match="40 is out of range"):
        GUARDED.read_frames(index, [40])
    raising = videos[2].with_name("raising.mp4")
    raising.write_bytes(videos[2].read_bytes())
    with pytest.raises(VideoReadError, match="ends with ValueError: 31 is not a valid") as caught:
        GUARDED.index(str(raising))
    assert (caught.value.path, caught.value.cause) == (str(raising), "decode-error")
    # The traceback of the other process is this error's cause.
    assert "in open_video_strangely" in str(caught.value.__cause__)
    assert str(caught.value.__cause__).endswith("ValueError: 31 is not a valid Type")
    assert len(decoders()) == 1


def test_memory_that_is_not_there_is_a_fault_of_the_file(
    videos: list[Path], decoder: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = GUARDED.index(str(videos[2]))

    def no_memory(pictures: SharedPictures, shape: tuple[int, ...]) -> None:
        raise OSError(errno.ENOMEM, f"cannot map {shape}")

    monkeypatch.setattr(SharedPictures, "array", no_memory)
    with pytest.raises(VideoReadError, match=r"cannot map \(1, 48, 64, 3\)") as caught:
        GUARDED.read_frames(index, [3])
    assert isinstance(caught.value.__cause__, OSError)
    monkeypatch.undo()
    large = replace(index, width=2**20, height=2**20)
    with pytest.raises(VideoReadError):
        GUARDED.read_frames(large, [3])
    assert len(GUARDED.read_frames(index, [3])) == 1


def test_a_server_that_never_answers(decoder: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v.mp4"
        # Connections are taken by the system, and nobody reads them.
        reader = VideoReader(0.4)
        for read in (reader.index, reader.identify, reader.read_content):
            with pytest.raises(VideoReadError, match=r"timed out after 0\.4 s") as caught:
                read(url)
            assert caught.value.cause == "timed-out"


def test_a_hash_is_given_up_like_a_frame(videos: list[Path], decoder: None) -> None:
    good = videos[2]
    silent = good.rename(good.with_name("silent.mp4"))
    with pytest.raises(VideoReadError, match=r"timed out after 0\.2 s") as caught:
        VideoReader(0.2).read_content(str(silent))
    assert (caught.value.path, caught.value.cause) == (str(silent), "timed-out")
    silent.rename(good)
    content = GUARDED.read_content(str(good))
    assert content == DIRECT.read_content(str(good))
    assert content.is_settled
    assert content.identity == GUARDED.identify(str(good))
    assert content.sha256 == hashlib.sha256(good.read_bytes()).hexdigest()


def test_what_is_no_file_has_no_hash(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "empty.mp4").touch()
    causes = {"pipe.mp4": "not-a-video", "empty.mp4": "empty", "none.mp4": "missing"}
    for name, cause in causes.items():
        with pytest.raises(VideoReadError) as caught:
            DIRECT.read_content(str(tmp_path / name))
        assert caught.value.cause == cause


class _CountingHandler(SimpleHTTPRequestHandler):
    fetched: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.fetched.append(self.path)
        super().do_GET()

    def log_message(self, *arguments: object) -> None:
        pass


def test_a_remote_video_is_hashed_and_decoded_by_one_transfer(
    videos: list[Path], decoder: None
) -> None:
    handler = partial(_CountingHandler, directory=str(videos[2].parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/good.mp4"
        content = GUARDED.read_content(url)
        frames = GUARDED.read_frames(GUARDED.index(url), [3])
        server.shutdown()
        thread.join()
    assert _CountingHandler.fetched == ["/good.mp4"]
    assert content.sha256 == hashlib.sha256(videos[2].read_bytes()).hexdigest()
    assert torch.equal(frames, DIRECT.read_frames(DIRECT.index(str(videos[2])), [3]))


def test_every_frame_is_decoded_within_limits(
    videos: list[Path], decoder: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging, _, good = map(str, videos)
    damaged = Path(good).with_name("damaged.mp4")
    data = bytearray(Path(good).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 300] = bytes(300)
    damaged.write_bytes(data)
    for at_once in (7, 40, 250):
        monkeypatch.setattr(reader_module, "CHECKED_AT_ONCE", at_once)
        GUARDED.check_frames(good)
        details = set()
        for limit in (30, None):
            with pytest.raises(VideoReadError, match="it is damaged after frame") as caught:
                VideoReader(limit).check_frames(str(damaged))
            details.add(caught.value.detail)
        assert len(details) == 1
    with pytest.raises(VideoReadError, match=r"timed out after 0\.2 s"):
        VideoReader(0.2).check_frames(hanging)


def test_signals_to_the_whole_group_leave_the_decoder_to_its_parent(
    videos: list[Path], decoder: None
) -> None:
    """Its parent may still want the video in hand; one of them came before it had started."""
    index = GUARDED.index(str(videos[2]))
    process_id = watchdog.decoder_process_id()
    assert process_id is not None
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        os.kill(process_id, number)
        assert len(GUARDED.read_frames(index, [3])) == 1
    assert watchdog.decoder_process_id() == process_id
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert not {signal.SIGTERM, signal.SIGINT, signal.SIGUSR1} & blocked


def test_urls_that_are_not_read(decoder: None) -> None:
    for limit in (30, None):
        with pytest.raises(VideoReadError, match="the protocol 'nosuch' is not read") as caught:
            VideoReader(limit).read_content("nosuch://a/b.mp4")
        assert caught.value.cause == "unsupported"
    assert len(decoders()) == 1


def test_a_pipe_is_no_video_and_is_not_waited_for(tmp_path: Path, decoder: None) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(VideoReadError, match="it is not a regular file"):
        GUARDED.index(str(tmp_path / "pipe.mp4"))


class _Videos(Dataset[tuple[str, int, list[str]]]):
    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, item: int) -> tuple[str, int, list[str]]:
        try:
            index = VideoReader(0.5).index(str(self.paths[item]))
            num_frames = len(VideoReader(0.5).read_frames(index, range(40)))
        except VideoReadError as error:
            return error.cause, os.getpid(), decoders()
        return str(num_frames), os.getpid(), decoders()


def test_a_data_loaders_worker_survives(videos: list[Path], decoder: None) -> None:
    hanging, crashing, good = videos
    GUARDED.index(str(good))  # the workers are forked with a decoder running
    dataset = _Videos([good, hanging, good, crashing, good])
    loader = DataLoader(dataset, batch_size=None, num_workers=1)
    rows = list(loader)
    assert [row[0] for row in rows] == ["40", "timed-out", "40", "crashed", "40"]
    assert len({worker for _, worker, _ in rows}) == 1
    assert [len(children) for _, _, children in rows] == [1, 0, 1, 0, 1]
    assert len(decoders()) == 1  # this process' own, untouched
    assert len(DIRECT.read_frames(GUARDED.index(str(good)), [0, 1])) == 2
    del loader
    gc.collect()


def test_a_relative_path_is_where_this_process_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoder: None
) -> None:
    for number, name in enumerate(("one", "two")):
        (tmp_path / name).mkdir()
        write_video(tmp_path / name / "v.mp4", first_number=40 * number)
        monkeypatch.chdir(tmp_path / name)
        frames = GUARDED.read_frames(GUARDED.index("v.mp4"), [0, 1])
        assert torch.equal(frames, DIRECT.read_frames(DIRECT.index("v.mp4"), [0, 1]))
    assert len(decoders()) == 1


def test_a_decoder_that_does_not_start_is_no_fault_of_the_video(
    videos: list[Path], decoder: None, tmp_path: Path
) -> None:
    (tmp_path / "site" / "sitecustomize.py").write_text("raise SystemExit(3)")
    with pytest.raises(RuntimeError, match="the process that decodes videos does not start"):
        GUARDED.index(str(videos[2]))
