"""Outcomes of hostile inputs, one of a short list for each, watched while they are read."""

import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from vidreason.endpoints.replies import BadReplyError
from vidreason.video.failures import VideoReadError

CPU_SECONDS = 10
"""CPU time that an input may take; a thousand times what one takes, whatever the machine does."""
NAMED = (ValueError, VideoReadError, BadReplyError)
"""Errors that may leave a reader. A subclass of ValueError of a library does not count as ours."""
_PACKAGES = ("vidreason", "data_modules", "callbacks", "experiments")
_CHECKOUT = Path(__file__).parents[2]
_EXECUTED = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "pty.spawn")
_CONNECTED = ("socket.connect", "socket.getaddrinfo", "urllib.Request")
_SECRETS = ("/etc/passwd", b"/etc/passwd")

_events: list[str] | None = None


class HungError(BaseException):
    """An input took more CPU time than any can need."""


def _listen(event: str, arguments: tuple[object, ...]) -> None:
    if _events is None:
        return
    if event in _EXECUTED or event in _CONNECTED:
        _events.append(f"{event} {arguments!r:.200}")
    elif event == "open" and arguments[0] in _SECRETS:
        _events.append(f"opened {arguments[0]!r}")


sys.addaudithook(_listen)


@contextmanager
def _watched(events: list[str]) -> Iterator[None]:
    global _events

    def hung(_number: int, _frame: FrameType | None) -> None:
        raise HungError

    former = signal.signal(signal.SIGPROF, hung)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    _events = events
    try:
        yield
    finally:
        _events = None
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, former)


def outcome(read: Callable[[], bool], names: tuple[str, ...]) -> str:
    """Read one input and say what became of it.

    Args:
        read: Returns whether something was left out and counted.
        names: Texts of which an error has to name one, such as the file.

    Returns:
        ``read``, ``counted`` or ``named``; else what is wrong.
    """
    events: list[str] = []
    try:
        with _watched(events):
            result = "counted" if read() else "read"
    except HungError:
        return "hung"
    except NAMED as error:
        result = "named" if _is_ours(error) else f"foreign: {type(error).__name__}: {error!s:.300}"
        if result == "named" and names and not any(name in str(error) for name in names):
            result = f"unnamed: {error!s:.300}"
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        result = f"other: {type(error).__name__}: {error!s:.200} ({last.filename}:{last.lineno})"
    return f"executed: {events}" if events else result


def _is_ours(error: BaseException) -> bool:
    """Return whether our own code raised the error, so that its message is meant for the user."""
    if isinstance(error, VideoReadError | BadReplyError):
        return True
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None:
        return False
    file = Path(last.tb_frame.f_code.co_filename)
    return file.is_relative_to(_CHECKOUT) and file.relative_to(_CHECKOUT).parts[0] in _PACKAGES


class Outcomes:
    """Outcomes of many inputs, and the seeds of those that are wrong."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []

    def add(self, seed: str, result: str) -> None:
        """Count one."""
        self.counts[result.partition(":")[0]] += 1
        if result not in ("read", "counted", "named"):
            self.wrong.append(f"seed {seed!r}: {result}")

    def check(self) -> None:
        """Fail with the seeds of all wrong outcomes."""
        assert not self.wrong, f"{len(self.wrong)} of {self.counts.total()}:\n" + "\n".join(
            self.wrong[:20]
        )
