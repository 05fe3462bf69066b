"""What answers were made with, and whether two numbers may be compared.

A manifest goes with every file of predictions. Two runs may be compared if they were asked the same
questions in the same words, saw the same frames, and were decoded, parsed and scored alike:
:attr:`Manifest.protocol_hash` is then the same. Models, and controls, are what is compared.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import vidreason
from vidreason.evaluation.answers import PARSER_VERSION
from vidreason.evaluation.benchmark import EvaluationConfig
from vidreason.evaluation.controls import Control
from vidreason.evaluation.predictions.rows import unanswered
from vidreason.evaluation.protocols import Protocol
from vidreason.example import Example
from vidreason.pretrained.identity import ReasonerIdentity
from vidreason.reasoning.reasoner_config import DecodingConfig
from vidreason.reasoning.tokenization import MARKUP_VERSION

SCORED = ("parser", "scoring", "judge")
"""Fields that say how answers are scored, and nothing of how they were made: kept answers are
scored anew, by the current rules, whenever they are read."""
MUST_AGREE = ("questions", "prompts", "frames", "answering", "parser", "scoring", "judge")
"""Fields that comparable runs have in common; the others say what is compared, or how it ran."""

_PACKAGES = ("torch", "transformers")
_DRAWN: tuple[Control, ...] = ("shuffled_frames", "shuffled", "random")
"""Controls that depend on a seed."""
_HASHES = ("hash", "protocol_hash")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What the answers of one file were made with. All values are such as JSON holds."""

    questions: dict[str, str] = field(default_factory=dict)
    """Of each corpus, a hash of ids, videos, spans, types, options and references."""
    prompts: dict[str, str] = field(default_factory=dict)
    """Of each corpus, a hash of the prompts."""
    incomplete: dict[str, str] = field(default_factory=dict)
    """Of each corpus of which questions could not be read, how many were: ``8,563 of 8,564 official
    questions``. Its numbers are not those of the benchmark."""
    frames: dict[str, Any] = field(default_factory=dict)
    """Which frames of a video were looked at."""
    answering: dict[str, Any] = field(default_factory=dict)
    """How options were chosen, texts decoded, and long prompts cut."""
    parser: int = PARSER_VERSION
    """Version of the rules by which outputs become answers and scores."""
    scoring: dict[str, str] = field(default_factory=dict)
    """Of each corpus, the measure that its protocol takes the mean of; empty where answers are
    kept, which any protocol may score."""
    judge: str = ""
    """The judge of free answers; empty for none."""
    model: str = ""
    """Content hash of the reasoner, wherever it lies."""
    perceiver: str = ""
    """Fingerprint of what made the visual tokens."""
    control: str = "none"
    """What the visual tokens were replaced by."""
    seed: int = 0
    """Seed of the control."""
    batch_size: int = 0
    """Questions at a time, which changes no more than the rounding of numbers."""
    versions: dict[str, str] = field(default_factory=dict)
    """Of the packages."""

    @property
    def hash(self) -> str:
        """Over all fields: files with the same one may be parts of one run."""
        return _digest([asdict(self)])

    @property
    def protocol_hash(self) -> str:
        """Over the fields of ``MUST_AGREE``: numbers with different ones are not comparable."""
        return _digest([{name: getattr(self, name) for name in MUST_AGREE}])

    def scored_by(self, protocols: Mapping[str, Protocol]) -> "Manifest":
        """This manifest with the measure, and the rules, that each corpus is now scored by."""
        measures = {
            corpus: protocols.get(corpus, Protocol()).measure_name for corpus in self.questions
        }
        return replace(self, scoring=measures, parser=PARSER_VERSION)

    def as_json(self) -> dict[str, Any]:
        """The fields, with both hashes."""
        return {"hash": self.hash, "protocol_hash": self.protocol_hash, **asdict(self)}


def make_manifest(
    examples: Iterable[Example],
    identity: ReasonerIdentity,
    evaluation: EvaluationConfig,
    decoding: DecodingConfig,
    incomplete: Mapping[str, str] | None = None,
) -> Manifest:
    """The manifest of a run under ``evaluation.control``.

    Args:
        examples: All questions, in any order.
        identity: Of the model.
        evaluation: How the questions are answered.
        decoding: How texts are generated, where any are.
        incomplete: Corpora of which questions could not be read, and how many were.
    """
    by_corpus: dict[str, list[Example]] = {}
    for example in sorted(examples, key=lambda example: example.id):
        by_corpus.setdefault(example.corpus, []).append(example)
    by_likelihood = evaluation.multiple_choice == "likelihood"
    has_choices = any(example.options for own in by_corpus.values() for example in own)
    generates = any(
        not (example.options and by_likelihood) for own in by_corpus.values() for example in own
    )
    answering: dict[str, Any] = {"markup": MARKUP_VERSION}
    if has_choices:
        answering["multiple_choice"] = evaluation.multiple_choice
        answering["max_text_tokens"] = evaluation.max_text_tokens
    if generates:
        answering["decoding"] = _used_settings(decoding)
    return Manifest(
        questions=_digests(by_corpus, _content),
        prompts=_digests(by_corpus, lambda example: [example.id, example.prompt]),
        incomplete=dict(incomplete or {}),
        frames=identity.frames,
        answering=answering,
        model=identity.model,
        perceiver=identity.perceiver,
        control=evaluation.control,
        seed=evaluation.seed if evaluation.control in _DRAWN else 0,
        batch_size=evaluation.batch_size,
        versions={
            "vidreason": vidreason.__version__,
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
    )


def manifest_from_json(values: Mapping[str, Any], source: str) -> Manifest:
    """Read what :meth:`Manifest.as_json` gave.

    Args:
        values: Of a file.
        source: Where they come from, for messages.

    Raises:
        ValueError: They are no manifest, or were changed since.
    """
    own = {name: value for name, value in values.items() if name not in _HASHES}
    if own.keys() == {item.name for item in fields(Manifest)}:
        manifest = Manifest(**own)
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
    return {name: own for name, own in lines.items() if own}


def _differences(name: str, first: Any, second: Any) -> Iterator[str]:  # noqa: ANN401 - JSON values
    if isinstance(first, dict) and isinstance(second, dict):
        for key in dict.fromkeys([*first, *second]):
            yield from _differences(
                f"{name}.{key}", first.get(key, "absent"), second.get(key, "absent")
            )
    elif first != second:
        yield f"{name}: {first!r} and {second!r}"


def _content(example: Example) -> list[Any]:
    """What of a question decides its score."""
    return [
        *(example.id, example.video_id, example.start_seconds, example.end_seconds),
        *(example.question_type, example.group_id, example.options),
        *(example.answer_index, example.answers, example.spans),
        unanswered(example).reference_texts,
    ]


def _used_settings(decoding: DecodingConfig) -> dict[str, Any]:
    """The fields that the strategy reads."""
    names = ["strategy", "max_new_tokens"]
    if decoding.strategy == "nucleus":
        names += ["temperature", "top_p", "seed"]
    elif decoding.strategy == "beam":
        names += ["num_beams", "length_penalty"]
    return {name: getattr(decoding, name) for name in names}


def _digests(
    by_corpus: Mapping[str, Sequence[Example]], of: Callable[[Example], Any]
) -> dict[str, str]:
    return {corpus: _digest(map(of, by_corpus[corpus])) for corpus in sorted(by_corpus)}


def _digest(values: Iterable[Any]) -> str:
    """16 hex digits for JSON values one after another."""
    digest = hashlib.sha256()
    for value in values:
        digest.update(json.dumps(value, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()[:16]
