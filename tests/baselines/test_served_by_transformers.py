"""A tiny video language model behind ``transformers serve``, asked as a baseline."""

import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest
import torch
from blind_frames import no_frames

from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.endpoint import Endpoint
from vidreason.baselines.frames import Frames
from vidreason.endpoints.config import EndpointConfig
from vidreason.example import Example
from vidreason.reasoning.reasoner_config import DecodingConfig

START_SECONDS = 240
_ELSE = "{% else %}{{ part['text'] }}"
_IMAGE = "{% elif part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Address and model id of a server in a process of its own."""
    for package in ("fastapi", "uvicorn", "rich"):
        pytest.importorskip(package, reason="needs transformers[serving]")
    from tiny_video_models import qwen2_5_vl, write_tiny_video_model

    folder = tmp_path_factory.mktemp("served") / "model"
    write_tiny_video_model(qwen2_5_vl, folder)
    template = folder / "chat_template.jinja"
    written = template.read_text()
    assert _ELSE in written
    template.write_text(written.replace(_ELSE, _IMAGE + _ELSE))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with (folder.parent / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(f"http://127.0.0.1:{port}/health"):
            assert process.poll() is None, Path(log.name).read_text()[-2000:]
            assert time.monotonic() < deadline, Path(log.name).read_text()[-2000:]
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1", str(folder)
    finally:
        process.terminate()
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5):
            return True
    except OSError:
        return False


@pytest.mark.slow
def test_frames_reach_a_model_that_is_served(served, tmp_path):
    url, model = served
    config = BaselineConfig(
        kind="endpoint",
        weights={"model": model},
        num_frames=3,
        replies=str(tmp_path / "replies.sqlite"),
        endpoint=EndpointConfig(base_url=url, api_key_variable="", timeout_seconds=120),
    )
    system = Endpoint.load(config, DecodingConfig(max_new_tokens=4), torch.device("cpu"))
    pixels = torch.zeros(3, 3, 56, 56, dtype=torch.uint8)
    seen = Frames(pixels, (0.5, 1.5, 2.5), (5, 15, 25), 30, 3.0)
    other = seen._replace(pixels=pixels + 200)
    question = Example(
        id="q", corpus="nextqa", media="m", video_id="v", prompt="What is it?", response=""
    )
    shown, bright, blind = system.answer([seen, other, no_frames(seen)], [question] * 3)
    assert shown.num_generated_tokens == bright.num_generated_tokens == 4
    # The pictures are tokens of the prompt, as many of each video, and they change the answer.
    assert shown.num_prompt_tokens == bright.num_prompt_tokens > blind.num_prompt_tokens
    assert shown.output != bright.output
