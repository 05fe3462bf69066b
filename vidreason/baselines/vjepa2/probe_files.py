"""The folder of a trained probe: its card and its weights."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save

from vidreason.atomic_file import atomic_file, write_json_atomically
from vidreason.baselines.vjepa2.config import LookAhead, ProbeSizes
from vidreason.baselines.vjepa2.probe import AttentiveProbe
from vidreason.config import config_from_values
from vidreason.json_object import read_json_object
from vidreason.perception.weights import load_weights
from vidreason.reasoning.plain_text import normalise_answer

CARD_FILE = "probe.json"
WEIGHTS_FILE = "probe.safetensors"
FORMAT_VERSION = 1
_MAX_CARD_BYTES = 2**25  # 32 MiB, mostly names of labels
_HEADS_TEXT = "letters, digits and underscores, a letter first"


@dataclass(kw_only=True)
class ProbeHead:
    """One task of a probe."""

    name: str
    """Name of the task, such as ``event``; a Python name."""
    labels: list[str]
    """By their index in the logits."""
    counts: list[int] = field(default_factory=list)
    """Training samples of each label; empty where they are not known."""

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"heads: the name {self.name!r} is not one of {_HEADS_TEXT}")
        if not self.labels:
            raise ValueError(f"heads: {self.name!r} has no labels")
        # Compared as answers are: labels of one text could not be told apart there.
        if len(set(map(normalise_answer, self.labels)) - {""}) < len(self.labels):
            raise ValueError(f"heads: {self.name!r} has two labels of one text, or an empty one")
        if self.counts and len(self.counts) != len(self.labels):
            raise ValueError(
                f"heads: {self.name!r} has {len(self.labels)} labels and {len(self.counts)} counts"
            )
        if any(count < 0 for count in self.counts):
            raise ValueError(f"heads: {self.name!r} has a count below 0")


@dataclass(kw_only=True)
class ProbeCard:
    """Facts about a trained probe, beside its weights."""

    format_version: int = FORMAT_VERSION
    sizes: ProbeSizes
    heads: list[ProbeHead]
    """In the order of the probe's queries; the last one says the event that is predicted."""
    look_ahead: LookAhead
    """Look-ahead of the latents that it was trained on."""
    encoder: str = ""
    """:func:`vidreason.perception.weights.hash_weights` of the encoder whose latents it was trained
    on; empty where it is not known."""
    scores: Literal["softmax", "sigmoid"] = "softmax"
    """Probabilities from logits: ``sigmoid`` for a probe trained with a loss for each label by
    itself, whose probabilities are divided by their sum."""
    fidelity: Literal["re-trained", "official-weights"] = "re-trained"
    """Our training, or a released file."""
    trained_on: list[str] = field(default_factory=list)
    """Corpora that it was trained on."""

    def __post_init__(self) -> None:
        names = [head.name for head in self.heads]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"heads: the names {names} must differ, and there must be one")

    @property
    def num_labels(self) -> dict[str, int]:
        """Number of labels by head."""
        return {head.name: len(head.labels) for head in self.heads}


def build_probe(card: ProbeCard) -> AttentiveProbe:
    """Build the probe that a card describes, with random weights."""
    return AttentiveProbe(card.sizes, card.num_labels)


def save_probe(probe: AttentiveProbe, card: ProbeCard, folder: Path) -> None:
    """Write a probe's folder; the card, which makes it one, comes last."""
    tensors = {
        name: value.detach().cpu().contiguous() for name, value in probe.state_dict().items()
    }
    with atomic_file(folder / WEIGHTS_FILE) as file:
        file.write(save(tensors))
    write_json_atomically(folder / CARD_FILE, asdict(card))


def read_card(folder: Path) -> ProbeCard:
    """Read the card of a probe's folder.

    Raises:
        ValueError: The folder is no probe's, damaged, or of another format.
    """
    path = folder / CARD_FILE
    if not path.is_file():
        raise ValueError(
            f"baselines: weights.probe {str(folder)!r} is no probe's folder: it has no {CARD_FILE};"
            " give the folder that training a probe has written, or a released ek100-*.pt"
        )
    values = read_json_object(path, _MAX_CARD_BYTES)
    if values.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path}: format_version is {values.get('format_version')!r:.40}, this program reads "
            f"{FORMAT_VERSION}; train the probe again"
        )
    return config_from_values(ProbeCard, values, str(path))


def load_probe(folder: Path) -> tuple[AttentiveProbe, ProbeCard]:
    """Load a probe's folder into memory, in float32.

    Raises:
        ValueError: As :func:`read_card`; or its weights are missing, damaged or of other sizes.
    """
    card = read_card(folder)
    with torch.device("meta"):
        probe = build_probe(card)
    load_weights(probe, str(folder / WEIGHTS_FILE))
    return probe.requires_grad_(False).eval(), card


def label_prior(head: ProbeHead) -> list[float]:
    """Return the share of each label in training; equal shares where it is not known."""
    counts: Sequence[int] = head.counts if any(head.counts) else [1] * len(head.labels)
    total = sum(counts)
    return [count / total for count in counts]
