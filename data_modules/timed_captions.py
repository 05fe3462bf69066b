"""Captions that say when each event happened: "... after 1.5 seconds"."""

import re
from collections.abc import Iterator

STEP_SECONDS = 0.5
"""Times in such captions are rounded to multiples of this."""

_TIMED = re.compile(
    r"(?P<event>[^.]+?) after (?P<seconds>\d{1,9}(?:\.\d{1,9})?) seconds?\.(?:\s|$)"
)


def timed_events(caption: str) -> Iterator[tuple[str, float]]:
    """Yield each event of a caption with its time, in seconds from the start of the video."""
    for timed in _TIMED.finditer(caption):
        yield timed["event"].strip(), float(timed["seconds"])
