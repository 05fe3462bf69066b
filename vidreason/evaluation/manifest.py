"""Manifests: what answers were made with, and whether two numbers may be compared.

A manifest goes with every file of predictions. Two runs may be compared if they were asked the same
questions in the same words, saw the same frames, and were decoded, parsed and scored alike:
:attr:`Manifest.protocol_hash` is then the same. Models, and controls, are what is compared.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from vidreason.evaluation.answers import PARSER_VERSION

SCORED = ("parser", "scoring", "judge")
"""Fields that say how answers are scored, and nothing of how they were made: kept answers are
scored anew, by the current rules, whenever they are read."""
MUST_AGREE = ("questions", "prompts", "frames", "answering", "parser", "scoring", "judge")
"""Fields that comparable runs have in common; the others say what is compared, or how it ran."""

_HASHES = ("hash", "protocol_hash")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Record of what the answers of one file were made with. All values are such as JSON holds."""

    questions: dict[str, str] = field(default_factory=dict)
    """By corpus, a hash of ids, videos, spans, types, options and references."""
    prompts: dict[str, str] = field(default_factory=dict)
    """By corpus, a hash of the prompts."""
    incomplete: dict[str, str] = field(default_factory=dict)
    """By corpus, where questions could not be read, how many were: ``8,563 of 8,564 official
    questions``. Its numbers are not those of the benchmark."""
    frames: dict[str, Any] = field(default_factory=dict)
    """Which frames of a video were looked at."""
    answering: dict[str, Any] = field(default_factory=dict)
    """Settings by which options were chosen, texts decoded, and long prompts cut."""
    parser: int = PARSER_VERSION
    """Version of the rules by which outputs become answers and scores."""
    scoring: dict[str, str] = field(default_factory=dict)
    """By corpus, the measure that its protocol takes the mean of; empty where answers are
    kept, which any protocol may score."""
    judge: str = ""
    """The judge of free answers; empty for none."""
    model: str = ""
    """Content hash of the reasoner, wherever it lies."""
    perceiver: str = ""
    """Fingerprint of what made the visual tokens."""
    system: dict[str, Any] = field(default_factory=dict)
    """Facts about a rival: how near it is to the published one, its source, where it deviates, what
    it was trained on. Empty for our reasoner."""
    control: str = "none"
    """Replacement of the visual tokens."""
    seed: int = 0
    """Seed of the control."""
    batch_size: int = 0
    """Questions at a time, which changes no more than the rounding of numbers."""
    versions: dict[str, str] = field(default_factory=dict)
    """Versions of the packages."""

    @property
    def hash(self) -> str:
        """Over all fields: files with the same one may be parts of one run."""
        return digest_of([self._values()])

    @property
    def protocol_hash(self) -> str:
        """Over the fields of ``MUST_AGREE``: numbers with different ones are not comparable."""
        return digest_of([{name: getattr(self, name) for name in MUST_AGREE}])

    def scored_by(self, measures: Mapping[str, str]) -> "Manifest":
        """This manifest with the measure, and the rules, that each corpus is now scored by.

        Args:
            measures: Names by corpus; accuracy for one that is not listed.
        """
        scoring = {corpus: measures.get(corpus, "accuracy") for corpus in self.questions}
        return replace(self, scoring=scoring, parser=PARSER_VERSION)

    def as_json(self) -> dict[str, Any]:
        """The fields, with both hashes."""
        return {"hash": self.hash, "protocol_hash": self.protocol_hash, **self._values()}

    def _values(self) -> dict[str, Any]:
        """The fields; ``system`` only where there are facts, so that other hashes stay."""
        values = asdict(self)
        if not self.system:
            del values["system"]
        return values


def manifest_from_json(values: Mapping[str, Any], source: str) -> Manifest:
    """Read what :meth:`Manifest.as_json` gave.

    Args:
        values: Of a file.
        source: Where they come from, for messages.

    Raises:
        ValueError: They are no manifest, or were changed since.
    """
    described = {name: value for name, value in values.items() if name not in _HASHES}
    # It is left out where there are no facts, see _values.
    described.setdefault("system", {})
    if described.keys() == {item.name for item in fields(Manifest)}:
        manifest = Manifest(**described)
        if manifest.hash == values.get("hash"):
            return manifest
    raise ValueError(
        f"the manifest of {source} was changed by hand, or is of another version of vidreason: its "
        "fields are not those that its hash is of"
    )


def manifest_differences(first: Manifest, second: Manifest) -> dict[str, list[str]]:
    """In words, where two manifests differ: lines by the name of the field."""
    a, b = asdict(first), asdict(second)
    lines = {name: list(_differences(name, a[name], b[name])) for name in a}
    return {name: of_field for name, of_field in lines.items() if of_field}


def _differences(name: str, first: Any, second: Any) -> Iterator[str]:  # noqa: ANN401 - JSON values
    if isinstance(first, dict) and isinstance(second, dict):
        for key in dict.fromkeys([*first, *second]):
            yield from _differences(
                f"{name}.{key}", first.get(key, "absent"), second.get(key, "absent")
            )
    elif first != second:
        yield f"{name}: {first!r} and {second!r}"


def digest_of(values: Iterable[Any]) -> str:
    """16 hex digits for JSON values one after another."""
    digest = hashlib.sha256()
    for value in values:
        # Each value ends with its line, so that two never read as another two.
        digest.update(json.dumps(value, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()[:16]
