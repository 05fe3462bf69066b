"""Memory of this process, as Linux counts it."""

import ctypes
import gc
import re
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


@contextmanager
def limited_memory(headroom_bytes: int) -> Iterator[None]:
    """Limit the address space to this much more than is mapped now.

    Taking a size that a file claims then fails, and does not exhaust the machine.
    """
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (mapped + headroom_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
