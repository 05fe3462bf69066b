import json

import pytest
import torch

from experiments import config as config_program
from experiments.experiment_config import ExperimentConfig
from experiments.program import run_program, torch_device
from vidreason.config import merge_config
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
