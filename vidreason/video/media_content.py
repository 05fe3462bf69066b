"""Checks that a file is one, and the hash of its content."""

import os
import stat
from typing import NamedTuple

from vidreason.video.failures import VideoReadError
from vidreason.video.media import (
    MediaIdentity,
    hash_media,
    is_remote,
    media_identity,
    parse_member,
)


class MediaContent(NamedTuple):
    """Result of reading a file once."""

    sha256: str
    """As hex digits."""
    identity: MediaIdentity
    """Before it was read."""
    is_settled: bool
    """True if the identity was the same afterwards; else the file is still being written."""


def check_media(media: str) -> None:
    """Raise an error that says so unless ``media`` is there, a file, and not empty."""
    size = media_identity(media).size
    member = parse_member(media)
    file = media if member is None else member.archive
    if not is_remote(file) and not stat.S_ISREG(os.stat(file).st_mode):
        raise VideoReadError(media, "not-a-video", "it is not a regular file")
    if size == 0:
        raise VideoReadError(media, "empty", "the file is empty")


def read_content(media: str) -> MediaContent:
    """Read a whole file for its hash.

    Raises:
        VideoReadError: It is empty, or no regular file.
        OSError: It is missing, or cannot be read.
    """
    check_media(media)
    identity = media_identity(media)
    sha256 = hash_media(media)
    return MediaContent(sha256, identity, media_identity(media) == identity)
