"""Content hashes of media: right when a file changes, there when it is gone, flat in memory."""

import errno
import io
import json
import os
import tarfile
from hashlib import sha256
from pathlib import Path

import pytest

from vidreason.store import media_table
from vidreason.store.media_table import MediaTable, Record
from vidreason.store.sorted_table import list_tables
from vidreason.video import media_content, reader
from vidreason.video.failures import VideoReadError
from vidreason.video.media import TarMember, media_identity


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "video.mp4"
    path.write_bytes(b"abc")
    return path


@pytest.fixture
def count_hashes(monkeypatch):
    hashed: list[str] = []
    read = media_content.hash_media
    monkeypatch.setattr(
        media_content, "hash_media", lambda media: (hashed.append(media), read(media))[1]
    )
    return hashed


def test_a_hash_is_of_the_content_and_computed_once(tmp_path, video, count_hashes):
    for _ in range(2):
        table = MediaTable(tmp_path / "media")
        assert table.content_hash(str(video)) == digest(b"abc")
        assert table.content_hash(str(video)) == digest(b"abc")
    assert count_hashes == [str(video)]
    assert table.num_records == 1


@pytest.mark.parametrize("covered", [False, True])
@pytest.mark.parametrize("change", ["size", "time"])
def test_a_changed_file_is_hashed_again(tmp_path, video, change, covered):
    table = MediaTable(tmp_path / "media")
    table.content_hash(str(video))
    if covered:
        assert table.cover(1)
    status = video.stat()
    video.write_bytes(b"xyz" if change == "time" else b"abcd")
    shift = 1 if change == "time" else 0
    os.utime(video, ns=(status.st_atime_ns, status.st_mtime_ns + shift))
    for opened in (table, MediaTable(tmp_path / "media")):
        assert opened.content_hash(str(video)) == digest(video.read_bytes())
    video.unlink()  # the later record serves, not the one in the sorted table
    expected = digest(b"xyz" if change == "time" else b"abcd")
    assert MediaTable(tmp_path / "media").content_hash(str(video)) == expected


@pytest.mark.parametrize("covered", [False, True])
def test_a_file_that_is_gone_has_its_recorded_hash(tmp_path, video, count_hashes, covered):
    table = MediaTable(tmp_path / "media")
    table.content_hash(str(video))
    if covered:
        assert table.cover(1)
    video.unlink()
    assert MediaTable(tmp_path / "media").content_hash(str(video)) == digest(b"abc")
    with pytest.raises(VideoReadError, match="there is no such file"):
        MediaTable(tmp_path / "elsewhere").content_hash(str(video))
    assert len(count_hashes) == 1


def test_a_file_that_cannot_be_opened_has_its_recorded_hash(tmp_path, video, monkeypatch):
    MediaTable(tmp_path / "media").content_hash(str(video))

    def refuse(media):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(media_content, "hash_media", refuse)
    assert MediaTable(tmp_path / "media").content_hash(str(video)) == digest(b"abc")
    video.write_bytes(b"changed")
    with pytest.raises(VideoReadError, match="Permission denied"):
        MediaTable(tmp_path / "media").content_hash(str(video))


@pytest.mark.parametrize("error", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_in_a_folder_that_cannot_be_written_hashes_are_right_and_not_recorded(
    tmp_path, video, monkeypatch, caplog, count_hashes, error
):
    folder = tmp_path / "media"
    MediaTable(folder).content_hash(str(video))
    other, third = tmp_path / "other.mp4", tmp_path / "third.mp4"
    other.write_bytes(b"other")
    third.write_bytes(b"third")
    logs = sorted(folder.iterdir())

    def refuse(path, *_, **__):
        raise OSError(error, os.strerror(error), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    table = MediaTable(folder)
    for _ in range(2):
        assert table.content_hash(str(other)) == digest(b"other")
        assert table.content_hash(str(third)) == digest(b"third")
        assert table.content_hash(str(video)) == digest(b"abc")
    assert count_hashes == [str(path) for path in (video, other, third)]
    assert sorted(folder.iterdir()) == logs
    (warning,) = caplog.records
    assert f"{folder}: {os.strerror(error)}: content hashes of videos are not recorded there" in (
        warning.getMessage()
    )


def test_a_line_that_was_not_written_whole_is_the_last_of_its_log(tmp_path, video, monkeypatch):
    table = MediaTable(tmp_path / "media")
    table.content_hash(str(video))
    write, other = io.FileIO.write, tmp_path / "other.mp4"
    other.write_bytes(b"other")

    class Full(io.FileIO):
        def write(self, data):
            return write(self, data[: len(data) // 2])

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", lambda path, *_, **__: Full(path, "ab"))
        table._append(str(other), media_identity(str(other)), Record(bytes(32), 5, 0, 1))
    video.write_bytes(b"changed")
    table.content_hash(str(video))
    assert MediaTable(tmp_path / "media").content_hash(str(video)) == digest(b"changed")
    assert MediaTable(tmp_path / "media").recorded(str(other)) is None


def test_a_log_that_may_not_be_read_is_passed_over(tmp_path, video, monkeypatch, caplog):
    MediaTable(tmp_path / "media").content_hash(str(video))

    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", refuse)
        assert MediaTable(tmp_path / "media").num_records == 0
    assert "the content hashes in this log are not used" in caplog.text


def test_unchecked_media_are_not_looked_at(tmp_path, video, monkeypatch):
    MediaTable(tmp_path / "media").content_hash(str(video))
    looked: list[str] = []
    look = media_content.media_identity
    for module in (media_content, reader):
        monkeypatch.setattr(
            module, "media_identity", lambda media: (looked.append(media), look(media))[1]
        )
    table = MediaTable(tmp_path / "media", check=False)
    assert table.content_hash(str(video)) == digest(b"abc")
    assert looked == []
    new = tmp_path / "new.mp4"
    new.write_bytes(b"new")
    assert table.content_hash(str(new)) == digest(b"new")
    assert set(looked) == {str(new)}


def test_a_file_that_changes_while_it_is_read_is_not_recorded(tmp_path, video, monkeypatch):
    read = media_content.hash_media

    def read_and_grow(media):
        content_hash = read(media)
        video.write_bytes(video.read_bytes() + b"d")
        return content_hash

    monkeypatch.setattr(media_content, "hash_media", read_and_grow)
    table = MediaTable(tmp_path / "media")
    assert table.content_hash(str(video)) == digest(b"abc")
    assert table.num_records == 0


def test_a_member_of_a_tar_has_the_hash_of_its_own_bytes(tmp_path, video):
    archive = tmp_path / "00000.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(video, "video.mp4")
    with tarfile.open(archive) as tar:
        offset = tar.getmember("video.mp4").offset_data
    member = TarMember(str(archive), offset, 3, "video.mp4").media
    table = MediaTable(tmp_path / "media")
    assert table.content_hash(member) == table.content_hash(str(video)) == digest(b"abc")
    archive.unlink()
    assert MediaTable(tmp_path / "media").content_hash(member) == digest(b"abc")


def test_a_line_cut_by_a_kill_is_ignored_and_does_not_hide_others(tmp_path, video, count_hashes):
    table = MediaTable(tmp_path / "media")
    other = tmp_path / "other.mp4"
    other.write_bytes(b"other")
    table.content_hash(str(other))
    table.content_hash(str(video))
    (log,) = (tmp_path / "media").iterdir()
    whole = log.read_bytes()
    for kept in range(whole.index(b"\n") + 1, len(whole), 9):
        log.write_bytes(whole[:kept])
        opened = MediaTable(tmp_path / "media")
        assert opened.recorded(str(video)) is None
        assert opened.content_hash(str(other)) == digest(b"other")
    assert MediaTable(tmp_path / "media").content_hash(str(video)) == digest(b"abc")
    assert len(count_hashes) == 3


def test_tables_take_in_logs_and_smaller_tables(tmp_path):
    videos = [tmp_path / f"{number}.mp4" for number in range(40)]
    folder = tmp_path / "media"
    for number, path in enumerate(videos):
        path.write_bytes(str(number).encode())
        table = MediaTable(folder)
        table.content_hash(str(path))
        table.cover(3)
    assert len(list(folder.glob("*.table"))) > 3
    assert len(list_tables(folder, media_table.TABLE_SUFFIX)[0]) <= 4
    opened = MediaTable(folder)
    for number, path in enumerate(videos):
        path.unlink()
        assert opened.content_hash(str(path)) == digest(str(number).encode())
    assert opened.num_records == 40


def test_a_log_that_was_removed_does_not_begin_again_under_its_name(tmp_path, video):
    table = MediaTable(tmp_path / "media")
    table.content_hash(str(video))
    assert table.cover(1)
    (log,) = (tmp_path / "media").glob("*.jsonl")
    log.unlink()
    second = tmp_path / "second.mp4"
    second.write_bytes(b"2")
    table.content_hash(str(second))
    (new,) = (tmp_path / "media").glob("*.jsonl")
    assert new.name != log.name
    second.unlink()
    assert MediaTable(tmp_path / "media").content_hash(str(second)) == digest(b"2")


def test_names_that_are_no_unicode_are_recorded(tmp_path):
    path = os.fsdecode(os.fsencode(str(tmp_path)) + b"/\xff.mp4")
    with open(path, "wb") as file:
        file.write(b"abc")
    MediaTable(tmp_path / "media").content_hash(path)
    os.unlink(path)
    assert MediaTable(tmp_path / "media").content_hash(path) == digest(b"abc")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12, of threads
def test_each_process_writes_a_log_of_its_own(tmp_path):
    paths = [str(tmp_path / f"{number}.mp4") for number in range(4)]
    for path in paths:
        Path(path).write_bytes(path.encode())
    folder = tmp_path / "media"
    table = MediaTable(folder)
    table.content_hash(paths[0])
    child = os.fork()
    if child == 0:
        for path in paths:
            table.content_hash(path)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    logs = sorted(folder.glob("*.jsonl"))
    assert sorted(len(log.read_text().splitlines()) for log in logs) == [1, 3]
    rows = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    assert sorted(row[0] for row in rows) == paths
