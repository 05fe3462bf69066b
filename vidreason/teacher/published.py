"""Texts that are made public with a set: without secrets and without paths of this machine."""

import re
from dataclasses import replace
from typing import Any

from vidreason.secrets import without_secrets
from vidreason.teacher.provenance import TeacherProvenance

# Not of a path: the // of URLs, and/or, </b>, 3/4. A path has two parts at least.
_LOCAL_PATH = re.compile(
    r"(?:(?<![\w:/.<~\\-])|(?<=\bfile://))(?:~[\w-]*)?/(?:[^\s/'\"`<>|,;()\[\]]+/)+"
    r"([^\s/'\"`<>|,;()\[\]]*)"
)


def published(text: str) -> str:
    """``text`` without secrets, credentials in URLs and folders of this machine.

    Of an absolute path the last part is left, behind three dots: ``/data/models/qwen`` becomes
    ``.../qwen``.
    """
    return _LOCAL_PATH.sub(r".../\1", without_secrets(text))


def published_provenance(provenance: TeacherProvenance) -> TeacherProvenance:
    """A run's provenance as it may be made public; the prompt stays as it was given."""
    return replace(
        provenance,
        teacher=published(provenance.teacher),
        prompt=without_secrets(provenance.prompt),
        parameters=_published_values(provenance.parameters),
    )


def _published_values(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    match value:
        case str():
            return published(value)
        case dict():
            return {published(str(name)): _published_values(item) for name, item in value.items()}
        case list() | tuple():
            return [_published_values(item) for item in value]
    return value
