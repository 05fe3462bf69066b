"""A video that hangs or crashes its decoder counts as unreadable, and the next one is read."""

import gc
import os
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from coded_video import decode_in_order, write_video
from torch.utils.data import DataLoader, Dataset

from vidreason.video import watchdog
from vidreason.video.reader import VideoReadError, index_video, read_frames

PATCHED_DECODER = """
import ctypes, os, signal
import av

open_as_usual = av.open

def open_strangely(file, *arguments, **options):
    if "hanging" in str(file):
        ctypes.PyDLL(None).pause()  # C code that keeps the interpreter's lock
    if "crashing" in str(file):
        os.kill(os.getpid(), signal.SIGSEGV)
    return open_as_usual(file, *arguments, **options)

av.open = open_strangely
"""


@pytest.fixture
def decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Decoder processes that hang and crash at files called so; none is there before or after."""
    _end_decoder()
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(PATCHED_DECODER)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    yield
    _end_decoder()
    assert _children() == []


def _end_decoder() -> None:
    if watchdog._decoder is not None:
        watchdog._decoder.stop()
        watchdog._decoder = None


def _children(process: int | str = "self") -> list[str]:
    """Command lines of the living, and the state of the dead, children that decode."""
    own = os.getpid() if process == "self" else int(process)
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_text().replace("\0", " ")
        except FileNotFoundError:
            continue
        if int(state[1]) == own and ("decoder_process" in command or state[0] == "Z"):
            found.append(f"{state[0]} {command}")
    return found


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
    index = index_video(str(path), timeout_seconds=30)
    other = index_video(str(write_video(tmp_path / "w.mkv", first_number=40)), timeout_seconds=30)
    truth = torch.from_numpy(decode_in_order(path)).permute(0, 3, 1, 2)
    for wanted in ([3, 39, 3], [0], []):
        frames = read_frames(index, wanted, timeout_seconds=30)
        assert torch.equal(frames, truth[wanted])
        assert frames.stride() == read_frames(index, wanted).stride()
        assert torch.equal(
            read_frames(other, wanted, timeout_seconds=30), read_frames(other, wanted)
        )
    assert len(_children()) == 1
    frames = read_frames(index, [5], timeout_seconds=30)
    _end_decoder()
    frames += 1  # the memory outlives its process, and is this one's own
    assert torch.equal(frames - 1, truth[[5]])


def test_a_hang_is_killed_and_the_next_video_is_read(videos: list[Path], decoder: None) -> None:
    hanging, crashing, good = map(str, videos)
    read_frames(index_video(good, timeout_seconds=30), [0], timeout_seconds=30)
    started = time.monotonic()
    with pytest.raises(VideoReadError, match=r"timed out after 0\.2 s") as caught:
        index_video(hanging, timeout_seconds=0.2)
    assert time.monotonic() - started < 2
    assert (caught.value.path, caught.value.cause) == (hanging, "timed-out")
    assert _children() == []
    with pytest.raises(VideoReadError, match="ended by SIGSEGV") as caught:
        index_video(crashing, timeout_seconds=30)
    assert (caught.value.path, caught.value.cause) == (crashing, "crashed")
    index = index_video(good, timeout_seconds=30)
    assert read_frames(index, [1], timeout_seconds=30).shape == (1, 3, 48, 64)
    Path(good).rename(hanging)
    with pytest.raises(VideoReadError, match=r"timed out after 0\.2 s"):
        read_frames(replace(index, path=hanging), [1], timeout_seconds=0.2)


def test_an_error_keeps_the_decoder_and_its_index(videos: list[Path], decoder: None) -> None:
    good = str(videos[2])
    index = index_video(good, timeout_seconds=30)
    with pytest.raises(VideoReadError, match="there is no such file"):
        read_frames(replace(index, path="/none.mp4"), [0], timeout_seconds=30)
    with pytest.raises(VideoReadError) as caught:
        index_video("/none.mp4", timeout_seconds=30)
    assert caught.value.cause == "missing"
    assert torch.equal(read_frames(index, [7], timeout_seconds=30), read_frames(index, [7]))
    with pytest.raises(ValueError, match="40 is out of range"):
        read_frames(index, [40], timeout_seconds=30)
    assert len(_children()) == 1


def test_a_server_that_never_answers(decoder: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v.mp4"
        # Connections are taken by the system, and nobody reads them.
        with pytest.raises(VideoReadError, match="timed out after 1 s") as caught:
            index_video(url, timeout_seconds=1)
    assert caught.value.cause == "timed-out"


def test_a_pipe_is_no_video_and_is_not_waited_for(tmp_path: Path, decoder: None) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(VideoReadError, match="it is not a regular file"):
        index_video(str(tmp_path / "pipe.mp4"), timeout_seconds=30)


class _Videos(Dataset[tuple[str, int, list[str]]]):
    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, item: int) -> tuple[str, int, list[str]]:
        try:
            index = index_video(str(self.paths[item]), timeout_seconds=0.5)
            num_frames = len(read_frames(index, range(40), timeout_seconds=0.5))
        except VideoReadError as error:
            return error.cause, os.getpid(), _children()
        return str(num_frames), os.getpid(), _children()


def test_a_data_loaders_worker_survives(videos: list[Path], decoder: None) -> None:
    hanging, crashing, good = videos
    index_video(str(good), timeout_seconds=30)  # the workers are forked with a decoder running
    dataset = _Videos([good, hanging, good, crashing, good])
    loader = DataLoader(dataset, batch_size=None, num_workers=1)
    rows = list(loader)
    assert [row[0] for row in rows] == ["40", "timed-out", "40", "crashed", "40"]
    assert len({worker for _, worker, _ in rows}) == 1
    assert [len(children) for _, _, children in rows] == [1, 0, 1, 0, 1]
    assert len(_children()) == 1  # this process' own, untouched
    assert len(read_frames(index_video(str(good), timeout_seconds=30), [0, 1])) == 2
    del loader
    gc.collect()


def test_a_decoder_that_does_not_start_is_no_fault_of_the_video(
    videos: list[Path], decoder: None, tmp_path: Path
) -> None:
    (tmp_path / "site" / "sitecustomize.py").write_text("raise SystemExit(3)")
    with pytest.raises(RuntimeError, match="the process that decodes videos does not start"):
        index_video(str(videos[2]), timeout_seconds=30)
