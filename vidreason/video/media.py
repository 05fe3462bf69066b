"""Locations of a video's bytes: a path, an fsspec URL, or a member of a tar shard at either.

One text names each of the three:

* ``/data/a.mp4``: a path of this machine. A plain path may hold any character; it is a URL only if
  it begins with a scheme and ``://``.
* ``s3://bucket/a.mp4``, ``https://...`` and the other ``PROTOCOLS``: a file of a store that fsspec
  opens. For ``s3``, ``gs`` and ``az`` it needs s3fs, gcsfs and adlfs. Protocols that open others
  (``zip``, ``simplecache``, ``reference``, ...) are none of these, and fsspec's chains of them with
  ``::`` are not read: such a text may come out of any data set, and what it opens, or runs,
  would be theirs to say.
* ``<path or URL>.tar#offset=1536&size=9331&name=000000001.mp4``: a range of bytes of a
  tar shard, and the member's name, which is the rest of the text. Nothing but these bytes is read.

A reader yields such a text as ``Example.media``; all that opens a video goes through this module.
"""

import hashlib
import io
import json
import os
import re
import time
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple, cast

from fsspec.registry import get_filesystem_class
from fsspec.spec import AbstractFileSystem
from typing_extensions import override

READ_AT_ONCE_BYTES = 64 * 2**20
"""A remote file or member up to this size is fetched by one request, and kept until another one is:
hashing, indexing and decoding a video then cost one transfer. Larger ones are read in pieces."""

REMEMBERED_SECONDS = 5.0
"""So long at most a store's word on a file's size and version is taken to hold: what is done with a
video at a time then costs one question, not five."""

SILENCE_SECONDS = 15.0
"""So long at most a web server may let wait for a connection, or for the next bytes."""

PROTOCOLS = ("file", "http", "https", "s3", "gs", "az", "hf", "memory")
"""Protocols that a URL of media may begin with."""

_MEMBER = re.compile(
    r"(?P<archive>.+\.[tT][aA][rR])#offset=(?P<offset>\d+)&size=(?P<size>\d+)&name=(?P<name>.+)",
    re.DOTALL,
)
# Also chains as fsspec writes them, simplecache::s3://bucket/a.mp4: URLs, but none that are opened.
_SCHEME = re.compile(r"((?:[A-Za-z][A-Za-z0-9+.-]*::)*[A-Za-z][A-Za-z0-9+.-]*)://")
_NOTHING_THERE = (404, 410)  # statuses of HTTP
# In the name of an image, libav's for several files.
_PATTERN_CHARACTERS = frozenset("%*?[{")
# What stores tell about a file's state, over all implementations of fsspec that tell something.
_VERSION_FIELDS = (
    *("etag", "e_tag", "ETag", "md5Hash"),
    *("mtime", "LastModified", "created", "updated"),
)


class TarMember(NamedTuple):
    """A range of the bytes of a tar file."""

    archive: str
    offset: int
    size: int
    name: str

    @property
    def media(self) -> str:
        """The text that names it."""
        return f"{self.archive}#offset={self.offset}&size={self.size}&name={self.name}"


class UnsupportedMediaError(OSError):
    """A URL of a protocol that is not among ``PROTOCOLS``, or for which a package is missing."""


class MediaIdentity(NamedTuple):
    """A file's identity for caches: as long as it is the same, so is the content."""

    media: str
    """Paths are absolute."""
    size: int
    """In bytes."""
    version: str
    """The modification time or what the store has for it; empty if it tells nothing, as many web
    servers do."""


def parse_member(media: str) -> TarMember | None:
    """The tar member that ``media`` names, or None if it names a whole file."""
    match = _MEMBER.fullmatch(media)
    if match is None:
        return None
    return TarMember(match["archive"], int(match["offset"]), int(match["size"]), match["name"])


def file_identity(media: str) -> Hashable:
    """Return what is equal for two paths of one file of this machine; of other media, the text."""
    try:
        status = os.stat(media)
    except (OSError, ValueError):  # missing, a URL, a member of a shard
        return media
    return status.st_dev, status.st_ino


def is_remote(media: str) -> bool:
    """Return whether ``media`` is a URL, of any protocol, or a member of an archive at one."""
    return _SCHEME.match(media) is not None


def is_on_network(media: str) -> bool:
    """Return whether a server has to be asked for ``media``."""
    scheme = _SCHEME.match(media)
    return scheme is not None and scheme[1].lower() not in ("file", "memory")


def server_said(error: OSError) -> str:
    """Say what went wrong with something on a network, and what to do about it."""
    if isinstance(error, FileNotFoundError):
        return "its server has nothing there, or nothing without a login: check the address"
    # aiohttp names its setting for TLS at each address, also where there is no TLS.
    said = str(error).replace(" ssl:default", "") or type(error).__name__
    if isinstance(error, UnsupportedMediaError):
        return said
    return f"{said}: check the address and the network, or name a copy on this machine"


def file_system(url: str) -> tuple[AbstractFileSystem, str]:
    """The store that a URL names, and the name that the file has in it.

    Unlike fsspec's ``url_to_fs`` this reads no chain, and no other protocol than ``PROTOCOLS``.

    Raises:
        UnsupportedMediaError: The protocol is another one, or fsspec needs a package for it that is
            not installed.
    """
    scheme = _SCHEME.match(url)
    protocol = scheme[1].lower() if scheme is not None else ""
    if protocol not in PROTOCOLS:
        chain = " (chains with '::' are not read)" if "::" in protocol else ""
        raise UnsupportedMediaError(
            f"the protocol {protocol!r} is not read{chain}; those that are: {', '.join(PROTOCOLS)}"
        )
    try:
        kind = get_filesystem_class(protocol)
    except ImportError as error:
        raise UnsupportedMediaError(
            f"a package for the protocol {protocol!r} is not installed: {error}"
        ) from error
    options = kind._get_kwargs_from_urls(url)
    if protocol in ("http", "https"):
        from aiohttp import ClientTimeout  # slow to import

        # However large the file is; the default ends a download after five minutes.
        timeout = ClientTimeout(None, sock_connect=SILENCE_SECONDS, sock_read=SILENCE_SECONDS)
        options["client_kwargs"] = {"timeout": timeout}
    return kind(**options), cast(str, kind._strip_protocol(url))


def media_size(media: str) -> int:
    """Size in bytes.

    Raises:
        OSError: The file is missing or cannot be reached.
    """
    return media_identity(media).size


def media_identity(media: str) -> MediaIdentity:
    """Identify ``media`` without reading it.

    Raises:
        OSError: The file is missing or cannot be reached, or a member ends after its archive's end.
    """
    member = parse_member(media)
    if member is not None:
        archive = media_identity(member.archive)
        if member.offset + member.size > archive.size:
            raise OSError(
                f"the member {member.name!r} ends at byte {member.offset + member.size}, its "
                f"archive at {archive.size}"
            )
        located = member._replace(archive=archive.media)
        return MediaIdentity(located.media, member.size, archive.version)
    if not is_remote(media):
        try:
            status = os.stat(media)
        except ValueError as error:  # a null byte in the name
            raise OSError(str(error)) from error
        return MediaIdentity(os.path.abspath(media), status.st_size, str(status.st_mtime_ns))
    return _remote_identity(media, int(time.monotonic() / REMEMBERED_SECONDS))


def file_version(info: Mapping[str, Any]) -> str:
    """Digest of a file's state by fsspec's ``info``; empty if that tells nothing."""
    told = {field: str(info[field]) for field in _VERSION_FIELDS if info.get(field) is not None}
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16] if told else ""


def open_media(media: str) -> io.BufferedIOBase:
    """Open for reading: a seekable binary file that holds nothing but what ``media`` names.

    Raises:
        OSError: The file is missing or cannot be reached.
    """
    member = parse_member(media)
    if not is_remote(media):
        if member is None:
            return open(media, "rb")
        return _buffered(FileRange(open(member.archive, "rb", buffering=0), member))
    identity = media_identity(media)
    if identity.size <= READ_AT_ONCE_BYTES:
        return _NamedBytes(_fetch(identity), member.name if member else media)
    with transport_errors_as_os_errors():
        store, path = file_system(media if member is None else member.archive)
        file = store.open(path, "rb")
        if member is None:
            return cast(io.BufferedIOBase, file)
        return _buffered(FileRange(file, member))


def libav_source(media: str) -> str | io.BufferedIOBase:
    """Return PyAV's source for ``media``: libav's own URL of a local file, else a file object.

    libav reads a member of a local shard by its ``subfile`` protocol, without a call into Python
    for each block.

    Raises:
        OSError: A remote file is missing or cannot be reached.
    """
    if is_remote(media):
        return open_media(media)
    member = parse_member(media)
    # "file:" keeps a name such as "10:30.mp4" from being taken for a protocol.
    if member is None and not _PATTERN_CHARACTERS.isdisjoint(media):
        # libav would take the name for that of numbered images, and read others than this file.
        whole = TarMember(media, 0, media_size(media), "")
        return _buffered(FileRange(open(media, "rb", buffering=0), whole))
    if member is None:
        return f"file:{media}"
    end = member.offset + member.size
    return f"subfile,,start,{member.offset},end,{end},,:file:{member.archive}"


def hash_media(media: str) -> str:
    """The sha256 of the content that ``media`` names, as hex digits.

    Raises:
        OSError: The file is missing or cannot be reached.
    """
    with open_media(media) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def transport_errors_as_os_errors() -> Iterator[None]:
    """Turn whatever a store's client raises into an ``OSError``; the body holds nothing else.

    A ``FileNotFoundError`` says that the store was asked and has nothing there.
    """
    try:
        yield
    except FileNotFoundError as error:
        # fsspec says so of a web server whatever went wrong, with the truth as the cause.
        cause = error.__cause__
        if cause is None or isinstance(cause, FileNotFoundError):
            raise
        status, message = getattr(cause, "status", None), getattr(cause, "message", "")
        if status in _NOTHING_THERE:
            raise
        said = str(cause) or type(cause).__name__
        if status is not None:
            said = f"the server answers: {status} {message}"
        raise OSError(said) from error
    except OSError:
        raise
    except Exception as error:
        # Of aiohttp, httpx, botocore, google.auth, azure and whatever else fsspec loads: they have
        # no base class in common, and ValueError for an address that is none.
        raise OSError(f"the server answers: {str(error) or type(error).__name__}") from error


class FileRange(io.RawIOBase):
    """The bytes of one tar member as a file of their own.

    Args:
        file: The archive, seekable; closed with this file.
        member: Where in it.
    """

    def __init__(self, file: io.IOBase, member: TarMember) -> None:
        super().__init__()
        self.name = member.name
        self._file: Any = file
        self._member = member
        self._position = 0

    @override
    def readable(self) -> bool:
        return True

    @override
    def seekable(self) -> bool:
        return True

    @override
    def tell(self) -> int:
        return self._position

    @override
    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._member.size}
        self._position = max(start[whence] + offset, 0)
        return self._position

    @override
    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), max(self._member.size - self._position, 0))
        with transport_errors_as_os_errors():
            self._file.seek(self._member.offset + self._position)
            data: bytes = self._file.read(wanted) or b""
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    @override
    def close(self) -> None:
        self._file.close()
        super().close()


def _buffered(file: FileRange) -> io.BufferedReader:
    return io.BufferedReader(file, buffer_size=2**16)


class _NamedBytes(io.BytesIO):
    """PyAV takes a file's format also from its name, where the content leaves a doubt."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


@lru_cache(maxsize=64)
def _remote_identity(url: str, moment: int) -> MediaIdentity:
    del moment  # makes the answer expire
    with transport_errors_as_os_errors():
        store, path = file_system(url)
        info = store.info(path)
    if info["size"] is None:
        raise OSError("the store does not tell its size")
    return MediaIdentity(url, int(info["size"]), file_version(info))


@lru_cache(maxsize=1)
def _fetch(identity: MediaIdentity) -> bytes:
    member = parse_member(identity.media)
    with transport_errors_as_os_errors():
        store, path = file_system(identity.media if member is None else member.archive)
        if member is None:
            return cast(bytes, store.cat_file(path))
        return cast(bytes, store.cat_file(path, member.offset, member.offset + member.size))
