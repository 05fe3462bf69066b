"""Reading weight files into modules: strictly, lean on memory, and without running what they hold.

Read are ``.safetensors`` files, files that ``torch.save`` wrote (``.pth``, ``.pt``, ``.ckpt``,
``.bin``: :mod:`vidreason.perception.pickled_tensors`), and folders in the Hugging Face layout.
Tensors go one by one from the file to where they are wanted; what is not wanted is never read.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from torch import Tensor, nn

from vidreason.finite_values import as_weights
from vidreason.perception.inert_pickles import StoredTensor
from vidreason.perception.pickled_tensors import TorchFile
from vidreason.perception.weight_files import weight_files
from vidreason.secrets import first_line

WRAPPERS = ("state_dict", "model", "module")
"""Entries of a saved dictionary that may hold the state dict: Lightning's, the official ViCLIP's
and VideoMAE's, DeepSpeed's."""

_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".ckpt")
_FOLDER_CONFIGS = ("config.json", "preprocessor_config.json", "video_preprocessor_config.json")

Shape = tuple[int, ...]
Resizer = Callable[[Tensor, Shape], Tensor]
"""From a tensor of a file and a shape with the same last dimension to a tensor of that shape."""


@dataclass(frozen=True)
class OpenWeights:
    """The tensors of a weights file that is open."""

    shapes: Mapping[str, Shape]
    """Shape of every tensor, by its key."""
    type_of: Callable[[str], str]
    """From a key to the type of the tensor's numbers as the file names it: F32, float32."""
    read: Callable[[str], Tensor]
    """From a key to the tensor, on CPU."""


class WeightsChoice(Protocol):
    """The part of a model's configuration that says what its weights are."""

    weights: str
    allow_random_weights: bool
    seed: int


def frozen_model(
    section: str,
    config: WeightsChoice,
    device: torch.device,
    build: Callable[[], nn.Module],
    load: Callable[[Any], None],
) -> Any:  # noqa: ANN401 - what build gives
    """Build a model with its configured weights, in eval mode and without gradients.

    Args:
        section: The configuration's key, for messages.
        config: Which weights.
        device: Where the model goes; on ``meta`` no weights are needed nor read.
        build: Builds it; on ``meta`` where weights are loaded, on the CPU where they are random.
        load: Loads its weights, onto ``device``.

    Raises:
        ValueError: ``weights`` is empty without ``allow_random_weights``; or as ``load``.
    """
    if device.type == "meta" or config.weights:
        with torch.device("meta"):
            model = build()
        if device.type != "meta":
            load(model)
    elif config.allow_random_weights:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            model = build().to(device)
    else:
        raise ValueError(
            f"{section}.weights: empty; give the path of a weights file, or set "
            "allow_random_weights=true if outputs without meaning are wanted"
        )
    return model.requires_grad_(False).eval()


def load_weights(
    module: nn.Module,
    path: str,
    *,
    device: torch.device | str = "cpu",
    dropped_prefixes: Sequence[str] = (),
    resizers: Mapping[str, Resizer] | None = None,
) -> None:
    """Give ``module`` the tensors of a weights file; the module may be on the ``meta`` device.

    Args:
        module: Receives the tensors themselves (``assign``), in the dtype that its parameters have.
        path: File or folder, as in :func:`open_weights`.
        device: Where the tensors go.
        dropped_prefixes: Keys of the file that begin with one of these are not wanted.
        resizers: As in :func:`read_weights`.

    Raises:
        ValueError: The file is missing or unreadable, its keys or shapes are not exactly the
            module's, or its numbers are no weights. The message names the first offending keys.
    """
    expected = module.state_dict()
    tensors = read_weights(
        path,
        {key: tuple(tensor.shape) for key, tensor in expected.items()},
        model=type(module).__name__,
        dropped_prefixes=dropped_prefixes,
        resizers=resizers,
        move=lambda key, tensor: as_weights(path, key, tensor, expected[key].dtype).to(device),
    )
    module.load_state_dict(tensors, assign=True)


def read_weights(
    path: str,
    expected: Mapping[str, Shape],
    *,
    model: str,
    dropped_prefixes: Sequence[str] = (),
    resizers: Mapping[str, Resizer] | None = None,
    move: Callable[[str, Tensor], Tensor] = lambda _key, tensor: tensor,
) -> dict[str, Tensor]:
    """Read exactly the expected tensors of a weights file.

    Args:
        path: File or folder, as in :func:`open_weights`.
        expected: Shape of each tensor by its key in the file.
        model: Name of what the weights are for, for messages.
        dropped_prefixes: Keys of the file that begin with one of these are not wanted.
        resizers: For keys whose tensor may have another shape, but for the last dimension: what
            brings it to the expected one.
        move: Moves each tensor, given with its key, to its device and dtype once it is read.

    Raises:
        ValueError: As :func:`load_weights`.
    """
    resizers = resizers or {}
    with open_weights(path) as file:
        stored = {
            key: shape
            for key, shape in file.shapes.items()
            if not key.startswith(tuple(dropped_prefixes))
        }
        check_keys(path, model, expected, stored, resizers)
        tensors = {}
        for key, shape in expected.items():
            tensor = file.read(key)
            if tuple(tensor.shape) != shape:
                tensor = resizers[key](tensor, shape)
            tensors[key] = move(key, tensor)
    return tensors


def check_keys(
    path: str,
    model: str,
    expected: Mapping[str, Shape],
    stored: Mapping[str, Shape],
    resizers: Mapping[str, Resizer],
) -> None:
    """Make sure that what is found are exactly the expected tensors; see :func:`read_weights`.

    Raises:
        ValueError: They are not; the message names the first that differ.
    """
    if not expected.keys() & stored.keys():
        raise ValueError(
            f"weights {path!r} are not those of {model}: none of its {len(expected)} keys is there;"
            f" expected keys like {next(iter(expected))!r}, found {next(iter(stored), 'none')!r}. "
            "Check the file, and the prefix of its keys"
        )
    # First what is not there at all, then what has another shape.
    problems = [f"missing {key}" for key in expected if key not in stored]
    problems += [f"unexpected {key}" for key in stored if key not in expected]
    for key, shape in expected.items():
        other = stored.get(key, shape)
        resized = key in resizers and len(other) == len(shape) and other[-1] == shape[-1]
        if other != shape and not resized:
            problems.append(f"{key} has shape {other} instead of {shape}")
    if problems:
        shown = "; ".join(problems[:4]) + ("; ..." if len(problems) > 4 else "")
        raise ValueError(
            f"weights {path!r} do not fit {model} ({len(problems)} keys): {shown}. "
            "Check that the configured sizes are those of the file"
        )


@contextmanager
def open_weights(path: str, prefixes: Sequence[str] = ("",)) -> Iterator[OpenWeights]:
    """Open a weights file, or a folder in the Hugging Face layout.

    Args:
        path: A ``.safetensors`` file; a file of ``torch.save`` that holds a state dict, by itself
            or as an entry of :data:`WRAPPERS`; or a folder with ``model.safetensors``, with the
            shards of ``model.safetensors.index.json``, or with either as ``pytorch_model.bin``.
        prefixes: Of a folder's shards, only those with such keys are opened; others may be missing.

    Raises:
        ValueError: There is no such file, or it cannot be read; the message says why.
    """
    with ExitStack() as stack:
        if Path(path).is_dir():
            yield _open_folder(Path(path), stack, tuple(prefixes))
        else:
            yield _open_file(path, stack)


def _open_folder(folder: Path, stack: ExitStack, prefixes: tuple[str, ...]) -> OpenWeights:
    files = weight_files(folder, prefixes)
    if files.index is None and not files.names:
        raise ValueError(
            f"weights: the folder {str(folder)!r} has no model.safetensors, no "
            "model.safetensors.index.json and no pytorch_model.bin"
        )
    shards = {name: _open_file(str(folder / name), stack) for name in files.names}
    if files.index is None:
        return shards[files.names[0]]
    shard_of, where = files.shard_of, str(files.index)
    for key, name in shard_of.items():
        if key not in shards[name].shapes:
            raise ValueError(f"weights {where!r} put {key} into {name}, where it is missing")
    return OpenWeights(
        shapes={key: shards[name].shapes[key] for key, name in shard_of.items()},
        type_of=lambda key: shards[shard_of[key]].type_of(key),
        read=lambda key: shards[shard_of[key]].read(key),
    )


def _open_file(path: str, stack: ExitStack) -> OpenWeights:
    if not Path(path).is_file():
        raise ValueError(f"weights: there is no file {path!r}")
    with open(path, "rb") as file:
        beginning = file.read(64)
    if not beginning:
        raise ValueError(f"weights {path!r}: the file is empty; copy or download it again")
    if beginning.startswith(b"version https://git-lfs"):
        raise ValueError(f"weights {path!r}: only the pointer of a Git LFS file; run git lfs pull")
    if beginning.isascii() and beginning.decode("ascii").replace("\n", " ").isprintable():
        raise ValueError(f"weights {path!r}: text, not weights; it begins with {beginning[:40]!r}")
    if path.endswith(".safetensors"):
        return _open_safetensors(path, stack)
    torch_file = TorchFile(path)
    stack.callback(torch_file.close)
    return _unwrap(path, torch_file)


def _open_safetensors(path: str, stack: ExitStack) -> OpenWeights:
    try:
        file = stack.enter_context(safe_open(path, framework="pt"))
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except Exception as error:  # besides SafetensorError: types that this torch does not know
        raise _damaged(path, error) from error

    def read(key: str) -> Tensor:
        try:
            tensor: Tensor = file.get_tensor(key)
        except Exception as error:
            raise _damaged(path, error) from error
        return tensor

    return OpenWeights(
        shapes=shapes, type_of=lambda key: str(file.get_slice(key).get_dtype()), read=read
    )


def _damaged(path: str, error: Exception) -> ValueError:
    cause = " ".join(str(error).split())[:300]
    return ValueError(
        f"weights {path!r} are truncated or damaged ({type(error).__name__}: {cause}); copy or "
        "download the file again"
    )


def _unwrap(path: str, file: TorchFile) -> OpenWeights:
    """Find the state dict in what a file holds."""
    content = file.content

    def has_tensors(value: object) -> bool:
        return isinstance(value, dict) and any(isinstance(v, StoredTensor) for v in value.values())

    if not isinstance(content, dict):
        raise ValueError(f"weights {path!r}: expected a dictionary, found {type(content).__name__}")
    wrappers = [name for name in WRAPPERS if has_tensors(content.get(name))]
    if len(wrappers) > 1:
        raise ValueError(
            f"weights {path!r}: tensors in each of {wrappers}; keep one of these entries"
        )
    state_dict = content[wrappers[0]] if wrappers else content
    if not has_tensors(state_dict):
        raise ValueError(
            f"weights {path!r}: no tensors in the dictionary nor in an entry "
            f"{' or '.join(map(repr, WRAPPERS))}; found entries {_names(content)}"
        )
    others = [
        key
        for key, value in state_dict.items()
        if not (isinstance(value, StoredTensor) and isinstance(key, str))
    ]
    if others:
        raise ValueError(
            f"weights {path!r}: {_names(others[:1])} is not the name of a tensor; save the model's "
            "state_dict() alone"
        )
    return OpenWeights(
        shapes={key: tuple(value.shape) for key, value in state_dict.items()},
        type_of=lambda key: str(state_dict[key].dtype).removeprefix("torch."),
        read=lambda key: file.read(state_dict[key]),
    )


def _names(keys: Iterable[object]) -> str:
    return ", ".join(repr(key)[:60] for key in islice(keys, 6))


def hash_file(path: str) -> str:
    """The sha256 of a file's content, as hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_weights(path: str, hash_file: Callable[[str], str] = hash_file) -> str:
    """A name for the content of a model: of its weights file, or of its folder.

    Args:
        path: A weights file, a folder in the Hugging Face layout, or a repository of the Hub, which
            is downloaded unless it is already here.
        hash_file: From a path to a content hash; a cache of hashes may take the place of the
            default.

    Returns:
        The hash of the file; of a folder, a sha256 over names and hashes of its weight files and of
        the configurations that decide what is computed; not of its path, a README or a tokenizer.

    Raises:
        ValueError: There is no such file, folder or repository, or the folder has no weights.
    """
    if Path(path).is_file():
        return hash_file(path)
    folder = local_folder(path)
    hashes = {
        file.name: hash_file(str(file))
        for file in sorted(folder.iterdir())
        if file.is_file() and (file.suffix in _WEIGHT_SUFFIXES or file.name in _FOLDER_CONFIGS)
    }
    if not any(name.endswith(_WEIGHT_SUFFIXES) for name in hashes):
        raise ValueError(f"weights: the folder {str(folder)!r} has no file of weights")
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def local_folder(
    name: str, revision: str | None = None, wanted: Sequence[str] = ("*.json", "*.safetensors")
) -> Path:
    """The folder of a model: ``name`` itself, or where the Hub's repository ``name`` lies here.

    A repository that is not in the cache is downloaded, unless ``HF_HUB_OFFLINE`` forbids it.

    Args:
        name: A folder, or a repository.
        revision: Commit, tag or branch of the repository; None for its newest.
        wanted: Patterns of the files that are downloaded.

    Raises:
        ValueError: ``name`` is no folder, and no repository that can be had.
    """
    if Path(name).is_dir():
        return Path(name)
    if not name or name.endswith(_WEIGHT_SUFFIXES):
        raise ValueError(f"weights: there is no file or folder {name!r}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(wanted)))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(
            f"weights: there is no folder {name!r}, and no repository of that name can be had from "
            f"the Hugging Face Hub: {first_line(error)}"
        ) from error
