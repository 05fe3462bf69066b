"""Weight files that lie about their sizes: named before anything of that size is taken."""

import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from process_memory import limited_memory

from vidreason.perception import inert_pickles
from vidreason.perception.weights import open_weights

HEADROOM_BYTES = 4 * 2**30


@pytest.fixture(scope="module", autouse=True)
def _limited_memory() -> Iterator[None]:
    with limited_memory(HEADROOM_BYTES):
        yield


def saved(path: Path, **options: bool) -> dict[str, bytes]:
    torch.save({"a": torch.arange(6.0).reshape(2, 3)}, path, **options)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def with_pickle(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        entries = saved(path)
        name = next(name for name in entries if name.endswith("data.pkl"))
        write(path, entries | {name: change(entries[name])})

    return make


def only(content: bytes) -> Callable[[Path], None]:
    return with_pickle(lambda _: content)


def patched(old: bytes, new: bytes) -> Callable[[Path], None]:
    def change(content: bytes) -> bytes:
        assert content.count(old) >= 1
        return content.replace(old, new, 1)

    return with_pickle(change)


def encrypted(path: Path) -> None:
    saved(path)
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = 0
        while (start := content.find(signature, start)) >= 0:
            content[start + offset] |= 1
            start += 4
    path.write_bytes(content)


def compressed(path: Path) -> None:
    write(path, saved(path), zipfile.ZIP_DEFLATED)


def bomb(path: Path) -> None:
    entries = saved(path)
    name = next(name for name in entries if name.endswith("data.pkl"))
    write(path, entries | {name: bytes(2**20)}, zipfile.ZIP_DEFLATED)


def twice(path: Path) -> None:
    entries = saved(path)
    write(path, entries)
    name = next(iter(entries))
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(name, entries[name])


def overlapping(path: Path) -> None:
    """All central entries point to the first record."""
    saved(path)
    content = bytearray(path.read_bytes())
    start = content.find(b"PK\x01\x02")
    while start >= 0:
        content[start + 42 : start + 46] = bytes(4)
        start = content.find(b"PK\x01\x02", start + 4)
    path.write_bytes(content)


def byte_order(path: Path) -> None:
    entries = saved(path)
    write(path, {n: b"big" if n.endswith("byteorder") else c for n, c in entries.items()})


def no_record(path: Path) -> None:
    write(path, {n: c for n, c in saved(path).items() if "/data/" not in n})


def hash_bomb() -> bytes:
    """A tuple that holds itself twice, thirty levels deep, as a key: hashing takes 2**30 steps."""
    levels = b"".join(b"q%c" % n + b"h%c" % n + b"\x86" for n in range(60))
    return b"\x80\x02}K\x01K\x02\x86" + levels + b"K\x01s."


LONG = b"\x8a\x08" + (2**60).to_bytes(8, "little")
PICKLES = {
    "storage of 2**60": (patched(b"K\x06t", LONG + b"t"), "a storage of 1152921504606846976"),
    "negative storage": (patched(b"K\x06t", b"J\xff\xff\xff\xfft"), "a storage of -1 numbers"),
    "larger storage": (patched(b"K\x06t", b"J\x00\x00\x00\x40t"), "has 24 of 4294967296 bytes"),
    "shape of 2**60": (patched(b"K\x02K\x03\x86", LONG + b"K\x03\x86"), "impossible sizes"),
    "shape beyond": (patched(b"K\x02K\x03\x86", b"K\x7fK\x03\x86"), "reaches beyond the end"),
    "negative stride": (patched(b"K\x03K\x01\x86", b"J\xff\xff\xff\xffK\x01\x86"), "impossible"),
    "large stride": (patched(b"K\x03K\x01\x86", b"J\x00\x00\x00\x40K\x01\x86"), "beyond the end"),
    "memo of 2**31": (with_pickle(lambda c: c[:2] + b"]r\xff\xff\xff\x7f0" + c[2:]), ""),
    "no end": (only(b"\x80\x02]" + b"0]" * 11_000 + b"."), "more than 20,000 operations"),
    "text of 2**60": (only(b"\x80\x04\x8d" + (2**60).to_bytes(8, "little") + b"a."), "a value of"),
    "bytes of 2**33": (only(b"\x80\x04\x8e" + (2**33).to_bytes(8, "little") + b"a."), "a value of"),
    "bytearray": (only(b"\x80\x05\x96" + (2**33).to_bytes(8, "little") + b"a."), "no use for"),
    "frame of 2**62": (only(b"\x80\x04\x95" + (2**62).to_bytes(8, "little") + b"a."), "a value of"),
    "keys that hash for ever": (only(hash_bomb()), "a key of type tuple"),
    "a set of tuples": (only(b"\x80\x04\x8f((K\x01\x85\x85\x90."), "a key of type tuple"),
    "an ordered dictionary of pairs": (
        only(b"\x80\x02ccollections\nOrderedDict\n]\x85R."),
        "a dictionary made of something",
    ),
    "digits": (only(b"I" + b"9" * 10_000 + b"\n."), "damaged"),
    "nothing on the stack": (only(b"\x80\x02\x85."), "damaged"),
    "no pickle": (only(b"\xff\xfe"), "damaged"),
    "extension": (only(b"\x80\x02\x82\x01."), "no use for"),
    "large": (with_pickle(lambda c: c + bytes(2**24)), "its pickle has 16,"),
    "encrypted": (encrypted, "encrypted, which torch.save does not do"),
    "compressed": (compressed, "compressed, which torch.save does not do"),
    "zip bomb": (bomb, "compressed, which torch.save does not do"),
    "records twice": (twice, "has two records"),
    "overlapping records": (overlapping, "damaged"),
    "byte order": (byte_order, "numbers in byte order b'big'"),
    "no record": (no_record, "there is no record 0"),
    "old": (
        lambda p: torch.save({"a": torch.ones(1)}, p, _use_new_zipfile_serialization=False),
        "if torch before 1.6 wrote it, load it with torch and save it again",
    ),
    "only a pickle": (lambda p: p.write_bytes(pickle.dumps({"a": 1})), "neither safetensors"),
    "tar": (lambda p: p.write_bytes(b"pickle\x00" + bytes(2048) + b"ustar"), "neither safetensors"),
}


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickled_file_that_lies_is_one_line(tmp_path, monkeypatch, name):
    monkeypatch.setattr(inert_pickles, "MAX_OPERATIONS", 20_000)
    make, message = PICKLES[name]
    path = tmp_path / "a.pth"
    make(path)
    if name == "memo of 2**31":  # a number without a meaning: the file reads
        with open_weights(str(path)) as file:
            assert file.read("a").tolist() == [[0, 1, 2], [3, 4, 5]]
        return
    with pytest.raises(ValueError, match=r"a\.pth") as caught, open_weights(str(path)) as file:
        file.read("a")
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def safetensors(header: dict | bytes, data: bytes = bytes(24)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


SAFETENSORS = {
    "header of 2**63": struct.pack("<Q", 2**63) + b"{}" * 8,
    "header beyond the end": struct.pack("<Q", 2**20) + b"{}" * 8,
    "no JSON": safetensors(b"x" * 40),
    "deep": safetensors(b'{"a":' + b"[" * 100_000),
    "offsets beyond": safetensors({"a": tensor([6], 0, 2**40)}),
    "offsets backwards": safetensors({"a": tensor([6], 24, 0)}),
    "overlapping": safetensors({"a": tensor([6], 0, 24), "b": tensor([6], 0, 24)}),
    "a hole": safetensors({"a": tensor([3], 0, 12), "b": tensor([2], 16, 24)}),
    "shape overflows": safetensors({"a": tensor([2**62, 2**62], 0, 24)}),
    "shape too large": safetensors({"a": tensor([2**40], 0, 24)}),
    "negative shape": safetensors({"a": tensor([-6], 0, 24)}),
    "dtype": safetensors({"a": tensor([6], 0, 24, "F33")}),
}


@pytest.mark.parametrize("name", SAFETENSORS)
def test_a_safetensors_file_that_lies_is_one_line(tmp_path, name):
    path = tmp_path / "a.safetensors"
    path.write_bytes(SAFETENSORS[name])
    damaged = pytest.raises(ValueError, match=r"a\.safetensors.*truncated or damaged")
    with damaged as caught, open_weights(str(path)) as file:
        file.read("a")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "name", ["../outside.safetensors", "/etc/passwd", "sub/a.safetensors", "..", "", 5, None]
)
def test_shards_lie_in_their_folder(tmp_path, name):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    outside = pytest.raises(ValueError, match=r"index\.json.*which is no file of this folder")
    with outside, open_weights(str(tmp_path)):
        pass
