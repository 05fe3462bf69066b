"""Unpickling what ``torch.save`` wrote without letting it do anything.

Official checkpoints often pickle more than weights: the optimizer, a configuration object of a
package that is not installed. Here a pickle can name classes and functions as it likes, but all it
gets is tensors, plain containers and inert stand-ins: no name in a file is ever imported or called.
Names that serve to run code are refused, because such a file is an attack and not a checkpoint.

Where the tensors' numbers lie in a file: :mod:`vidreason.perception.pickled_tensors`.
"""

import pickle
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO, NamedTuple

import torch

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
MAX_PICKLE_BYTES = 2**24
"""Size of the largest pickle that is read: 100 bytes a tensor, and what else a checkpoint holds."""
MAX_OPERATIONS = 2_000_000
"""Operations of one pickle."""
_MAX_DIMENSIONS = 16  # of a tensor; strides of many more multiply to any size
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
    """The location of a tensor in its file; :meth:`TorchFile.read` reads it."""

    record: str
    dtype: torch.dtype
    num_elements: int
    """Elements of the whole record."""
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class RunsCodeError(Exception):
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


class _Operations(dict[int, Callable[[Any], None]]):
    """The operations of a pickle, of which there is an end."""

    def __init__(self) -> None:
        super().__init__(pickle._Unpickler.dispatch | _OPERATIONS)
        self.left = MAX_OPERATIONS

    def __getitem__(self, code: int) -> Callable[[Any], None]:
        self.left -= 1
        if self.left < 0:
            raise pickle.UnpicklingError(f"more than {MAX_OPERATIONS:,} operations")
        return super().__getitem__(code)


class TensorUnpickler(pickle._Unpickler):
    """Builds :class:`StoredTensor` where a pickle rebuilds tensors, and nothing else of torch.

    It is the unpickler of the standard library that is written in Python: the other one takes
    memory by numbers in the file. Objects get no state, and keys are of plain types, since others
    can take for ever to hash.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self._storages: dict[str, StoredTensor] = {}
        self.dispatch = _Operations()  # type: ignore[misc]
        self._file_read = lambda size: file.read(_bounded(size))

    def find_class(self, module: str, name: str) -> object:
        """Return the stand-in for ``module.name``; nothing is imported."""
        if module in ("torch", "torch.storage") and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) in _REBUILDERS:  # _build keeps pickles from altering them
            return _REBUILDERS[module, name]
        if module.split(".")[0] in _RUNNING_CODE and name not in _HARMLESS_NAMES:
            raise RunsCodeError(f"{module}.{name}")
        return type(name, (_Inert,), {})

    def persistent_load(self, pid: object) -> StoredTensor:
        """The whole record that a tensor is a part of."""
        match pid:
            case ("storage", torch.dtype() as dtype, str(record), str(), int(count), *rest):
                if not 0 <= count < 2**48 or rest not in ([], [None]):
                    raise pickle.UnpicklingError(f"a storage of {count} numbers")
                stored = StoredTensor(record, dtype, count, 0, (count,), (1,))
                if self._storages.setdefault(record, stored) != stored:
                    raise pickle.UnpicklingError(f"the record {record[:40]} in two sizes")
                return stored
        raise pickle.UnpicklingError("an unknown kind of tensor storage")


def _bounded(size: int) -> int:
    if size > MAX_PICKLE_BYTES:
        raise pickle.UnpicklingError(f"a value of {size:,} bytes")
    return size


def _checked_keys(keys: Iterable[object]) -> None:
    for key in keys:
        parts = key if type(key) is tuple else (key,)
        for part in parts:
            if not (part is None or type(part) in _KEYS or isinstance(part, torch.dtype | _Inert)):
                raise pickle.UnpicklingError(f"a key of type {type(part).__name__}")


_KEYS = (str, int, float, bool, bytes)


def _build(unpickler: Any) -> None:  # noqa: ANN401 - of the standard library
    """Take a state and leave it: nothing here has one."""
    unpickler.stack.pop()
    if not isinstance(unpickler.stack[-1], _Inert | dict):
        raise pickle.UnpicklingError("a pickle must not alter what is not its own")


def _set_item(unpickler: Any) -> None:  # noqa: ANN401
    value = unpickler.stack.pop()
    key = unpickler.stack.pop()
    _checked_keys([key])
    unpickler.stack[-1][key] = value


def _set_items(unpickler: Any) -> None:  # noqa: ANN401
    items = unpickler.pop_mark()
    _checked_keys(items[::2])
    for key, value in zip(items[::2], items[1::2], strict=True):
        unpickler.stack[-1][key] = value


def _make_dict(unpickler: Any) -> None:  # noqa: ANN401
    items = unpickler.pop_mark()
    _checked_keys(items[::2])
    unpickler.append(dict(zip(items[::2], items[1::2], strict=True)))


def _add_items(unpickler: Any) -> None:  # noqa: ANN401
    items = unpickler.pop_mark()
    _checked_keys(items)
    for item in items:
        unpickler.stack[-1].add(item)


def _make_frozenset(unpickler: Any) -> None:  # noqa: ANN401
    items = unpickler.pop_mark()
    _checked_keys(items)
    unpickler.append(frozenset(items))


def _refuse(_unpickler: Any) -> None:  # noqa: ANN401
    raise pickle.UnpicklingError("an operation that checkpoints have no use for")


_OPERATIONS: dict[int, Callable[[Any], None]] = {
    pickle.BUILD[0]: _build,
    pickle.SETITEM[0]: _set_item,
    pickle.SETITEMS[0]: _set_items,
    pickle.DICT[0]: _make_dict,
    pickle.ADDITEMS[0]: _add_items,
    pickle.FROZENSET[0]: _make_frozenset,
    **dict.fromkeys((pickle.BYTEARRAY8[0], pickle.NEXT_BUFFER[0], pickle.EXT1[0]), _refuse),
    **dict.fromkeys((pickle.EXT2[0], pickle.EXT4[0]), _refuse),
}


def _tensor(
    storage: object, offset: object, shape: object, stride: object, *_others: object
) -> StoredTensor:
    """Stand-in for ``torch._utils._rebuild_tensor_v2``."""
    match storage, offset, shape, stride:
        case StoredTensor() as stored, int(), tuple(), tuple() if len(shape) == len(
            stride
        ) <= _MAX_DIMENSIONS and all(
            isinstance(number, int) and 0 <= number < 2**48 for number in (offset, *shape, *stride)
        ):
            return stored._replace(offset=offset, shape=shape, stride=stride)
    raise pickle.UnpicklingError("a tensor without storage or with impossible sizes")


def _parameter(tensor: object, *_others: object) -> object:
    """Stand-in for ``torch._utils._rebuild_parameter``."""
    return tensor


def _ordered_dict(*arguments: object) -> dict[Any, Any]:
    """Stand-in for ``collections.OrderedDict``, which has no attributes that could be set."""
    if arguments:
        raise pickle.UnpicklingError("a dictionary made of something")
    return {}


_REBUILDERS: dict[tuple[str, str], Callable[..., object]] = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}
