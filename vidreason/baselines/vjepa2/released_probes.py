"""Released EPIC-KITCHENS-100 probes: ``ek100-vitl-256.pt`` and ``ek100-vitg-384.pt``.

Layout after facebookresearch/vjepa2@c2963a4, evals/action_anticipation_frozen/eval.py: the entry
``classifiers`` is a list of state dicts, of probes trained side by side with other learning rates,
whose keys begin with ``module.``; the official inference takes the first. A file names no labels:
their order is that of Python sets over the annotations of training (epickitchens.py,
``filter_annotations``), from which it is made again here.
"""

import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vidreason.baselines.vjepa2.config import LookAhead, ProbeSizes
from vidreason.baselines.vjepa2.probe import AttentiveProbe, classifier_name
from vidreason.baselines.vjepa2.probe_files import ProbeCard, ProbeHead, build_probe, save_probe
from vidreason.finite_values import as_weights
from vidreason.perception.inert_pickles import StoredTensor
from vidreason.perception.pickled_tensors import TorchFile
from vidreason.perception.weights import check_keys

_ENTRY = "classifiers"
_WRAPPER = "module."
_QUERY = "pooler.query_tokens"
_BLOCK = "pooler.blocks."
_HEADS = (("verb", "noun", "action"), ("action",))
"""Heads in the order of the queries, with classes of verbs and nouns and without."""
_NUM_HEADS = 16
"""Attention heads of both released probes, which their files do not tell: num_heads in
configs/inference/{vitl,vitg-384}/ek100.yaml."""
_COLUMNS = ("verb_class", "noun_class", "verb", "noun")
_MAX_ANNOTATION_BYTES = 2**27  # 128 MiB


def load_released_probe(path: str, annotations: str) -> tuple[AttentiveProbe, ProbeCard]:
    """Load the first probe of a released file.

    Args:
        path: The file.
        annotations: ``EPIC_100_train.csv`` of epic-kitchens-100-annotations, for the labels; empty
            for labels that are numbers.

    Raises:
        ValueError: A file is missing, damaged or of another layout, or the two do not fit.
    """
    if not Path(path).is_file():
        raise ValueError(f"baselines: weights.probe: there is no file {path!r}")
    file = TorchFile(path)
    try:
        stored = _first_classifier(path, file.content)
        card = _card(path, stored, annotations)
        with torch.device("meta"):
            probe = build_probe(card)
        expected = {name: tuple(value.shape) for name, value in probe.state_dict().items()}
        shapes = {name: tuple(value.shape) for name, value in stored.items()}
        check_keys(path, type(probe).__name__, expected, shapes, {})
        tensors: dict[str, Tensor] = {
            name: as_weights(path, name, file.read(stored[name]), torch.float32)
            for name in expected
        }
    finally:
        file.close()
    probe.load_state_dict(tensors, assign=True)
    return probe.requires_grad_(False).eval(), card


def convert_released_probe(path: str, annotations: str, folder: Path) -> None:
    """Write a released probe as a folder with safetensors, of which only this program is needed.

    Raises:
        ValueError: As :func:`load_released_probe`.
    """
    probe, card = load_released_probe(path, annotations)
    save_probe(probe, card, folder)


def epic_kitchens_labels(annotations: str) -> dict[str, list[str]]:
    """Return the labels of verbs, nouns and actions in the order of the released probes' logits.

    A class is named by the words that narrators use for it most often in the training split.

    Args:
        annotations: ``EPIC_100_train.csv``.

    Raises:
        ValueError: It is missing, or not that file.
    """
    pairs: list[tuple[int, int]] = []
    verbs: dict[int, Counter[str]] = {}
    nouns: dict[int, Counter[str]] = {}
    for verb_class, noun_class, verb, noun in _annotation_rows(annotations):
        pairs.append((verb_class, noun_class))
        verbs.setdefault(verb_class, Counter())[verb.replace("-", " ")] += 1
        # "tap:hot" is a hot tap.
        nouns.setdefault(noun_class, Counter())[" ".join(reversed(noun.split(":")))] += 1
    # The order in which CPython walks through sets of integers and of pairs of them, which are
    # filled in the file's order: it depends on their hashes alone, which are not randomised.
    actions = set(pairs)
    verb_order = set([verb for verb, _ in actions])
    noun_order = set([noun for _, noun in actions])
    verb_names, noun_names = _class_names(verbs), _class_names(nouns)
    return {
        "verb": [verb_names[verb] for verb in verb_order],
        "noun": [noun_names[noun] for noun in noun_order],
        "action": [f"{verb_names[verb]} {noun_names[noun]}" for verb, noun in actions],
    }


def _class_names(words: Mapping[int, Counter[str]]) -> dict[int, str]:
    """Name each class by its commonest words that no class before it has."""
    names: dict[int, str] = {}
    for number, counts in sorted(words.items()):
        free = (word for word, _ in counts.most_common() if word not in names.values())
        names[number] = next(free, f"class {number}")
    return names


def _annotation_rows(path: str) -> list[tuple[int, int, str, str]]:
    if not Path(path).is_file():
        raise ValueError(f"baselines: weights.annotations: there is no file {path!r}")
    if Path(path).stat().st_size > _MAX_ANNOTATION_BYTES:
        raise ValueError(f"{path!r} has more than {_MAX_ANNOTATION_BYTES:,} bytes")
    rows = []
    try:
        with open(path, encoding="utf-8", newline="") as file:
            # The first line names the columns.
            for number, row in enumerate(csv.DictReader(file), start=2):
                verb_class, noun_class, verb, noun = (row.get(name) for name in _COLUMNS)
                if not (verb_class and noun_class and verb and noun):
                    raise ValueError(f"line {number} has not all of {', '.join(_COLUMNS)}")
                rows.append((int(verb_class), int(noun_class), verb.strip(), noun.strip()))
    except (csv.Error, UnicodeDecodeError, ValueError) as error:
        raise ValueError(
            f"{path!r} is not EPIC_100_train.csv of epic-kitchens-100-annotations: {error}"
        ) from error
    if not rows:
        raise ValueError(f"{path!r} has no rows")
    return rows


def _first_classifier(path: str, content: object) -> dict[str, StoredTensor]:
    """Return the tensors of the first probe, by their keys without the wrapper's prefix."""
    if not isinstance(content, dict) or _ENTRY not in content:
        raise ValueError(
            f"weights {path!r}: no entry {_ENTRY!r}, which a released probe's file has; give "
            "ek100-vitl-256.pt or ek100-vitg-384.pt"
        )
    classifiers = content[_ENTRY]
    first = classifiers[0] if isinstance(classifiers, list) and classifiers else None
    if not isinstance(first, Mapping) or not first:
        raise ValueError(f"weights {path!r}: {_ENTRY!r} is no list of state dicts")
    tensors = {}
    for key, value in first.items():
        if not isinstance(key, str) or not isinstance(value, StoredTensor):
            raise ValueError(f"weights {path!r}: {_ENTRY}[0] has {key!r:.60}, which is no tensor")
        tensors[key.removeprefix(_WRAPPER)] = value
    return tensors


def _card(path: str, stored: Mapping[str, StoredTensor], annotations: str) -> ProbeCard:
    """Make the card by the shapes in a file."""
    if _QUERY not in stored or len(stored[_QUERY].shape) != 3:
        raise ValueError(
            f"weights {path!r}: {_ENTRY}[0] has no {_QUERY} of three dimensions; it is not the "
            "attentive probe of action_anticipation_frozen"
        )
    # The file says all sizes but the number of heads.
    _, num_queries, width = stored[_QUERY].shape
    names = next((names for names in _HEADS if len(names) == num_queries), None)
    if names is None:
        raise ValueError(f"weights {path!r}: {num_queries} queries; expected 3, or 1")
    layers = {key.removeprefix(_BLOCK).split(".")[0] for key in stored if key.startswith(_BLOCK)}
    known = epic_kitchens_labels(annotations) if annotations else {}
    heads = []
    for name in names:
        key = f"{classifier_name(name)}.weight"
        shape = stored[key].shape if key in stored else ()
        if len(shape) != 2:
            raise ValueError(f"weights {path!r}: {_ENTRY}[0] has no matrix {key}")
        labels = known.get(name) or [f"{name} {index}" for index in range(shape[0])]
        if len(labels) != shape[0]:
            raise ValueError(
                f"weights {path!r} have {shape[0]} classes of {name}, but {annotations!r} has "
                f"{len(labels)}; give the annotations that the probe was trained on"
            )
        heads.append(ProbeHead(name=name, labels=labels))
    return ProbeCard(
        sizes=ProbeSizes(width=width, num_heads=_NUM_HEADS, num_blocks=len(layers) + 1),
        heads=heads,
        look_ahead=LookAhead(),
        scores="sigmoid",  # use_focal_loss: one loss for each label
        fidelity="official-weights",
        trained_on=["EPIC-KITCHENS-100"],
    )
