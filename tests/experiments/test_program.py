import errno
import json
import logging
import os
import signal
import sys

import pytest
import torch

from experiments.config import __main__ as config_program
from experiments.experiment_config import ExperimentConfig
from experiments.program import run_program
from vidreason.config import merge_config
from vidreason.devices import torch_device
from vidreason.video.failures import UnreadableVideosError
from vidreason.video.reader import VideoReadError


def run(program, *argv):
    return run_program(program, program="trial", description="Try.", argv=argv)


def test_the_configuration_reaches_the_program():
    seen = []
    assert run(seen.append, "run_dir=somewhere", "optimizer.learning_rate=0.5") == 0
    assert seen[0].run_dir == "somewhere"
    assert seen[0].optimizer.learning_rate == 0.5


def test_a_mistake_in_the_configuration_is_one_line(capsys):
    assert run(lambda config: None, "optimizer.learning_rat=1") == 2
    error = capsys.readouterr().err
    assert error.startswith("trial: ")
    assert "learning_rat" in error
    assert error.count("\n") == 1


def test_a_message_holds_no_secret_and_no_escape_of_the_terminal(capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789abcdef")

    def program(config):
        raise VideoReadError(
            "\x1b[2J", "unreachable", "hf_0123456789abcdef\x1b]0;t\x07\nat https://u:p@h"
        )

    assert run(program) == 1
    error = capsys.readouterr().err
    assert error == (
        r"trial: cannot read video '\x1b[2J': [secret]\x1b]0;t\x07 at https://[secret]@h" "\n"
    )


def test_a_warning_holds_no_secret_and_no_escape_of_the_terminal(capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789abcdef")
    # As where no handler is set up: pytest's own are left out.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    logger = logging.getLogger("a_reader")

    assert run(lambda config: logger.warning("%s: left out", "\x1b[2J hf_0123456789abcdef")) == 0
    assert capsys.readouterr().err == r"\x1b[2J [secret]: left out" "\n"


def test_an_unreadable_video_is_one_line(capsys):
    def program(config):
        raise VideoReadError("a.mp4", "no-video-stream", "no video stream")

    assert run(program) == 1
    assert capsys.readouterr().err == "trial: cannot read video 'a.mp4': no video stream\n"


def test_too_many_unreadable_videos_are_summed_up(capsys):
    def program(config):
        raise UnreadableVideosError("3 of 4\n  such as a.mp4")

    assert run(program) == 1
    assert capsys.readouterr().err == "trial: 3 of 4\n  such as a.mp4\n"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO])
def test_a_full_disk_and_its_like_are_one_line(capsys, code):
    def write(config):
        raise OSError(code, os.strerror(code), "runs/stage1/metrics.csv")

    assert run(write) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert os.strerror(code) in said
    assert "'runs/stage1/metrics.csv'" in said
    assert "start again" in said


def test_a_file_that_a_program_itself_has_lost_is_a_defect():
    def read(config):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "runs/partial")

    with pytest.raises(FileNotFoundError):
        run(read)


def test_an_error_that_is_not_for_the_user_keeps_its_traceback():
    with pytest.raises(ValueError, match="Expecting property name"):
        run(lambda config: json.loads("{"))  # raised in a library, so it is a defect of ours


def test_a_programs_own_status_is_kept():
    assert run(lambda config: 1) == 1


def test_print_config_prints_what_can_be_read_again(tmp_path, capsys):
    assert run(config_program.print_config, "seed=5", "data.train=[{reader: webvid, root: x}]") == 0
    file = tmp_path / "resolved.yaml"
    file.write_text(capsys.readouterr().out)
    expected = merge_config(
        ExperimentConfig, [], ["seed=5", "data.train=[{reader: webvid, root: x}]"]
    )
    assert merge_config(ExperimentConfig, [str(file)]) == expected


def test_torch_device():
    assert torch_device("cpu") == torch.device("cpu")
    assert torch_device("auto").type in ("cpu", "cuda")


def test_ctrl_c_is_one_line_and_130(capsys):
    def program(config):
        raise KeyboardInterrupt

    assert run(program) == 130
    assert capsys.readouterr().err.splitlines() == [
        "trial: ended by Ctrl-C; the same command goes on with what is missing"
    ]


def test_a_library_that_makes_an_exit_of_ctrl_c_changes_nothing(capsys):
    def program(config):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)  # as Lightning does

    assert run(program) == 130
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("status", [75, 130])
def test_a_program_that_stops_by_itself_has_said_so(capsys, status):
    def program(config):
        raise SystemExit(status)

    with pytest.raises(SystemExit) as stopped:
        run(program)
    assert stopped.value.code == status
    assert capsys.readouterr().err == ""


def test_sigterm_puts_things_in_order_and_is_143(capsys):
    ended = []

    def program(config):
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            ended.append("in order")

    assert run(program) == 143
    assert ended == ["in order"]
    assert capsys.readouterr().err.startswith("trial: ended by SIGTERM")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_forked_worker_ends_by_sigterm_as_ever():
    def program(config):
        child = os.fork()
        if child == 0:
            signal.raise_signal(signal.SIGTERM)
            os._exit(3)
        return -os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert run(program) == signal.SIGTERM


def test_ranks_of_a_launcher_end_by_sigterm_as_ever(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run(lambda config: int(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)) == 1


def test_who_handles_sigterm_keeps_it():
    def handler(*_):
        raise AssertionError

    former = signal.signal(signal.SIGTERM, handler)
    try:
        assert run(lambda config: int(signal.getsignal(signal.SIGTERM) == handler)) == 1
    finally:
        signal.signal(signal.SIGTERM, former)


def test_a_reader_that_has_gone_away_is_no_error():
    """As ``| head``: in a child, whose stdout is a pipe that nobody reads."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 9
        try:
            os.close(reading)
            sys.stdout = os.fdopen(writing, "w")
            status = run(lambda config: print("a line\n" * 100_000))
            sys.stdout.flush()
        finally:
            os._exit(status)
    os.close(reading)
    os.close(writing)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 141


def test_a_broken_pipe_that_is_not_stdout_is_a_defect(monkeypatch):
    def program(config):
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        run(program)


def test_an_override_without_effect_is_said_once(capsys):
    given = ("predict=true", "video=[a.mp4]", "seed=1", "predict=false")
    assert run_program(lambda config: 0, program="fit", description="Train.", argv=given) == 0
    assert capsys.readouterr().err.splitlines() == [
        "fit: predict has no effect here; it is for generate",
        "fit: video has no effect here; it is for generate",
    ]
