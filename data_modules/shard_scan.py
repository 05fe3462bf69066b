"""One tar shard, passed over: where each member's bytes are, and what cannot be read of it.

The module ``tarfile`` reads the headers. It takes anything that is no header for the end of an
archive, raises whatever a damaged header makes it raise, and believes sizes; so its end is looked
at, its errors become words, and a header that would be large is refused before it is read.
"""

import tarfile
from collections.abc import Callable
from typing import Any, NamedTuple

from vidreason.video.media import open_media

TEXT_EXTENSIONS = ("json", "txt", "cls", "vtt", "srt")
"""Members of these kinds are kept in the index, so that reading captions opens no shard,"""
MAX_TEXT_BYTES = 2**16
"""up to this size; larger ones are read from their shard."""
MAX_HEADER_BYTES = 2**20
"""All headers of one member together; those of long names have a few hundred bytes."""

_CHUNK_BYTES = 2**20  # 1 MiB
_COMPRESSIONS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}


class ScannedMember(NamedTuple):
    """A file in a shard that is there in full."""

    name: str
    """Bytes that are not UTF-8 are written as ``\\xe9``."""
    offset: int
    size: int
    text: bytes | None
    """Its content, for small texts."""


Scanned = tuple[list[ScannedMember], list[str]]
"""The members of a shard that are there in full, and what is not."""


def scan_shard(shard: str, size: int) -> Scanned:
    """Find the members of one shard, also of archives that were written one after another.

    Args:
        shard: Path or URL.
        size: Its size in bytes.

    Returns:
        The members that are there in full and can be read by byte range, and what is not, one text
        ``cause: detail`` each: the damaged rest of the shard; members that are links, sparse or no
        files.

    Raises:
        OSError: The shard cannot be read; the message names it.
    """
    try:
        with open_media(shard) as file:
            scan = _Scan(file, size)
            scan.run()
    except OSError as error:
        raise OSError(f"the shard {shard!r} cannot be read: {error}") from error
    return scan.members, scan.failures


class _Scan:
    def __init__(self, file: Any, size: int) -> None:  # noqa: ANN401 - any binary file
        self._file = file
        self._size = size
        self._last = ""
        self.members: list[ScannedMember] = []
        self.failures: list[str] = []

    def run(self) -> None:
        self._file.seek(0)
        head = self._file.read(6)
        compression = [name for magic, name in _COMPRESSIONS.items() if head.startswith(magic)]
        if compression:
            self.failures.append(
                f"the shard is compressed: by {compression[0]}, and cannot be read by byte range; "
                "unpack it to .tar"
            )
            return
        offset: int | None = 0
        while offset is not None:
            self._file.seek(offset)
            headers = _Headers(self._file)
            try:
                end = self._archive(headers)
            # Of the disk or the network: the shard must not be indexed as damaged.
            except OSError:
                raise
            except Exception as error:
                # tarfile raises ValueError, IndexError, RecursionError and others for headers of
                # which a field is damaged; it has no list of them.
                reason = str(error) or type(error).__name__
                cause = "cut off" if reason == "unexpected end of data" else "damaged"
                self._fail(f"the shard is {cause}: {reason:.200}")
                return
            offset = None if end is None else self._next_archive(end)

    def _archive(self, headers: "_Headers") -> int | None:
        """Take the members of one archive; return where it ends, or None after a failure."""
        # Typed for more kinds of files than a reader of headers needs.
        with tarfile.open(fileobj=headers, mode="r:") as tar:  # type: ignore[call-overload]
            before = -1
            while (info := tar.next()) is not None:
                tar.members = []  # else it keeps them all
                headers.num_bytes = 0  # the budget is that of one member
                self._last = _printable(info.name)
                end = info.offset_data + info.size
                # tarfile believes a negative size, and would read the same headers for ever.
                if info.size < 0 or info.offset <= before:
                    self._fail(f"the shard is damaged: a member has {info.size} bytes")
                    return None
                if end > self._size and info.isreg():
                    self.failures.append(
                        f"the shard is cut off: its member {self._last!r} ends at byte {end} of "
                        f"{self._size}"
                    )
                    return None
                before = info.offset
                self._member(info)
            return int(tar.offset)

    def _member(self, info: tarfile.TarInfo) -> None:
        if info.isdir():
            return
        if info.issparse():
            self.failures.append(f"a member is sparse: {self._last!r}; write it as a plain file")
        elif info.islnk() or info.issym():
            self.failures.append(
                f"a member is a link, not a file: {self._last!r} to {_printable(info.linkname)!r}"
            )
        elif not info.isreg():
            self.failures.append(f"a member is no file: {self._last!r}")
        else:
            text = None
            if self._last.lower().endswith(TEXT_EXTENSIONS) and info.size <= MAX_TEXT_BYTES:
                self._file.seek(info.offset_data)
                text = self._file.read(info.size)
            self.members.append(ScannedMember(self._last, info.offset_data, info.size, text))

    def _next_archive(self, end: int) -> int | None:
        """Offset of another archive after the end of one; None without one, or at damage."""
        self._file.seek(end)
        # tarfile ends at anything that is no header; the end of an archive is a block of nulls.
        block = self._file.read(tarfile.BLOCKSIZE)
        if len(block) < tarfile.BLOCKSIZE:
            self._fail(f"the shard is cut off: it ends at byte {self._size}")
            return None
        if block.strip(b"\0"):
            self._fail(f"the shard is damaged: no header at byte {end}")
            return None
        position = end + len(block)
        while chunk := self._file.read(_CHUNK_BYTES):
            rest = chunk.lstrip(b"\0")
            if rest:
                position += len(chunk) - len(rest)
                return position - position % tarfile.BLOCKSIZE  # headers begin at whole blocks
            position += len(chunk)
        return None

    def _fail(self, text: str) -> None:
        self.failures.append(f"{text}, after its member {self._last!r}")


class _Headers:
    """A file of which ``tarfile`` reads headers: no more than ``MAX_HEADER_BYTES`` a member.

    A damaged size would otherwise be a memory of as many bytes.
    """

    def __init__(self, file: Any) -> None:  # noqa: ANN401 - any binary file
        self._file = file
        self.num_bytes = 0
        self.seek: Callable[..., int] = file.seek
        self.tell: Callable[[], int] = file.tell

    def read(self, size: int) -> bytes:
        if size < 0 or self.num_bytes + size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        self.num_bytes += size
        content: bytes = self._file.read(size)
        return content


def _printable(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
