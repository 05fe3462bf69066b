"""One run folder has one writer, and nothing that was killed keeps the next one out."""

import errno
import fcntl
import json
import logging
import os
import time
from types import SimpleNamespace

import pytest

from experiments import writer_lock
from experiments.fit.debug_run import clear_debug_run
from experiments.writer_lock import SILENT_SECONDS, sole_writer

ANOTHER_HOST = {"program": "fit", "host": "node17", "pid": 1, "since": "2026-01-01 00:00:00"}


@pytest.fixture(autouse=True)
def _first_of_all_ranks(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK"):
        monkeypatch.delenv(name, raising=False)


def in_child(act):
    """The exit status of ``act`` in a forked process, which then ends at once."""
    child = os.fork()
    if child == 0:
        status = 9
        try:
            status = act() or 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_the_second_is_refused_in_a_line(tmp_path):
    with sole_writer(tmp_path / "run", "fit"):
        with (
            pytest.raises(ValueError, match=rf"fit, process {os.getpid()} on .*: wait") as error,
            sole_writer(tmp_path / "run", "fit"),
        ):
            pass
        assert "\n" not in str(error.value)
        with sole_writer(tmp_path / "run", "evaluate"), sole_writer(tmp_path / "other", "fit"):
            pass
    with sole_writer(tmp_path / "run", "fit"):
        pass


def test_another_process_is_refused(tmp_path):
    def attempt():
        try:
            with sole_writer(tmp_path, "fit"):
                return 1
        except ValueError:
            return 5

    with sole_writer(tmp_path, "fit"):
        assert in_child(attempt) == 5
    assert in_child(attempt) == 1


def test_a_killed_process_leaves_no_lock(tmp_path):
    def die():
        with sole_writer(tmp_path, "fit"):
            os.kill(os.getpid(), 9)

    assert in_child(die) == -9
    assert "pid" in (tmp_path / "fit.lock").read_text()
    with sole_writer(tmp_path, "fit"):
        pass


def test_a_forked_worker_that_outlives_a_killed_run_keeps_nothing(tmp_path):
    reading, writing = os.pipe()
    from_worker, to_parent = os.pipe()

    def die_with_a_worker():
        with sole_writer(tmp_path, "fit"):
            if os.fork() == 0:
                os.write(to_parent, b"x")
                os.read(reading, 1)  # until the test is over
                os._exit(0)
            os.read(from_worker, 1)  # a worker that has not run yet has closed nothing
            os.kill(os.getpid(), 9)

    assert in_child(die_with_a_worker) == -9
    with sole_writer(tmp_path, "fit"):
        pass
    os.write(writing, b"x")
    for descriptor in (reading, writing, from_worker, to_parent):
        os.close(descriptor)


def test_an_error_gives_the_lock_back(tmp_path):
    with pytest.raises(RuntimeError), sole_writer(tmp_path, "fit"):
        raise RuntimeError
    assert (tmp_path / "fit.lock").read_bytes() == b""
    with sole_writer(tmp_path, "fit"):
        pass


@pytest.mark.parametrize(
    "launched",
    [
        *({name: "1"} for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK")),
        {"LOCAL_RANK": "0", "SLURM_PROCID": "8"},  # the first of the second node
        {"RANK": "0", "SLURM_PROCID": "1"},  # inherited from what started the launcher
    ],
)
def test_other_ranks_hold_none(tmp_path, monkeypatch, launched):
    with sole_writer(tmp_path, "fit"):
        for name, value in launched.items():
            monkeypatch.setenv(name, value)
        with sole_writer(tmp_path, "fit"):
            pass


def locked_by(path, holder, *, silent_seconds=0.0):
    path.write_text(json.dumps(holder))
    moment = time.time() - silent_seconds
    os.utime(path, (moment, moment))


def refused(*_):
    raise BlockingIOError(errno.EWOULDBLOCK, "Resource temporarily unavailable")


def test_the_lock_of_a_crashed_node_does_not_count_for_ever(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(fcntl, "flock", refused)
    locked_by(tmp_path / "fit.lock", ANOTHER_HOST)
    with (
        pytest.raises(ValueError, match=r"fit, process 1 on node17 since 2026"),
        sole_writer(tmp_path, "fit"),
    ):
        pass
    locked_by(tmp_path / "fit.lock", ANOTHER_HOST, silent_seconds=SILENT_SECONDS + 60)
    with caplog.at_level(logging.WARNING), sole_writer(tmp_path, "fit"):
        assert "over from fit, process 1 on node17" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["fit.lock"]


def test_on_this_host_the_system_knows(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", refused)
    here = {**ANOTHER_HOST, "host": writer_lock.socket.gethostname()}
    locked_by(tmp_path / "fit.lock", here, silent_seconds=SILENT_SECONDS + 60)
    with pytest.raises(ValueError, match=r"is being written"), sole_writer(tmp_path, "fit"):
        pass


@pytest.mark.parametrize(("silent", "warned"), [(0.0, True), (SILENT_SECONDS + 60, False)])
def test_without_locks_nobody_is_refused(tmp_path, monkeypatch, caplog, silent, warned):
    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    locked_by(tmp_path / "fit.lock", ANOTHER_HOST, silent_seconds=silent)
    with caplog.at_level(logging.WARNING), sole_writer(tmp_path, "fit"):
        assert ("may be writing to" in caplog.text) == warned


def test_the_holder_is_heard_of(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_lock, "HEARTBEAT_SECONDS", 0.001)
    with sole_writer(tmp_path, "fit"):
        os.utime(tmp_path / "fit.lock", (0, 0))
        deadline = time.monotonic() + 60
        while (tmp_path / "fit.lock").stat().st_mtime == 0:
            assert time.monotonic() < deadline
            time.sleep(0.001)


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"pid": 3}', "\x00"])
def test_whatever_the_file_says_it_refuses_nobody(tmp_path, content):
    (tmp_path / "fit.lock").write_text(content)
    with sole_writer(tmp_path, "fit"):
        pass


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    message = r"nothing can be written to .*choose another run_dir"
    with pytest.raises(ValueError, match=message), sole_writer(tmp_path / "file", "fit"):
        pass


def test_a_debugging_run_is_emptied_but_for_the_lock(tmp_path):
    folder = tmp_path / "debug" / "trial"
    config = SimpleNamespace(debug="trial", run_dir=str(folder))
    with sole_writer(folder, "fit"):
        clear_debug_run(config)
        (folder / "checkpoints").mkdir()
        (folder / "run.json").write_text("{}")
        clear_debug_run(config)
        assert [path.name for path in folder.iterdir()] == ["fit.lock"]
        (folder / "mine.txt").write_text("")
        with pytest.raises(ValueError, match=r"would be emptied"):
            clear_debug_run(config)
