"""Files of MCVD models: our folders, and the authors' checkpoints and configurations.

A folder has ``config.json`` (:class:`ModelFolder`) and ``model.safetensors``.

A checkpoint of voletiv/mcvd-pytorch@451da2e (``runners/ncsn_runner.py``) is a list: the state dict
(``module.unet.all_modules.N...`` and the buffers of the noise), the optimizer's state, epoch, step,
and the moving average of the parameters (``unet.all_modules.N...``), which is what the authors
sample from and what is read here. ``config.yml`` lies beside it.
"""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save
from torch import Tensor

from vidreason.atomic_file import atomic_file, write_json_atomically
from vidreason.baselines.mcvd.config import DiffusionConfig
from vidreason.baselines.mcvd.diffusion import VideoDiffusion
from vidreason.config import config_from_values
from vidreason.finite_values import as_weights
from vidreason.json_object import read_json_object
from vidreason.literal_yaml import Items, Node, Scalar, Section, plain_value, read_yaml
from vidreason.perception.inert_pickles import StoredTensor
from vidreason.perception.pickled_tensors import TorchFile
from vidreason.perception.weights import check_keys, hash_file, load_weights

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
FORMAT = "vidreason-mcvd-1"
_MAX_CONFIG_BYTES = 2**20  # 1 MiB

_FIELDS: dict[str, dict[str, str]] = {
    "data": {
        "image_size": "image_size",
        "channels": "channels",
        "num_frames": "num_frames",
        "num_frames_cond": "num_past_frames",
        "num_frames_future": "num_future_frames",
        "prob_mask_cond": "mask_past",
        "prob_mask_future": "mask_future",
    },
    "model": {
        "ngf": "width",
        "ch_mult": "multipliers",
        "num_res_blocks": "num_blocks",
        "attn_resolutions": "attention_sides",
        "n_head_channels": "head_channels",
        "dropout": "dropout",
        "spade": "spatial_norm",
        "spade_dim": "spatial_norm_width",
        "num_classes": "num_steps",
        "sigma_begin": "first_beta",
        "sigma_end": "last_beta",
        "version": "sampler",
    },
    "sampling": {
        "subsample": "sampling_steps",
        "num_frames_pred": "num_predicted",
        "clip_before": "clip",
        "denoise": "denoise",
    },
}
"""Our fields by the official sections and keys."""
_OPTIONAL = {
    *("num_frames_future", "prob_mask_cond", "prob_mask_future", "dropout", "spade", "spade_dim"),
    *("version", "subsample", "num_frames_pred", "clip_before", "denoise"),
}
"""Keys that the official code has a default for, which is ours but for ``dropout``."""
_ONLY: dict[str, dict[str, Any]] = {
    "data": {"rescaled": True, "logit_transform": False},
    "model": {
        "arch": "unetmore",
        "sigma_dist": "linear",
        "time_conditional": True,
        "ema": True,
        **dict.fromkeys(("gamma", "noise_in_cond", "output_all_frames", "cond_emb"), False),
    },
    "sampling": {"data_init": False, "one_frame_at_a_time": False},
}
"""Options that the authors tried and that no released result has; these are their usual values."""


@dataclass(kw_only=True)
class ModelFolder:
    """The content of a folder's ``config.json``."""

    format: str
    """:data:`FORMAT`."""
    name: str
    """The model's, for tables; such as ``UCF-101``."""
    origin: Literal["official", "trained"]
    """Maker of the weights: the authors, or this project."""
    weights_sha256: str
    trained_on: list[str] = field(default_factory=list)
    """Corpora that the weights have seen."""
    model: DiffusionConfig

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError(
                f"format is {self.format!r}, this program reads {FORMAT!r}; write the folder again"
            )


def save_folder(
    model: VideoDiffusion,
    folder: Path,
    *,
    name: str,
    origin: Literal["official", "trained"] = "trained",
    trained_on: tuple[str, ...] = (),
) -> None:
    """Write a model as a folder that :func:`load_folder` reads; ``config.json`` is written last.

    Args:
        model: The model; of a training run, its moving average.
        folder: Where to; it is made if need be.
        name: The model's, for tables.
        origin: Whose weights they are.
        trained_on: Corpora that they have seen.

    Raises:
        ValueError: A weight is not a finite number.
    """
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    broken = [key for key, value in state.items() if not bool(value.isfinite().all())]
    if broken:
        raise ValueError(f"{broken[0]} holds numbers that are not finite: training has diverged")
    weights = save(state, metadata={"format": "pt"})
    # Without its configuration the folder is incomplete, never of two halves.
    (folder / CONFIG_FILE).unlink(missing_ok=True)
    with atomic_file(folder / WEIGHTS_FILE) as file:
        file.write(weights)
    content = ModelFolder(
        format=FORMAT,
        name=name,
        origin=origin,
        weights_sha256=hash_file(str(folder / WEIGHTS_FILE)),
        trained_on=list(trained_on),
        model=model.config,
    )
    write_json_atomically(folder / CONFIG_FILE, asdict(content))


def read_folder(folder: Path) -> ModelFolder:
    """Read a folder's ``config.json``.

    Raises:
        ValueError: It is missing, damaged or no MCVD model's.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ValueError(
            f"{str(folder)!r} is no MCVD folder: it has no {CONFIG_FILE}; give one that training "
            "or convert_official has written"
        )
    return config_from_values(ModelFolder, read_json_object(path), str(path))


def load_folder(
    folder: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> VideoDiffusion:
    """Load a folder's model, in eval mode and without gradients.

    Args:
        folder: From :func:`save_folder`.
        device: Where it goes.
        dtype: Of its weights in memory; noise and frames stay float32.

    Raises:
        ValueError: The folder is incomplete or damaged, or its weights are not those that its
            ``config.json`` names.
    """
    content = read_folder(folder)
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise ValueError(f"{str(folder)!r} is incomplete: it has no {WEIGHTS_FILE}; copy it again")
    if hash_file(str(path)) != content.weights_sha256:
        raise ValueError(f"{str(path)!r} is not the file that {CONFIG_FILE} names; copy it again")
    model = _empty(content.model)
    model.unet.to(dtype)
    load_weights(model, str(path), device=device)
    return _ready(model, device)


def load_official(
    checkpoint: str | Path, config: DiffusionConfig, device: torch.device | str = "cpu"
) -> VideoDiffusion:
    """Load the moving average of an official checkpoint, in eval mode and without gradients.

    Args:
        checkpoint: ``checkpoint_*.pt``.
        config: From :func:`read_official_config`.
        device: Where the model goes.

    Raises:
        ValueError: The file is missing, damaged or of another layout, its keys or shapes are not
            exactly those of ``config``, its numbers are no weights, or it was trained on another
            schedule of noise.
    """
    path = str(checkpoint)
    if not Path(path).is_file():
        raise ValueError(f"weights: there is no file {path!r}")
    model = _empty(config)
    expected = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    with closing(TorchFile(path)) as file:
        parameters, average = _state_dicts(path, file.content)
        # Keys, shapes and noise are compared before a tensor of the model is read.
        shapes = {key: tuple(tensor.shape) for key, tensor in average.items()}
        check_keys(path, "this MCVD model", expected, shapes, {})
        _check_betas(path, file, parameters, model.betas)
        tensors = {
            key: as_weights(path, key, file.read(average[key]), torch.float32).to(device)
            for key in expected
        }
    model.load_state_dict(tensors, assign=True)
    return _ready(model, device)


def convert_official(
    checkpoint: str | Path,
    config_file: str | Path,
    folder: Path,
    *,
    name: str,
    trained_on: tuple[str, ...] = (),
) -> None:
    """Write an official checkpoint as a folder of ours.

    Args:
        checkpoint: ``checkpoint_*.pt``.
        config_file: The ``config.yml`` of its run.
        folder: Where to.
        name: The model's, for tables.
        trained_on: Corpora that it has seen.

    Raises:
        ValueError: As :func:`load_official` and :func:`read_official_config`.
    """
    model = load_official(checkpoint, read_official_config(config_file))
    save_folder(model, folder, name=name, origin="official", trained_on=trained_on)


def read_official_config(path: str | Path) -> DiffusionConfig:
    """Read what an official ``config.yml`` says about a model and its sampling.

    Raises:
        ValueError: The file is missing, no YAML or has other values than these, lacks a size, or
            asks for one of the options that no released result has.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"there is no file {str(path)!r}; give the config.yml of the model's run")
    if file.stat().st_size > _MAX_CONFIG_BYTES:
        raise ValueError(f"{str(path)!r} has more than {_MAX_CONFIG_BYTES:,} bytes: no config.yml")
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{str(path)!r} is no text: {error}") from error
    sections = _values(read_yaml(text, str(path)))
    if not isinstance(sections, dict):
        raise ValueError(f"{str(path)!r} has no sections; give the config.yml of the model's run")
    values: dict[str, Any] = {"dropout": 0.0}  # the official default; ours is that of ucf101.yml
    # Options that are no fields of ours must have the value that all released models have.
    for section in _FIELDS:
        options = sections.get(section, {})
        if not isinstance(options, dict):
            raise ValueError(f"{str(path)!r}: {section} is {options!r}; it must be a section")
        _check_options(str(path), section, options)
        for key, name in _FIELDS[section].items():
            if options.get(key) is not None:
                values[name] = options[key]
            elif key not in _OPTIONAL:
                raise ValueError(f"{str(path)!r}: {section}.{key} is missing")
    return config_from_values(DiffusionConfig, _in_our_terms(values), str(path))


def _in_our_terms(values: dict[str, Any]) -> dict[str, Any]:
    """The official values as ours, where they differ."""
    # The official -1 stands for one head of all channels.
    if values["head_channels"] == -1:
        values["head_channels"] = None
    # Values may be of any type as yet: the configuration checks them afterwards.
    if isinstance(values.get("sampler"), str):
        values["sampler"] = values["sampler"].casefold()
    # More steps than there are, or no number, stand for all of them.
    steps = values.get("sampling_steps", values["num_steps"])
    if isinstance(steps, int) and isinstance(values["num_steps"], int):
        steps = min(steps, values["num_steps"])
    values["sampling_steps"] = steps
    return values


def _check_options(path: str, section: str, options: Mapping[str, Any]) -> None:
    for key, usual in _ONLY.get(section, {}).items():
        if options.get(key, usual) != usual:
            raise ValueError(
                f"{path!r}: {section}.{key} is {options[key]!r}; only models with {usual!r}, which "
                "all released ones have, are read"
            )
    if isinstance(start := options.get("init_prev_t", -1), int | float) and start > 0:
        raise ValueError(f"{path!r}: {section}.init_prev_t is {start}; only -1 is read")


def _values(node: Node) -> Any:  # noqa: ANN401 - YAML's values
    """Plain values of YAML nodes."""
    if isinstance(node, Section):
        return {key: _values(item) for key, item in node.items.items()}
    if isinstance(node, Items):
        return [_values(item) for item in node.items]
    if isinstance(node, Scalar):
        # A quoted scalar is a text, whatever it looks like.
        return plain_value(str(node.value)) if node.plain else node.value
    return None


def _empty(config: DiffusionConfig) -> VideoDiffusion:
    with torch.device("meta"):
        return VideoDiffusion(config)


def _ready(model: VideoDiffusion, device: torch.device | str) -> VideoDiffusion:
    # Moves the schedule of noise, which is computed and not loaded.
    return model.to(device).requires_grad_(False).eval()


_StateDict = dict[str, StoredTensor]


def _state_dicts(path: str, content: object) -> tuple[_StateDict, _StateDict]:
    """The parameters and their moving average in what a checkpoint holds."""
    match content:
        case [dict() as parameters, _, _, _, dict() as average]:
            for entry in (parameters, average):
                for key, value in entry.items():
                    if not (isinstance(key, str) and isinstance(value, StoredTensor)):
                        raise ValueError(
                            f"weights {path!r}: {str(key)[:60]!r} is not the name of a tensor; "
                            "this is no checkpoint of MCVD"
                        )
            return parameters, average
    size = f" of {len(content)}" if isinstance(content, list) else ""
    raise ValueError(
        f"weights {path!r}: expected the list [state dict, optimizer, epoch, step, moving average] "
        f"of an MCVD checkpoint, found {type(content).__name__}{size}"
    )


def _check_betas(path: str, file: TorchFile, parameters: _StateDict, expected: Tensor) -> None:
    """Make sure that the model was trained on the noise that its configuration has."""
    # The official training has wrapped the model, which puts "module." before each key.
    key = next((key for key in parameters if key.removeprefix("module.") == "betas"), None)
    if key is None:
        return
    stored = file.read(parameters[key]).to(expected.dtype).flatten()
    if stored.shape != expected.shape or not torch.allclose(stored, expected, rtol=0, atol=1e-6):
        raise ValueError(
            f"weights {path!r} were trained on {len(stored)} noise levels {_range(stored)}, the "
            f"configuration has {len(expected)} {_range(expected)}; give the config.yml of the "
            "same run"
        )


def _range(betas: Tensor) -> str:
    return f"from {float(betas[0]):g} to {float(betas[-1]):g}" if len(betas) else ""
