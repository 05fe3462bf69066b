"""Videos that were looked at lately: each is perceived once, however much is asked about it."""

import shutil
import tempfile
import time
import weakref
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

from vidreason.perception.perceiver import Perceiver, shown_tokens
from vidreason.perception.visual_tokens import VisualTokens
from vidreason.video.failures import VideoReadError
from vidreason.video.given import VideoLike, as_media
from vidreason.video.media import is_remote

_KEPT_VIDEOS = 8
"""Videos whose tokens stay in memory."""


class Look(NamedTuple):
    """A video that was looked at."""

    media: str
    start: float | None
    end: float | None
    tokens: VisualTokens
    """As the reasoner is shown them."""
    seconds: float
    """Time that perceiving took; next to none for a video that is still in memory."""


class PerceivedVideos:
    """Perceives videos, and keeps the tokens of the last ones.

    Args:
        perceiver: Perceives them.
    """

    def __init__(self, perceiver: Perceiver) -> None:
        self._perceiver = perceiver
        self._tokens: OrderedDict[tuple[object, ...], VisualTokens] = OrderedDict()
        # Files of videos that were in memory; they go with this object.
        self._folder = Path(tempfile.mkdtemp(prefix="vidreason-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def look(
        self, video: VideoLike, fps: float | None, start: float | None, end: float | None
    ) -> Look:
        """Return a video, or the span of it in seconds, with its visual tokens.

        Args:
            video: The video.
            fps: Frames a second, of frames alone.
            start: Of the span, None for the beginning.
            end: Of the span, None for the end.

        Raises:
            ValueError: It is not given in a form of :data:`~vidreason.video.given.VideoLike`.
            VideoReadError: It cannot be read.
        """
        media = as_media(video, self._folder, fps)
        began = time.perf_counter()
        # A file that has changed since is another video, and what has no file is never known.
        state: object = None
        if not is_remote(media) and Path(media).is_file():
            status = Path(media).stat()
            state = status.st_size, status.st_mtime_ns
        key = (media, state, start, end)
        if key not in self._tokens or state is None:
            try:
                self._tokens[key] = self._perceiver.perceive(media, start, end)
            except VideoReadError as error:
                if not isinstance(video, bytes):
                    raise
                # The file is one of our own making.
                raise VideoReadError("the given bytes", error.cause, error.detail) from None
        # The latest at the end; the earliest goes first.
        self._tokens.move_to_end(key)
        while len(self._tokens) > _KEPT_VIDEOS:
            self._tokens.popitem(last=False)
        tokens = shown_tokens(self._tokens[key], self._perceiver.config)
        return Look(media, start, end, tokens, time.perf_counter() - began)
