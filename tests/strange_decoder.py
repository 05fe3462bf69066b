"""Decoder processes that hang and crash at files called so."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vidreason.video import watchdog

PATCHED_DECODER = """
import builtins, ctypes, os, signal
import av

av_open, builtin_open = av.open, builtins.open

def open_video_strangely(file, *arguments, **options):
    if "hanging" in str(file):
        ctypes.PyDLL(None).pause()  # C code that keeps the interpreter's lock
    if "crashing" in str(file):
        os.kill(os.getpid(), signal.SIGSEGV)
    if "raising" in str(file):
        raise ValueError("31 is not a valid Type")
    return av_open(file, *arguments, **options)

def open_strangely(file, *arguments, **options):
    if "silent" in str(file):
        ctypes.PyDLL(None).pause()  # as a file system that does not answer
    return builtin_open(file, *arguments, **options)

av.open, builtins.open = open_video_strangely, open_strangely
os.kill(os.getpid(), signal.SIGTERM)  # the earliest that a scheduler could send it
"""


@contextmanager
def strange_decoder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Decoder processes hang at opening, crash at, hang at reading, or raise a library's error at,
    what is called ``hanging``, ``crashing``, ``silent`` and ``raising``; no decoder is there before
    or after.

    Args:
        folder: For a file.
        monkeypatch: Of the test.
    """
    end_decoder()
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(PATCHED_DECODER)
    monkeypatch.setattr(sys, "path", [str(folder / "site"), *sys.path])
    yield
    end_decoder()
    assert decoders() == []


def end_decoder() -> None:
    """End this process' decoder, if it has one."""
    if watchdog._decoder is not None:
        watchdog._decoder.stop()
        watchdog._decoder = None


def decoders() -> list[str]:
    """Command lines of the living, and the state of the dead, children that decode."""
    decoding = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_text().replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            continue
        if int(state[1]) == os.getpid() and ("decoder_process" in command or state[0] == "Z"):
            decoding.append(f"{state[0]} {command}")
    return decoding
