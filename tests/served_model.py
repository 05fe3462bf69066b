"""A tiny random video language model behind ``transformers serve``, in a process of its own."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

START_SECONDS = 240
_ELSE = "{% else %}{{ part['text'] }}"
_IMAGE = "{% elif part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"


@contextmanager
def served_model(parent: Path) -> Iterator[tuple[str, str]]:
    """Address and model id of a server; skips the test where its packages are not installed."""
    for package in ("fastapi", "uvicorn", "rich"):
        pytest.importorskip(package, reason="needs transformers[serving]")
    from tiny_video_models import qwen2_5_vl, write_tiny_video_model

    folder = parent / "model"
    write_tiny_video_model(qwen2_5_vl, folder)
    template = folder / "chat_template.jinja"
    written = template.read_text()
    assert _ELSE in written
    template.write_text(written.replace(_ELSE, _IMAGE + _ELSE))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with (parent / "log").open("wb") as log:
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
