"""The one boundary of reading videos: whatever goes wrong with a file is a ``VideoReadError``."""

from collections.abc import Iterator
from contextlib import contextmanager

from av.error import FFmpegError

from vidreason.video.failures import FailureCause, VideoReadError, read_error


@contextmanager
def reading_errors(path: str) -> Iterator[None]:
    """Turn any error of reading ``path`` into a :class:`VideoReadError`, with its cause kept.

    Libraries raise anything on files of unknown origin: errors of libav and of the store,
    but also a ``ValueError`` of an enumeration that is older than the file, or a ``MemoryError``
    for a size that the file claims. An ``ImportError`` passes: a package that is not installed is
    no fault of the file.
    """
    try:
        yield
    except (VideoReadError, ImportError):
        raise
    except MemoryError as error:  # libav's too
        raise VideoReadError(
            path, "unsupported", "reading it takes more memory than there is"
        ) from error
    except FFmpegError as error:
        cause: FailureCause = "unreachable" if isinstance(error, OSError) else "decode-error"
        raise VideoReadError(path, cause, describe(error)) from error
    except OSError as error:
        raise read_error(path, error) from error
    except Exception as error:
        detail = f"reading it ends with {type(error).__name__}: {error}"
        raise VideoReadError(path, "decode-error", detail) from error


def describe(error: FFmpegError) -> str:
    """Return libav's words for ``error``, without codes and file names."""
    return f"libav says {error.strerror or type(error).__name__!r}"
