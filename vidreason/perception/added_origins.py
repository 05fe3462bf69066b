"""Parts from outside of this project in a file that was written with them, such as a reasoner's.

The file says which package declared a part, and the version of its class. Who reads it needs the
same: a part that is missing or of another version is refused with the package's name. The file
never says what is imported or installed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vidreason.added_parts import added_parts, check_imported, declared_by, part_name
from vidreason.perception.added_models import added_identity
from vidreason.perception.config import (
    ENCODER_GROUP,
    SEGMENTER_GROUP,
    SEGMENTERS,
    VIDEO_ENCODERS,
    PerceiverConfig,
)

_KINDS = {
    "video_encoder": (ENCODER_GROUP, VIDEO_ENCODERS),
    "segmenter": (SEGMENTER_GROUP, SEGMENTERS),
}
"""Group of the entry points and names of this project, by part."""
_MAX_NAME_CHARS = 80


def check_named_modules(source: str, config: PerceiverConfig) -> None:
    """Refuse a perceiver in a file of others that names a module to import.

    Raises:
        ValueError: As :func:`vidreason.added_parts.check_imported`.
    """
    check_imported(source, "perceiver.video_encoder.name", config.video_encoder.name)
    if config.use_objects:
        check_imported(source, "perceiver.segmenter.name", config.segmenter.name)


@dataclass(kw_only=True)
class AddedPart:
    """Origin of a part from outside of this project, in a file that needs the same one."""

    version: int
    """Version of its class."""
    package: str = ""
    """Package that declared it, with the package's version; empty for ``module:object``."""


def added_origins(config: PerceiverConfig) -> dict[str, AddedPart]:
    """Return the origins of the parts of a perceiver that are from outside, by part.

    Raises:
        ValueError: One cannot be imported, or has no version.
    """
    return {
        part: AddedPart(
            version=added_identity(part, name)["version"], package=declared_by(group, name)
        )
        for part, (group, name) in _added_names(config).items()
    }


def check_declared(source: str, values: Mapping[str, Any], packages: Mapping[str, Any]) -> None:
    """Say which package a file of others needs that is not installed; imports nothing.

    Args:
        source: The file.
        values: Of the perceiver, as the file has them.
        packages: What the file says of parts from outside, by part.

    Raises:
        ValueError: No installed package declares a part of that name.
    """
    for part, (group, built_in) in _KINDS.items():
        chosen, origin = values.get(part), packages.get(part)
        if not isinstance(chosen, dict) or not isinstance(origin, dict):
            continue
        name = str(chosen.get("name"))[:_MAX_NAME_CHARS]
        if ":" in name or name in built_in or name in added_parts(group):
            continue
        package = str(origin.get("package"))[:_MAX_NAME_CHARS]
        raise ValueError(
            f"{source}: perceiver.{part}.name is {name!r}, which is no part of this project but "
            f"the entry point of a package in the group {group}; where the reasoner was trained "
            f"that package was {package!r}, and none that is installed here declares it: install "
            "that package, if you trust it"
        )


def check_origins(source: str, config: PerceiverConfig, origins: Mapping[str, AddedPart]) -> None:
    """Refuse parts from outside of another version than a file was made with.

    Raises:
        ValueError: The version of an installed part is another one.
    """
    for part, (group, name) in _added_names(config).items():
        if part not in origins:  # of a folder from before they were recorded
            continue
        version, expected = added_identity(part, name)["version"], origins[part]
        if version != expected.version:
            raise ValueError(
                f"{source}: it was trained with version {expected.version} of {name!r}, of "
                f"{expected.package!r}, and {part_name(group, name)} has version {version}, which "
                "gives other numbers: install the version that it was trained with"
            )


def _added_names(config: PerceiverConfig) -> dict[str, tuple[str, str]]:
    """Return group and name of the parts from outside, by part."""
    names = {"video_encoder": config.video_encoder.name}
    if config.use_objects:
        names["segmenter"] = config.segmenter.name
    return {
        part: (_KINDS[part][0], name) for part, name in names.items() if name not in _KINDS[part][1]
    }
