"""Provenance of answers: what answers, and the manifest of a run of it."""

import importlib.metadata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import vidreason
from vidreason.evaluation.config import EvaluationConfig
from vidreason.evaluation.manifest import Manifest, digest_of
from vidreason.evaluation.predictions.rows import unanswered
from vidreason.example import Example
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT
from vidreason.reasoning.reasoner_config import DecodingConfig

_PACKAGES = ("torch", "transformers")
_DRAWN = ("shuffled_frames", "shuffled", "random", "random-option")
"""Controls and priors that depend on a seed."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Identity of what answers, known without loading it. All values are such as JSON holds."""

    model: str
    """Content hash of the model, wherever it lies, or the name of what has no weights."""
    perceiver: str = ""
    """Fingerprint of what made the visual tokens; empty where there are none."""
    frames: Mapping[str, Any] = field(default_factory=dict)
    """Which frames of a video are looked at."""
    answering: Mapping[str, Any] = field(default_factory=dict)
    """Other settings of the system that decide its answers, such as the version of its markup."""
    system: Mapping[str, Any] = field(default_factory=dict)
    """Facts that a reader of a rival's numbers has to know; empty for our reasoner."""


def make_manifest(
    examples: Iterable[Example],
    provenance: Provenance,
    evaluation: EvaluationConfig,
    decoding: DecodingConfig,
    *,
    control: str = "none",
    incomplete: Mapping[str, str] | None = None,
    scores_options: bool = True,
) -> Manifest:
    """Write down what a run is made with.

    Args:
        examples: All questions, in any order.
        provenance: Of what answers.
        evaluation: How the questions are asked.
        decoding: How texts are generated, where any are.
        control: The control that the run is under, or the name of a prior.
        incomplete: Corpora of which questions could not be read, and how many were.
        scores_options: Whether the system has the capability ``log_likelihoods``.
    """
    # In the order of ids, so that the files' order changes no digest.
    by_corpus: dict[str, list[Example]] = {}
    for example in sorted(examples, key=lambda example: example.id):
        by_corpus.setdefault(example.corpus, []).append(example)
    # Only settings that a question made use of: others may differ without harm.
    by_likelihood = evaluation.multiple_choice == "likelihood" and scores_options
    has_choices = any(example.options for of_corpus in by_corpus.values() for example in of_corpus)
    generates = any(
        not (example.options and by_likelihood)
        for of_corpus in by_corpus.values()
        for example in of_corpus
    )
    answering = dict(provenance.answering)
    if has_choices:
        answering["multiple_choice"] = "likelihood" if by_likelihood else "generate"
        answering["max_text_tokens"] = evaluation.max_text_tokens
    if generates:
        answering["decoding"] = _used_settings(decoding)
    prompts = {example.prompt for of_corpus in by_corpus.values() for example in of_corpus}
    if FUTURE_PREDICTION_PROMPT in prompts:
        answering["futures"] = asdict(decoding.futures)
    return Manifest(
        questions=_digests(by_corpus, _content),
        prompts=_digests(by_corpus, _prompt),
        incomplete={
            name: of_corpus for name, of_corpus in (incomplete or {}).items() if name in by_corpus
        },
        frames=dict(provenance.frames),
        answering=answering,
        model=provenance.model,
        perceiver=provenance.perceiver,
        system=dict(provenance.system),
        control=control,
        seed=evaluation.seed if control in _DRAWN else 0,
        batch_size=evaluation.batch_size,
        versions={
            "vidreason": vidreason.__version__,
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
    )


def _prompt(example: Example) -> list[Any]:
    """The text that a question is asked in."""
    # Turns only where there are any, so that other questions have the hashes that they had before.
    turns = [[turn.role, turn.text] for turn in example.earlier_turns]
    return [example.id, example.prompt, *([turns] if turns else [])]


def _content(example: Example) -> list[Any]:
    """Fields of a question that decide its score."""
    row = unanswered(example)
    known = row.outcome_kind or row.true_futures
    return [
        *(example.id, example.video_id, example.start_seconds, example.end_seconds),
        *(example.question_type, example.group_id, example.options),
        *(example.answer_index, example.answers, example.spans),
        row.reference_texts,
        # Only where it is known, so that other questions have the hashes that they had before.
        *([row.outcome_kind, row.outcome_seconds, row.true_futures] if known else []),
        *([row.reference_justifications] if row.reference_justifications else []),
    ]


def _used_settings(decoding: DecodingConfig) -> dict[str, Any]:
    """Fields that the strategy reads."""
    names = ["strategy", "max_new_tokens"]
    if decoding.strategy == "nucleus":
        names += ["temperature", "top_p", "seed"]
    elif decoding.strategy == "beam":
        names += ["num_beams", "length_penalty"]
    return {name: getattr(decoding, name) for name in names}


def _digests(
    by_corpus: Mapping[str, Sequence[Example]], of: Callable[[Example], Any]
) -> dict[str, str]:
    return {corpus: digest_of(map(of, by_corpus[corpus])) for corpus in sorted(by_corpus)}
