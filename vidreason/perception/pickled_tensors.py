"""Reading ``torch.save`` files without letting them do anything.

Official checkpoints often pickle more than weights: the optimizer, a configuration object of a
package that is not installed. Here a pickle can name classes and functions as it likes, but all it
gets is tensors, plain containers and inert stand-ins: no name in a file is ever imported or called.
Names that serve to run code are refused, because such a file is an attack and not a checkpoint.

Tensors stay on the disk until one is read, so an optimizer's state costs neither time nor memory.
"""

import collections
import pickle
import sys
import zipfile
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_BLOCK_BYTES = 2**22
_RUNNING_CODE = {
    *("os", "posix", "nt", "io", "_io", "subprocess", "sys", "builtins", "__builtin__", "imp"),
    *("importlib", "runpy", "shutil", "socket", "pty", "code", "codeop", "ctypes", "pickle"),
    *("timeit", "webbrowser"),
}
"""Modules with which a pickle can run something."""
_HARMLESS_NAMES = {
    *("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list"),
    *("object", "range", "set", "slice", "str", "tuple", "getattr", "BytesIO", "StringIO"),
}
"""In those modules, what the other entries of a checkpoint may be made of (``getattr`` is how bound
methods are pickled). They become inert like all other names."""


class StoredTensor(NamedTuple):
    """Where a tensor lies in its file; :meth:`TorchFile.read` reads it."""

    record: str
    dtype: torch.dtype
    num_elements: int
    """Of the whole record."""
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class TorchFile:
    """An open file that ``torch.save`` of torch 1.6 or later wrote.

    Raises:
        ValueError: The file is damaged, or names something that runs code.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise self._damaged(error) from error
        pickles = [name for name in self._archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            self.close()
            raise ValueError(f"weights {path!r}: a zip archive, but not one that torch.save wrote")
        self._folder = pickles[0].removesuffix("data.pkl")
        try:
            self._check_byte_order()
            self.content = self._unpickle(pickles[0])
        except ValueError:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._archive.close()

    def read(self, stored: StoredTensor) -> Tensor:
        """One tensor, on CPU.

        Raises:
            ValueError: Its bytes are missing or damaged.
        """
        values = torch.empty(stored.num_elements, dtype=stored.dtype)
        try:
            place = memoryview(values.view(torch.uint8).numpy().data)
            found = 0
            with self._archive.open(f"{self._folder}data/{stored.record}") as record:
                while block := record.read(_BLOCK_BYTES):
                    place[found : found + len(block)] = block
                    found += len(block)
            if found != len(place):
                raise ValueError(f"record {stored.record} has {found} of {len(place)} bytes")
            tensor = values.as_strided(stored.shape, stored.stride, stored.offset)
        except (zipfile.BadZipFile, KeyError, OSError, EOFError, ValueError, RuntimeError) as error:
            raise self._damaged(error) from error
        # A part of a larger record is copied, so that it does not keep the rest in memory.
        return tensor if tensor.numel() == values.numel() else tensor.clone()

    def _unpickle(self, name: str) -> object:
        try:
            with self._archive.open(name) as file:
                return _TensorUnpickler(file).load()
        except _RunsCodeError as error:
            raise ValueError(
                f"weights {self.path!r}: the pickle in this file asks to run {error}; nothing of "
                "it was run. A checkpoint has no use for that: do not trust this file"
            ) from error
        except (
            *(pickle.UnpicklingError, zipfile.BadZipFile, EOFError, OSError, AttributeError),
            *(ImportError, IndexError, KeyError, TypeError, ValueError),
        ) as error:
            raise self._damaged(error) from error

    def _check_byte_order(self) -> None:
        name = f"{self._folder}byteorder"
        written = self._archive.read(name) if name in self._archive.namelist() else b"little"
        if written != sys.byteorder.encode():
            raise ValueError(
                f"weights {self.path!r}: numbers in byte order {written!r}, while this machine's is"
                f" {sys.byteorder}; save them as safetensors"
            )

    def _damaged(self, error: Exception) -> ValueError:
        return ValueError(
            f"weights {self.path!r} are truncated or damaged "
            f"({type(error).__name__}: {error}); copy or download the file again"
        )


class _RunsCodeError(Exception):
    """A pickle names something that runs code."""


class _Inert:
    """Stands in for an object of any foreign class: takes whatever a pickle gives it, and is it."""

    def __new__(cls, *_args: object, **_named: object) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *_args: object, **_named: object) -> None:
        pass

    def __call__(self, *_args: object, **_named: object) -> "_Inert":
        return self

    def __setstate__(self, _state: object) -> None:
        pass

    def __setitem__(self, _key: object, _value: object) -> None:
        pass

    def append(self, _item: object) -> None:
        pass

    def extend(self, _items: object) -> None:
        pass

    def add(self, _item: object) -> None:
        pass


class _TensorUnpickler(pickle.Unpickler):
    """Builds :class:`StoredTensor` where a pickle rebuilds tensors, and nothing else of torch."""

    def find_class(self, module: str, name: str) -> object:
        if module in ("torch", "torch.storage") and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) in _REBUILDERS:
            return _REBUILDERS[module, name]
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module.split(".")[0] in _RUNNING_CODE and name not in _HARMLESS_NAMES:
            raise _RunsCodeError(f"{module}.{name}")
        return type(name, (_Inert,), {})

    def persistent_load(self, pid: object) -> StoredTensor:
        match pid:
            case ("storage", torch.dtype() as dtype, str(record), str(), int(num_elements)):
                return StoredTensor(record, dtype, num_elements, 0, (num_elements,), (1,))
        raise pickle.UnpicklingError(f"unknown kind of tensor storage {pid!r}")


class _Rebuilder:
    """A function of torch that pickles name, replaced by one of ours. Pickles cannot alter it."""

    __slots__ = ("_function",)

    _function: Callable[..., object]

    def __init__(self, function: Callable[..., object]) -> None:
        object.__setattr__(self, "_function", function)

    def __setattr__(self, name: str, value: object) -> None:
        raise pickle.UnpicklingError(f"a pickle must not set {name!r} here")

    def __call__(self, *arguments: object) -> object:
        return self._function(*arguments)


def _tensor(
    storage: object, offset: object, shape: object, stride: object, *_others: object
) -> StoredTensor:
    """What stands for ``torch._utils._rebuild_tensor_v2``."""
    match storage, offset, shape, stride:
        case StoredTensor() as stored, int(), tuple(), tuple() if all(
            isinstance(number, int) and number >= 0 for number in (offset, *shape, *stride)
        ):
            return stored._replace(offset=offset, shape=shape, stride=stride)
    raise pickle.UnpicklingError("a tensor without storage or with impossible sizes")


def _parameter(tensor: object, *_others: object) -> object:
    """What stands for ``torch._utils._rebuild_parameter``."""
    return tensor


_REBUILDERS = {
    ("torch._utils", "_rebuild_tensor"): _Rebuilder(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Rebuilder(_tensor),
    ("torch._utils", "_rebuild_parameter"): _Rebuilder(_parameter),
}
