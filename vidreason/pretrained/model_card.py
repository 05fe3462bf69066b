"""The model card of a reasoner: what it is, was trained on, scored, needs, and may be used for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import yaml

from vidreason.markdown import code, escaped, table
from vidreason.perception.added_origins import AddedPart
from vidreason.perception.config import PerceiverConfig
from vidreason.pretrained.frozen_parts import IN_PACKAGE, FrozenPart
from vidreason.reasoning.reasoner_config import ReasonerConfig
from vidreason.released_parts import released_part

_LIMITS = """\
- It sees {clips} clips of {frames} frames, spread evenly over the video or the span that is asked
  about{objects}: what happens between them, and what the frozen encoders do not tell apart, it
  cannot know. It hears nothing.
- Its answers are generated text. They can be fluent and wrong, also about causes that are plain to
  see; the confidences of predicted events are words of the model, not calibrated probabilities.
- It has learnt from the data named above and from what its frozen parts were trained on, with
  their gaps and biases. Nothing here says how it does on other videos than those it was scored on.
- Not for decisions about people."""


@dataclass(kw_only=True)
class Provenance:
    """Origin of a reasoner, for its card."""

    stage: str = ""
    """The training stage that it comes out of."""
    training_data: Sequence[str] = ()
    """Corpora, with their splits, that its last stage trained on."""
    checkpoint: str = ""
    """The training checkpoint's name and step."""
    step: int | None = None
    """Optimizer steps of that stage, for ``config.json``."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """Scores as ``experiments.evaluate`` writes them to ``metrics.json``."""
    tables: str = ""
    """Tables of scores in Markdown, in the place of those made of ``metrics``."""
    licence: str = ""
    """SPDX identifier of the licence of what was trained, such as ``CC0-1.0``; empty if it follows
    from its parts."""


def model_card(
    config: ReasonerConfig,
    perceiver: PerceiverConfig,
    frozen_parts: Mapping[str, FrozenPart],
    provenance: Provenance,
    *,
    base_model: str,
    added_parts: Mapping[str, AddedPart] = MappingProxyType({}),
) -> str:
    """The text of ``README.md``, with the front matter that the Hub reads.

    Args:
        config: The reasoner's.
        perceiver: What its visual tokens are made with.
        frozen_parts: What is needed beside the folder.
        provenance: Training data and scores.
        base_model: The language model that was adapted, or is needed.
        added_parts: Origins of encoders from outside of this project.
    """
    # Front matter, which the Hub reads: the base model only where it is a known one.
    known = released_part(base_model)
    front: dict[str, Any] = {
        "library_name": "vidreason",
        "pipeline_tag": "video-text-to-text",
        "tags": ["video", "video-question-answering", "vidreason"],
    }
    if provenance.licence:
        front["license"] = provenance.licence.lower()
    else:
        front |= {"license": "other", "license_name": "the-licences-of-its-parts"}
    if known is not None:
        front["base_model"] = base_model
    # Everything that has to be there besides the folder.
    needs = "".join(
        f"- {code(name)}: {escaped(part.source)}, content hash {code(part.sha256)}\n"
        for name, part in frozen_parts.items()
    )
    packages = "".join(
        f"- {code(name)}: {code(getattr(perceiver, name).name)} of the package "
        f"{code(part.package)}, which is not part of vidreason and has to be installed, too\n"
        for name, part in added_parts.items()
    )
    sections = {
        "Training": _training(provenance),
        "Scores": provenance.tables or _scores(provenance.metrics),
        "What it needs to run": (
            "`pip install vidreason`, and the frozen parts that this folder refers to. They are "
            "compared with these content hashes when it is loaded:\n\n"
            + (needs or "- none\n")
            + packages
        ),
        "The language model by itself": _plain_language_model(config, frozen_parts),
        "Parts and licences": _licences(
            config, perceiver, frozen_parts, base_model, provenance.licence
        ),
        "Limits": _LIMITS.format(
            clips=perceiver.sampling.num_clips,
            frames=perceiver.sampling.frames_per_clip,
            objects=(
                f", and objects on {perceiver.sampling.num_key_frames} key frames"
                if perceiver.use_objects and perceiver.kept_objects != 0
                else ""
            ),
        ),
    }
    body = "\n\n".join(f"## {title}\n\n{text.rstrip()}" for title, text in sections.items())
    return (
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n# A video reasoner\n\n"
        "Answers questions about a video, explains why something happened in it and predicts what "
        "happens next. Visual tokens of frozen encoders are distilled by a fusion core into "
        f"{config.fusion.num_queries} embeddings before the prompt of a language model.\n\n"
        '```\nvidreason ask VIDEO "why did it stop" --model THIS_FOLDER\n```\n\n'
        f"{body}\n"
    )


def _plain_language_model(config: ReasonerConfig, frozen_parts: Mapping[str, FrozenPart]) -> str:
    """Return how plain transformers and peft load what the folder holds of the language model."""
    # By where its weights are: elsewhere and untouched, in the folder, or adapters of others'.
    if "language_model" in frozen_parts and config.lora is None:
        return "It was not trained: it is the frozen part `language_model`, as it was."
    if "language_model" not in frozen_parts:
        lines = [
            "from transformers import AutoModelForCausalLM",
            "",
            'language_model = AutoModelForCausalLM.from_pretrained("THIS_FOLDER/language_model")',
        ]
    elif frozen_parts["language_model"].source.startswith(IN_PACKAGE):
        inside = frozen_parts["language_model"].source.removeprefix(IN_PACKAGE)
        lines = [
            "from importlib.resources import files",
            "",
            "import torch",
            "from peft import PeftModel",
            "from transformers import AutoModelForCausalLM",
            "",
            f'base = files("vidreason") / "{inside}"  # it comes with the package',
            f"base = AutoModelForCausalLM.from_pretrained(base, dtype={_dtype(config)})",
            'language_model = PeftModel.from_pretrained(base, "THIS_FOLDER/language_model")',
        ]
    else:
        lines = [
            "import torch",
            "from peft import AutoPeftModelForCausalLM",
            "",
            "language_model = AutoPeftModelForCausalLM.from_pretrained(",
            f'    "THIS_FOLDER/language_model", dtype={_dtype(config)}',
            ")  # reads its base by the name in adapter_config.json",
        ]
    code_lines = "\n".join(lines)
    return (
        f"It sees no video: the embeddings are made by vidreason.\n\n```python\n{code_lines}\n```"
    )


def _dtype(config: ReasonerConfig) -> str:
    return f"torch.{config.language_model.dtype}"


def _training(provenance: Provenance) -> str:
    lines = [
        f"- stage: {escaped(provenance.stage) or 'not recorded'}",
        f"- data of this stage: {escaped(', '.join(provenance.training_data)) or 'not recorded'}",
    ]
    if provenance.checkpoint:
        lines.append(f"- checkpoint: {escaped(provenance.checkpoint)}")
    return "\n".join(lines)


def _scores(metrics: Mapping[str, Any]) -> str:
    if not metrics:
        return "None were given when this folder was written."
    rows = [
        [
            *map(escaped, (run, str(row["corpus"]), str(row["group"]))),
            *(str(row["num_questions"]), str(row["num_videos"]), _percent(row)),
        ]
        for run, rows_of_run in metrics["runs"].items()
        for row in rows_of_run
    ]
    header = ("run", "corpus", "group", "questions", "videos", "accuracy")
    return f"Accuracy in %, [95% interval over videos].\n\n{table(header, rows, num_left=3)}"


def _percent(row: Mapping[str, float | None]) -> str:
    accuracy, low, high = row["accuracy"], row["low"], row["high"]
    text = "-" if accuracy is None else f"{100 * accuracy:.1f}"
    return text if low is None or high is None else f"{text} [{100 * low:.1f}, {100 * high:.1f}]"


def _licences(
    config: ReasonerConfig,
    perceiver: PerceiverConfig,
    frozen_parts: Mapping[str, FrozenPart],
    base_model: str,
    licence: str,
) -> str:
    # Under these names the table of released parts knows them.
    names = {"language_model": base_model, "video_encoder": perceiver.video_encoder.name}
    if perceiver.use_objects and perceiver.segmenter.name != "patches":
        names["segmenter"] = perceiver.segmenter.name
    if config.fusion.warm_start:
        names["start of the fusion core"] = config.fusion.warm_start
    rows = []
    if licence:
        rows.append(("fusion core and adapters", "trained", "this folder", escaped(licence)))
    for part, name in names.items():
        source_of_part = frozen_parts[part].source if part in frozen_parts else name
        known = released_part(name)
        source, terms = "not a published part that this project knows", "ask who made it"
        if known is not None:
            source, terms = known.source, known.licence
        elif source_of_part.startswith(IN_PACKAGE):
            source, terms = "comes with vidreason", "Apache-2.0"
        rows.append((part.replace("_", " "), code(name, in_table=True), source, terms))
    parts = table(("part", "what", "source", "licence"), rows, num_left=None)
    return (
        f"{parts}\n\nLicences are as their sources state them; the data have licences of their own."
    )
