"""Checks that a file is there, its identity, and the hash of its content."""

import os
import stat
from typing import NamedTuple

from vidreason.video.failures import VideoReadError, read_error
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
    """Whether the identity was the same afterwards; else the file is still being written."""


def check_media(media: str) -> None:
    """Raise a ``VideoReadError`` that says so unless ``media`` is there, a file, and not empty."""
    size = identify(media).size
    member = parse_member(media)
    file = media if member is None else member.archive
    if not is_remote(file) and not stat.S_ISREG(os.stat(file).st_mode):
        raise VideoReadError(media, "not-a-video", "it is not a regular file")
    if size == 0:
        raise VideoReadError(media, "empty", "the file is empty")


def identify(media: str) -> MediaIdentity:
    """Identify a file without reading it.

    Raises:
        VideoReadError: It is missing or cannot be reached.
    """
    try:
        return media_identity(media)
    except OSError as error:
        raise read_error(media, error) from error


def read_content(media: str) -> MediaContent:
    """Read a whole file for its hash.

    Raises:
        VideoReadError: It is missing, empty, no regular file, or cannot be read.
    """
    try:
        check_media(media)
        identity = identify(media)
        sha256 = hash_media(media)
    except OSError as error:
        raise read_error(media, error) from error
    return MediaContent(sha256, identity, identify(media) == identity)
