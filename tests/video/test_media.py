"""Paths, URLs and members of tar shards: the same frames and hashes from each, and named errors."""

import hashlib
import io
import socket
import tarfile
import threading
import uuid
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pytest
import torch
from coded_video import number_of, write_video
from loopback import Connection, Loopback, http

import vidreason.video.media as media_module
from vidreason.video.file_hashes import FileHashes
from vidreason.video.media import (
    TarMember,
    UnsupportedMediaError,
    hash_media,
    is_on_network,
    is_remote,
    libav_source,
    media_identity,
    media_size,
    open_media,
    parse_member,
)
from vidreason.video.reader import DIRECT, VideoReadError


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "a#b:1 %.mp4"  # nothing in a path is an escape
    write_video(path, num_frames=12)
    return path


def shard(folder: Path, video: Path) -> TarMember:
    """A tar of three members, the video between two texts."""
    path = folder / "00000.tar"
    with tarfile.open(path, "w") as tar:
        for name, data in (("0.txt", b"first"), ("1.mp4", video.read_bytes()), ("2.txt", b"last")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with tarfile.open(path) as tar:
        info = tar.getmember("1.mp4")
    return TarMember(str(path), info.offset_data, info.size, info.name)


@pytest.fixture(params=["path", "file", "memory", "http", "member", "memory-member", "http-member"])
def media(request: pytest.FixtureRequest, tmp_path: Path, video: Path) -> Iterator[str]:
    """The same video in seven kinds of storage."""
    kind, in_shard = request.param.removesuffix("-member"), "member" in request.param
    member = shard(tmp_path, video)
    if kind == "member":
        yield member.media
        return
    name = "00000.tar" if in_shard else "video.mp4"
    (tmp_path / "video.mp4").write_bytes(video.read_bytes())
    if kind == "http":
        handler = partial(RangeHandler, directory=str(tmp_path))
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/{name}"
    elif kind == "memory":
        url = f"memory://media-test/{name}"
        fsspec.filesystem("memory").pipe(url, (tmp_path / name).read_bytes())
    else:
        url = str(video) if kind == "path" else f"file://{tmp_path}/video.mp4"
    yield member._replace(archive=url).media if in_shard else url
    if kind == "http":
        server.shutdown()
        thread.join()
        server.server_close()


class RangeHandler(SimpleHTTPRequestHandler):
    """Answers ``Range`` requests, as object stores do; Python's own handler does not."""

    def do_GET(self) -> None:
        data = Path(self.translate_path(self.path)).read_bytes()
        byte_range = self.headers.get("Range")
        first, last = 0, len(data) - 1
        if byte_range:
            first, last = (int(number) for number in byte_range.removeprefix("bytes=").split("-"))
            last = min(last, len(data) - 1)
        self.send_response(206 if byte_range else 200)
        self.send_header("Content-Length", str(last + 1 - first))
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        self.wfile.write(data[first : last + 1])

    def log_message(self, *arguments: object) -> None:
        pass


def test_the_same_frames_and_hash_from_every_storage(
    media: str, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = video.read_bytes()
    for read_at_once in (2**26, 0):  # by one request, and in pieces
        monkeypatch.setattr(media_module, "READ_AT_ONCE_BYTES", read_at_once)
        assert media_size(media) == len(content)
        assert hash_media(media) == hashlib.sha256(content).hexdigest()
        with open_media(media) as file:
            assert file.seek(-4, io.SEEK_END) == len(content) - 4
            assert file.read(100) == content[-4:]
            assert file.seek(10) == 10
            assert file.read(5) == content[10:15]
        index = DIRECT.index(media)
        assert index.path == media
        frames = DIRECT.read_frames(index, [11, 0, 7])
        assert [number_of(frame) for frame in frames] == [11, 0, 7]
        assert torch.equal(frames, DIRECT.read_frames(DIRECT.index(str(video)), [11, 0, 7]))


def test_a_member_is_known_by_its_offset_and_its_archive(tmp_path: Path, video: Path) -> None:
    member = shard(tmp_path, video)
    assert parse_member(member.media) == member
    odd = member._replace(name="x&size=3#name=y.mp4", archive="s3://b/#offset=1&size=2.tar")
    assert parse_member(odd.media) == odd
    assert parse_member(str(video)) is None
    assert libav_source(member.media) == (
        f"subfile,,start,{member.offset},end,{member.offset + member.size},,:file:{member.archive}"
    )
    hashes = FileHashes(tmp_path / "hashes")
    before = hashes.of(member.media)
    assert media_identity(member.media).media == member.media
    with tarfile.open(member.archive, "a") as tar:
        tar.add(tmp_path / "00000.tar", "itself")
    assert media_identity(member.media).version != ""
    assert hashes.of(member.media) == before == FileHashes(tmp_path / "hashes").of(member.media)


def test_what_is_a_url() -> None:
    for text in ("s3://b/a.mp4", "https://h/a.mp4", "simplecache::gs://b/a.mp4", "memory://a"):
        assert is_remote(text)
    for text in ("/a.mp4", "10:30.mp4", "a::b.mp4", "1s3://x", "a b://c"):
        assert not is_remote(text)


@pytest.mark.parametrize(
    "url",
    [
        "smb://host/a.mp4",
        "git://a/b.mp4",
        "sftp://host/a.mp4",
        "data://a.mp4",
        "reference://a/b.mp4",
        "simplecache::https://127.0.0.1:9/a.mp4",
        "zip://a.mp4::https://127.0.0.1:9/a.zip",
        "reference::file:///tmp/a.json",
        "filecache::reference://a.mp4::file:///tmp/a.json",
        "FILE::reference://x",
        "local::file://a.mp4",
    ],
)
def test_only_a_short_list_of_protocols_is_opened(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_module, "get_filesystem_class", None)  # nothing may be looked up
    for media in (url, TarMember(f"{url}.tar", 0, 5, "a.mp4").media):
        with pytest.raises(VideoReadError, match=r"the protocol '.*' is not read") as caught:
            DIRECT.index(media)
        assert caught.value.cause == "unsupported"
        assert ("chains with '::' are not read" in str(caught.value)) == (
            "::" in url.split(":/")[0]
        )
        for read in (media_identity, hash_media, open_media):
            with pytest.raises(UnsupportedMediaError):
                read(media)


def test_a_chain_after_a_protocol_of_the_list_is_a_plain_name(
    tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    monkeypatch.setattr("fsspec.core._un_chain", lambda *_, **__: opened.append(_) or [])
    for url in (f"file://{tmp_path}/x::reference://y.mp4", "memory://x::file:///etc/passwd"):
        with pytest.raises(FileNotFoundError):
            media_identity(url)
    named = tmp_path / "a::b.mp4"
    named.write_bytes(video.read_bytes())
    assert hash_media(f"file://{named}") == hash_media(str(video))
    assert opened == []


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(protocol: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(media_module, "get_filesystem_class", missing)
    with pytest.raises(VideoReadError, match="'s3' is not installed: Install s3fs") as caught:
        DIRECT.index("s3://bucket/a.mp4")
    assert caught.value.cause == "unsupported"


def test_whatever_a_store_raises_is_a_read_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoCredentialsError(Exception):
        pass

    store = fsspec.filesystem("memory")
    for error in (NoCredentialsError("no key"), KeyError("size"), ValueError("port")):

        def refuse(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(store, "info", refuse)
        with pytest.raises(VideoReadError, match="the server answers: ") as caught:
            DIRECT.index(f"memory://media-test/{type(error).__name__}.mp4")
        assert caught.value.cause == "unreachable"
        cause = caught.value.__cause__
        assert cause is not None
        assert cause.__cause__ is error


def test_what_is_not_there_is_named(tmp_path: Path, video: Path) -> None:
    member = shard(tmp_path, video)
    fsspec.filesystem("memory").pipe("memory://media-test/empty.mp4", b"")
    cut = member._replace(size=member.size + 10**6)
    causes = {
        "memory://media-test/none.mp4": "there is no such file",
        "memory://media-test/empty.mp4": "the file is empty",
        member._replace(archive=str(tmp_path / "none.tar")).media: "there is no such file",
        cut.media: f"the member '1.mp4' ends at byte {cut.offset + cut.size}, its archive at ",
        "http://127.0.0.1:9/a.mp4": "",  # in the words of the system
        "a\0b.mp4": "",
    }
    for media, cause in causes.items():
        with pytest.raises(VideoReadError) as caught:
            DIRECT.index(media)
        assert caught.value.path == media
        assert caught.value.detail.startswith(cause)
        assert caught.value.cause in ("missing", "empty", "unreachable")


def test_a_video_in_a_store_costs_one_question_and_one_transfer(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = fsspec.filesystem("memory")
    store.pipe("memory://media-test/counted.mp4", video.read_bytes())
    calls = []
    for name in ("info", "cat_file"):
        method = getattr(store, name)
        monkeypatch.setattr(
            store,
            name,
            lambda *arguments, name=name, method=method: calls.append(name) or method(*arguments),
        )
    monkeypatch.setattr(media_module, "time", SimpleNamespace(monotonic=lambda: 1e6))
    media = "memory://media-test/counted.mp4"
    assert hash_media(media) == hash_media(str(video))
    assert len(DIRECT.read_frames(DIRECT.index(media), [0, 5])) == 2
    assert sorted(calls) == ["cat_file", "info"]
    # A file that was replaced is noticed a moment later.
    store.pipe(media, video.read_bytes() + b"more")
    monkeypatch.setattr(media_module, "time", SimpleNamespace(monotonic=lambda: 1e6 + 10))
    assert media_size(media) == video.stat().st_size + 4


def test_a_store_that_fails_while_reading_is_a_read_error(
    tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> bytes:
        raise OSError("the connection was lost")

    fsspec.filesystem("memory").pipe("memory://media-test/lost.mp4", video.read_bytes())
    monkeypatch.setattr(media_module, "_fetch", refuse)
    with pytest.raises(VideoReadError, match="the connection was lost"):
        DIRECT.index("memory://media-test/lost.mp4")


def test_an_address_that_gives_no_video_says_what_the_network_said(
    loopback: Loopback, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_module, "SILENCE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = f"http://127.0.0.1:{listener.getsockname()[1]}/a.mp4"
    whole = video.read_bytes()
    half = http(200, whole[: len(whole) // 2], "Accept-Ranges: bytes", length=len(whole))

    def silent(connection: Connection, done: threading.Event) -> None:
        done.wait(10)

    copy = "check the address and the network, or name a copy on this machine"
    nothing = "its server has nothing there, or nothing without a login: check the address"
    for answer, cause, said in (
        (http(404), "missing", nothing),
        (http(410), "missing", nothing),
        (http(403), "unreachable", f"the server answers: 403 Reason: {copy}"),
        (http(500), "unreachable", f"the server answers: 500 Reason: {copy}"),
        (half, "unreachable", "payload is not completed"),
        (silent, "unreachable", "imeout"),
        (None, "unreachable", "Cannot connect to host 127.0.0.1:"),
    ):
        url = closed if answer is None else f"{loopback.script(answer)}/{uuid.uuid4().hex}.mp4"
        with pytest.raises(VideoReadError) as caught:
            DIRECT.index(url)
        assert caught.value.cause == cause, url
        text = str(caught.value)
        assert text.startswith(f"cannot read video '{url}': it is an address, and "), text
        assert said in text
        assert "no such file" not in text
        assert "ssl" not in text  # no address here has TLS
        assert len(loopback.requests) <= 3, "a server is not asked again and again"
    # The same server, with the whole of it.
    url = f"{loopback.script(http(200, whole, 'Accept-Ranges: bytes'))}/{uuid.uuid4().hex}.mp4"
    assert DIRECT.index(url).num_frames == DIRECT.index(str(video)).num_frames


def test_what_is_on_a_network() -> None:
    for media in ("http://h/a.mp4", "hf://datasets/a/b", "S3://b/c"):
        assert is_on_network(media)
    for media in ("a.mp4", "file:///a.mp4", "memory://a", "/a://b", "10:30.mp4"):
        assert not is_on_network(media)
