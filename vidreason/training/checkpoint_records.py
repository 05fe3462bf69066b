"""Reading what checkpoints of all forms say of their runs, and none of their tensors."""

from pathlib import Path
from typing import Any, cast

from vidreason.perception.pickled_tensors import open_torch_file
from vidreason.training.atomic_checkpoint import cause
from vidreason.training.checkpoint_damage import (
    DAMAGE,
    check_undamaged,
    damaged,
    load_file,
    load_meta,
)
from vidreason.training.checkpoint_format import read_record
from vidreason.training.checkpoint_forms import is_deepspeed


def read_record_alone(path: Path) -> dict[str, Any]:
    """Read the record of a checkpoint of any form, with its ``global_step``.

    Raises:
        ValueError: There is no such checkpoint, it is damaged, or it has no such record.
    """
    if not path.exists():
        raise ValueError(f"there is no checkpoint {str(path)!r}")
    check_undamaged(path)
    try:
        if is_deepspeed(path):
            content = deepspeed_content(path)
        else:
            content = load_file(path) if path.is_file() else load_meta(path)
    except DAMAGE as error:
        raise damaged(path, cause(error)) from error
    content = content if isinstance(content, dict) else {}
    return {**read_record(content, str(path)), "global_step": content.get("global_step", 0)}


def deepspeed_content(folder: Path) -> dict[str, Any]:
    """Read what Lightning has put into a folder of DeepSpeed; tensors are stand-ins.

    Raises:
        ValueError: The file that it lies in is damaged or missing.
    """
    tag = (folder / "latest").read_text().strip()
    states = open_torch_file(str(min((folder / tag).glob("*mp_rank_00_model_states.pt"))))
    states.close()
    return cast(dict[str, Any], states.content)
