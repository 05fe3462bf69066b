"""The frozen parts that a reasoner folder refers to: where they lie, and what they must contain.

A reference is a path, a repository of the Hugging Face Hub, ``vidreason:PATH`` for what comes with
the installed package, wherever that is, or ``sha256:HASH`` in a published folder whose maker had
the part at a local path: who loads the folder says where it is.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import vidreason
from vidreason.perception.config import PerceiverConfig
from vidreason.perception.weights import hash_file, hash_weights, local_folder
from vidreason.reasoning.reasoner_config import LanguageModelConfig
from vidreason.video.file_hashes import FileHashes

Part = Literal["language_model", "video_encoder", "segmenter"]
PARTS: tuple[Part, ...] = get_args(Part)

_PACKAGE = Path(vidreason.__file__).resolve().parent
IN_PACKAGE = "vidreason:"
"""Before the path of a part that comes with the package."""

BY_HASH = "sha256:"
"""Before the content hash of a part whose path was not published."""


@dataclass(kw_only=True)
class FrozenPart:
    """A reference to a part that was not trained."""

    source: str
    """Where the part is; see the module."""
    sha256: str
    """Hash of its content: :func:`vidreason.perception.weights.hash_weights`."""


def perceiver_parts(config: PerceiverConfig) -> dict[Part, str]:
    """Paths of the weights of the perceiver's parts; those drawn from a seed are left out."""
    locations: dict[Part, str] = {"video_encoder": config.video_encoder.weights}
    if config.use_objects:
        locations["segmenter"] = config.segmenter.weights
    return {part: location for part, location in locations.items() if location}


def portable(location: str) -> str:
    """A path or repository as a reference names it."""
    if not Path(location).exists():
        return location
    path = Path(location).resolve()
    if is_in_package(path):
        return f"{IN_PACKAGE}{path.relative_to(_PACKAGE).as_posix()}"
    return str(path)


def is_in_package(path: Path) -> bool:
    """Tell whether a path lies in the installed package."""
    return path.resolve().is_relative_to(_PACKAGE)


def reference(location: str, revision: str | None = None, sha256: str | None = None) -> FrozenPart:
    """Refer to what lies at ``location``, a path or a repository on the Hub.

    Args:
        location: A path or a repository.
        revision: Of the repository.
        sha256: The content hash if it is known; nothing need be at ``location`` then.

    Raises:
        ValueError: There is no such file, folder or repository.
    """
    return FrozenPart(source=portable(location), sha256=sha256 or content_hash(location, revision))


def locate(part: FrozenPart) -> str:
    """The path or repository that a reference means on this machine.

    Raises:
        ValueError: It leads upwards, out of the package or of where it is looked for; or it is
            known by its content only.
    """
    if part.source.startswith(BY_HASH):
        raise ValueError(f"is known by its content hash {part.sha256} only")
    inside = part.source.removeprefix(IN_PACKAGE)
    packaged = part.source.startswith(IN_PACKAGE)
    # A folder may be anybody's: what it names must not lead elsewhere.
    if ".." in Path(inside).parts or (packaged and Path(inside).is_absolute()) or "\0" in inside:
        raise ValueError(
            f"the source {part.source!r} of a frozen part leads out of where it is looked for; "
            "give a whole path, or a repository of the Hub"
        )
    return str(_PACKAGE / inside) if packaged else part.source


def locate_parts(
    references: Mapping[str, FrozenPart],
    elsewhere: Mapping[str, str],
    revision: str | None,
    source: str,
) -> dict[str, str]:
    """Locate each frozen part of a folder on this machine, its content checked.

    Args:
        references: The folder's.
        elsewhere: Paths or repositories of parts that lie elsewhere here, by the part's name.
        revision: Of the language model, if it is a repository.
        source: The folder, for messages.

    Raises:
        ValueError: A part is missing or has another content than the reasoner was trained with, or
            ``elsewhere`` names a part that the folder does not refer to.
    """
    unknown = sorted(elsewhere.keys() - references.keys())
    if unknown:
        raise ValueError(
            f"{source} refers to no frozen part {unknown[0]!r}; it refers to "
            f"{', '.join(references) or 'none'}"
        )
    locations = {}
    for name, part in references.items():
        remedy = (
            f"give the path of the right one: --part {name}=PATH, frozen_parts={{{name}: PATH}} "
            "in a configuration"
        )
        try:
            locations[name] = elsewhere.get(name) or locate(part)
        except ValueError as error:
            raise ValueError(f"{source}: frozen_parts.{name}: {error}; {remedy}") from error
        try:
            # The revision is the language model's alone.
            actual = content_hash(locations[name], revision if name == "language_model" else None)
        except ValueError as error:
            raise ValueError(
                f"{source}: its frozen part {name} is not at {locations[name]!r} ({error}); "
                f"{remedy}"
            ) from error
        if actual != part.sha256:
            raise ValueError(
                f"{source}: its frozen part {name} at {locations[name]!r} is not the one that it "
                f"was trained with: expected the content hash {part.sha256}, found {actual}; "
                f"{remedy}"
            )
    return locations


def frozen_hashes(
    language_model: LanguageModelConfig,
    perceiver: PerceiverConfig,
    known_hashes: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The content hashes of what a run does not train, by the part's name.

    Args:
        language_model: The frozen language model.
        perceiver: What the visual tokens are made with.
        known_hashes: Of the perceiver's weights by location; these need not be there.

    Raises:
        ValueError: A part is not where its configuration says.
    """
    known = known_hashes or {}
    parts = perceiver_parts(perceiver)
    hashes = {
        str(part): known.get(location) or content_hash(location) for part, location in parts.items()
    }
    language_model_hash = content_hash(language_model.name_or_path, language_model.revision)
    return {"language_model": language_model_hash, **hashes}


def content_hash(location: str, revision: str | None = None) -> str:
    """The content hash of weights; each file is read once and remembered until it changes.

    Raises:
        ValueError: There are no weights at ``location``.
    """
    path = Path(location)
    folder = location if path.is_file() else str(local_folder(location, revision))
    return hash_weights(folder, _cached_hashes(cache_folder()))


def content_hash_of_file(path: Path) -> str:
    """The sha256 of a file's content; it is read once and remembered until it changes."""
    return _cached_hashes(cache_folder())(str(path))


def cache_folder() -> Path:
    """Return the user's folder of what need not be had twice; it may not be there yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vidreason"


@cache
def _cached_hashes(folder: Path) -> Callable[[str], str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return hash_file  # a home that cannot be written to: hash anew each time
    return FileHashes(folder / "file_hashes").of
