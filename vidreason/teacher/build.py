"""Teachers from their configuration, and what would keep one from answering."""

import re
from pathlib import Path

from vidreason.endpoints.budget import RequestBudget
from vidreason.endpoints.cache import ReplyCache
from vidreason.teacher.config import TeacherConfig
from vidreason.teacher.protocol import Teacher

_HUB_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def build_teacher(
    config: TeacherConfig, cache: ReplyCache, budget: RequestBudget | None = None
) -> Teacher:
    """Return the teacher of a configuration; nothing is sent or loaded yet.

    Args:
        config: Which model, and what it is told.
        cache: Keeps its replies, so that none is paid for twice.
        budget: Counts and limits the requests to an endpoint; a model on this machine has none.

    Raises:
        ValueError: No model is named, or there is none of that name on this machine.
    """
    # Each kind needs packages of its own.
    if config.kind == "endpoint":
        from vidreason.teacher.endpoint_teacher import EndpointTeacher

        return EndpointTeacher(config, cache, budget)
    from vidreason.devices import torch_device
    from vidreason.teacher.local_teacher import LocalTeacher

    return LocalTeacher(config, cache, torch_device("auto"))


def problems(config: TeacherConfig) -> list[str]:
    """Say what would keep a teacher from answering, a line each; sends and loads nothing."""
    reasons = [] if config.model else ["teacher.model is empty; name the model"]
    if config.kind == "endpoint":
        from vidreason.baselines.frame_messages import endpoint_problems

        return reasons + [f"teacher.endpoint: {one}" for one in endpoint_problems(config.endpoint)]
    is_named = Path(config.model).is_dir() or _HUB_REPOSITORY.fullmatch(config.model)
    if config.model and not is_named:
        reasons.append(
            f"teacher.model is {config.model!r}, which is neither a folder on this machine nor a "
            "repository of the Hub (OWNER/NAME)"
        )
    return reasons
