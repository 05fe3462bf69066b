"""Memory of this process, as Linux counts it."""

import ctypes
import gc
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

_STATUS = Path("/proc/self/status")


def memory(field: str) -> int:
    """Bytes: ``RssAnon`` the process' own, ``VmRSS`` with mapped files, ``VmHWM`` its peak."""
    return 1024 * int(re.search(rf"{field}:\s+(\d+) kB", _STATUS.read_text())[1])


def peak_of(run: Callable[[], object]) -> int:
    """Bytes by which memory rises, at most, while ``run`` is at work."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what earlier tests have freed would not be asked for anew
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = memory("VmRSS")
    run()
    return memory("VmHWM") - before
