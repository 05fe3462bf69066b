"""Garbage that has the outline of each format, made from a seed: what random bytes never reach."""

import copy
import io
import json
import pickle
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import torch

CANARY = "executed-by-garbage"
"""Name of a file that appears if a command that stands in the garbage is run."""
COMMAND = f"touch {CANARY}"

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 17, 2**63, -(2**70), 10**30, 1.5, -0.1, 1e308),
    *(float("nan"), float("inf"), "", " ", "\u00a0", "nan", "None", "null", "0", "-1", "1e999"),
    *("x" * 3000, "a\x00b", "a\nb\r\nc", "\u202eabc", "\u0130\ufb01", '"', "'", "\\", "|", ","),
    *("<|eot_id|>", "<|im_start|>assistant", "<think>", "</s>", "{{ 1 }}", "{% for %}"),
    *("${oc.env:HOME}", "${", "\\${x}", "???", "!!python/name:os.system", "&a [*a]", "\t- x"),
    *("../../../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "http://127.0.0.1:9/x"),
    *("reference://::file://x", "git://x", "smb://h/x", "simplecache::s3://b/k", "\\\\host\\x"),
    *("2024-13-45", "00:99:99.999", "-00:00:01", "1,5", "\uff11\uff12", "12:30", "0x10", "1_000"),
    *([], {}, [[]], [None], {"": None}, ["a", "b"], [1, [2, [3, [4]]]], {"a": {"b": {}}}),
    *(f"__import__('os').system('{COMMAND}')", f"$({COMMAND})", f"`{COMMAND}`"),
)
"""Values of the wrong type, size, sign, form, alphabet or intent."""

MARKS = (
    *(b'"', b"'", b",", b"\n", b"\r", b"\t", b"{", b"}", b"[", b"]", b":", b"\\", b"\0", b"\xff"),
    *(b"\xc3", b"\xef\xbb\xbf", b"null", b"NaN", b"9" * 5000, b"#", b"|", b"-->", b"${", b"&a"),
)


def damaged(value: Any, generator: random.Random) -> Any:
    """Return a copy of a JSON value with one to three places replaced, removed or doubled."""
    value = copy.deepcopy(value)
    for _ in range(generator.randint(1, 3)):
        holders = list(_holders(value))
        if not holders:
            return generator.choice(VALUES)
        holder, key = generator.choice(holders)
        match generator.randrange(6):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, list):
                holder.insert(key, copy.deepcopy(holder[key]))
            case 1:
                holder[f"{key}{generator.choice(VALUES)}"] = holder[key]
            case 2:
                holder[key] = [holder[key]]
            case 3:
                holder[key] = str(holder[key])
            case _:
                holder[key] = copy.deepcopy(generator.choice(VALUES))
    return value


def _holders(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each list or object inside of a value, with each of its indices or keys."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _holders(value[key])


def damaged_bytes(content: bytes, generator: random.Random) -> bytes:
    """Return a text or binary file that was cut, spliced, re-encoded or written over."""
    for _ in range(generator.randint(1, 3)):
        at = generator.randrange(len(content) + 1)
        size = generator.choice((1, 4, 64))
        match generator.randrange(7):
            case 0:
                content = content[:at]
            case 1:
                content = content[:at] + generator.choice(MARKS) + content[at:]
            case 2:
                content = content[:at] + content[at + size :]
            case 3:
                content = content[:at] + content[max(0, at - 200) : at] + content[at:]
            case 4:
                content = content[:at] + generator.randbytes(size) + content[at + size :]
            case 5:
                content = content[:at] + b"[" * generator.choice((50, 100_000)) + content[at:]
            case _:
                content = content.decode("utf-8", "replace").encode(
                    generator.choice(("utf-16", "utf-32", "utf-8-sig", "utf-7"))
                )
    return content


def json_text(value: Any, generator: random.Random) -> str:
    """Return a JSON value as text, its repeated keys and infinities as Python writes them."""
    return json.dumps(value, ensure_ascii=generator.random() < 0.5).replace("\ud800", "?")


def boxes(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield offset and size of the boxes of an mp4 file, inner ones too."""
    inside = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"stsd", b"avc1")

    def of(start: int, end: int) -> Iterator[tuple[int, int]]:
        while start + 8 <= end:
            size, kind = struct.unpack_from(">I4s", content, start)
            if not 8 <= size <= end - start:
                return
            yield start, size
            if kind in inside:
                skip = {b"stsd": 16, b"avc1": 86}.get(kind, 8)
                yield from of(start + skip, start + size)
            start += size

    yield from of(0, len(content))


def damaged_mp4(content: bytes, generator: random.Random) -> bytes:
    """Return an mp4 file in which one box has another size, kind, place or contents."""
    start, size = generator.choice(list(boxes(content)))
    end = start + size
    match generator.randrange(6):
        case 0:
            wrong = generator.choice((0, 1, 7, 8, size - 1, size + 1, 2**31, 2**32 - 1))
            return content[:start] + struct.pack(">I", wrong) + content[start + 4 :]
        case 1:
            return content[:start] + content[end:]
        case 2:
            return content[:end] + content[start:end] + content[end:]
        case 3:
            kind = generator.choice((b"free", b"moov", b"elst", b"\0\0\0\0", b"uuid", b"trak"))
            return content[: start + 4] + kind + content[start + 8 :]
        case 4:
            at = generator.randrange(start, max(start + 1, end - 4))
            number = generator.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1))
            return content[:at] + struct.pack(">I", number) + content[at + 4 :]
        case _:
            return content[:start] + generator.randbytes(size) + content[end:]


def tar_of(generator: random.Random) -> bytes:
    """Return a tar shard whose members have odd names, kinds, sizes and contents."""
    file = io.BytesIO()
    form = generator.choice((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    with tarfile.open(fileobj=file, mode="w", format=form, errors="surrogateescape") as tar:
        for number in range(generator.randint(1, 5)):
            suffix = generator.choice(("mp4", "txt", "json", "MP4", "", "a.b", "parquet"))
            name = generator.choice(
                (f"{number:05d}", "../up", "/abs", "", "a/../../b", "x" * 150, "\u00e9\udcff", ".")
            )
            content = generator.choice((b"", b"{", b'{"caption": 7}', b"a caption", b"\xff\xfe"))
            info = tarfile.TarInfo(f"{name}.{suffix}")
            info.type = generator.choice((b"0", b"0", b"0", b"1", b"2", b"5", b"6", b"S", b"L"))
            info.linkname = generator.choice(("", "/etc/passwd", "00000.mp4"))
            info.size = len(content) if info.isreg() else 0
            info.mtime = generator.choice((0, 2**33))
            tar.addfile(info, io.BytesIO(content))
    content = file.getvalue()
    match generator.randrange(4):
        case 0:
            at = 512 * generator.randrange(len(content) // 512)
            field = generator.choice((0, 100, 124, 136, 148, 156, 257, 345))
            return content[: at + field] + generator.randbytes(8) + content[at + field + 8 :]
        case 1:
            return content[: generator.randrange(len(content))]
        case 2:
            return content + content
    return content


class _Runs:
    """Pickled as a call of a function; what unpickling it does shows who executes a file."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._call


def weights_of(path_suffix: str, generator: random.Random) -> bytes:
    """Return a torch or safetensors file with a wrong header, storage, pickle or archive."""
    tensors = {"a.weight": torch.ones(3, 4), "b": torch.zeros(2)}
    if path_suffix == ".safetensors":
        header: Any = {
            "a.weight": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]},
            "b": {"dtype": "F32", "shape": [2], "data_offsets": [48, 56]},
            "__metadata__": {"format": "pt"},
        }
        if generator.random() < 0.8:
            header = damaged(header, generator)
        text = json.dumps(header).encode()
        size = generator.choice((len(text), len(text), len(text), 0, 2**63, 2**40, 3))
        return struct.pack("<Q", size) + text + bytes(generator.choice((56, 0, 20, 100)))
    file = io.BytesIO()
    torch.save(tensors, file)
    source = zipfile.ZipFile(file)
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w") as archive:
        for name in source.namelist():
            content = source.read(name)
            kind = generator.randrange(9)
            if kind == 0:
                continue
            if kind == 1:
                content = damaged_bytes(content, generator)
            if kind == 2:
                content = bytes(2_000_000)
            if name.endswith("data.pkl") and kind > 5:
                import os

                harm = _Runs(os.system, COMMAND)
                content = pickle.dumps(
                    generator.choice((harm, {"a.weight": harm}, [harm], _Runs(eval, COMMAND)))
                )
                if generator.random() < 0.5:  # opcodes in any order
                    content = damaged_bytes(content, generator)
            method = generator.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
            archive.writestr(name, content, compress_type=method)
    content = result.getvalue()
    return damaged_bytes(content, generator) if generator.random() < 0.3 else content


def yaml_of(keys: list[str], generator: random.Random) -> str:
    """Return a YAML text of real and invented keys with values of any kind and syntax."""
    lines = []
    for _ in range(generator.randint(1, 4)):
        key = generator.choice(keys)
        depth = key.count(".")
        parts = key.split(".")
        for level, part in enumerate(parts[:-1]):
            lines.append("  " * level + f"{part}:")
        value = generator.choice(
            (
                *(json.dumps(v) if not isinstance(v, str) else v for v in VALUES),
                *(f"!!python/object/apply:os.system ['{COMMAND}']", "!!binary aGk=", "*unknown"),
                *("&a [*a, *a]", "<<: {x: 1}", "|\n x", "{a: 1, a: 2}", "[" * 2000, "? x", "@"),
            )
        )
        lines.append("  " * depth + f"{parts[-1]}: {value}")
    return "\n".join(lines) + generator.choice(("\n", "", "\n\t", "\n---\nx: 1\n", "\n%"))


def reply_of(verdict: dict[str, Any], generator: random.Random) -> bytes:
    """Return the body of a chat-completions reply, wrong outside or in what the model says."""
    text = json.dumps(damaged(verdict, generator))
    if generator.random() < 0.3:
        text = damaged_bytes(text.encode(), generator).decode("utf-8", "replace")
    message = {"role": "assistant", "content": text}
    reply: Any = {"choices": [{"message": message, "finish_reason": "stop"}], "model": "m"}
    if generator.random() < 0.5:
        reply = damaged(reply, generator)
    body = json.dumps(reply).encode()
    return damaged_bytes(body, generator) if generator.random() < 0.3 else body
