"""The card of an instruction set, by which Hugging Face ``datasets`` loads it, and its report."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from vidreason.evaluation.tables import Table
from vidreason.markdown import code, escaped, table
from vidreason.teacher.bias_tables import (
    agreement_table,
    confidence_table,
    ending_table,
    length_table,
    scenario_tables,
    word_tables,
)
from vidreason.teacher.provenance import TeacherProvenance
from vidreason.teacher.published import published
from vidreason.teacher.rows import parameters_hash
from vidreason.teacher.set_summary import SetSummary

FEATURES: list[dict[str, Any]] = [
    *({"name": name, "dtype": "string"} for name in ("id", "source", "video_id", "media")),
    {"name": "start", "dtype": "float64"},
    {"name": "end", "dtype": "float64"},
    {"name": "instruction", "dtype": "string"},
    {"name": "causal_explanation", "list": "string"},
    {
        "name": "step_times",
        "list": [{"name": "start", "dtype": "float64"}, {"name": "end", "dtype": "float64"}],
    },
    {"name": "prediction", "dtype": "string"},
    {
        "name": "predictions",
        "list": [
            {"name": "text", "dtype": "string"},
            {"name": "confidence", "dtype": "float64"},
            {"name": "justification", "dtype": "string"},
        ],
    },
    {
        "name": "outcome",
        "struct": [
            {"name": "text", "dtype": "string"},
            {"name": "kind", "dtype": "string"},
            {"name": "seconds", "dtype": "float64"},
        ],
    },
    *(
        {"name": name, "dtype": "string"}
        for name in (
            *("teacher", "teacher_prompt_sha", "parameters_sha", "created", "license_tag"),
        )
    ),
    {"name": "flags", "list": "string"},
]
"""Columns of a row, as ``datasets`` writes them: without them, a column that is null in the first
rows would have no type."""

_SPLITS = ("train", "val")
# Tags of the Hub for the number of rows.
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"))

_LOADING = """\
In vidreason, as a corpus of stage 2; media are looked for below `videos/` of this folder:

```yaml
data:
  train:
  - {reader: causal_vid_instruct, root: THIS_FOLDER, split: train, media_dir: FOLDER_OF_THE_VIDEOS}
```

`videos/<source>` may be a link to a source's folder; `media_dir` names the folder that the links
lead into, without which nothing outside of this one is opened. Where the set was made,
`training.yaml` beside this file says both.

The texts alone, in plain Python:

```python
from datasets import load_dataset

rows = load_dataset("THIS_FOLDER")["train"]
```

The videos come from their sources, under their own terms: a row has the source's id of the video,
the path that it had there, and its span in seconds. This set holds no video and no picture."""

_LIMITS = """\
- What these texts prefer to say, do not see or leave out, a model that is trained on them learns;
  the paper names the latent biases of its teacher as a limit. `bias.html` beside this file shows
  verbs, objects, lengths, refusals and confidences by source, beside the sources' annotations.
- A step that the gate accepted was not contradicted; it was not proven. Rows with `flags` have a
  remark of the gate.
- It is not for evaluation: use a benchmark whose answers people have checked."""
_TEACHER_LIMITS = """\
- The texts are a model's. They can be fluent and wrong, also about causes that are plain to see,
  and their confidences are words, not calibrated probabilities.
- The teacher was shown the clip and not what came after it: a prediction is plausible at best. What
  happened between the frames that it was shown, it had to guess.
- A model should not be judged by the model that wrote its training data.
"""

_CITATION = """\
The set and its prompt are those of section 4.1.2 (Causal-Vid-Instruct) of the paper that vidreason
implements, "{title}". The paper's own set has no public release; this one was made with the
pipeline of vidreason. Cite the paper, the teacher, and the sources named above."""
_PAPER = (
    "Video Event Reasoning and Prediction by Fusing World Knowledge from LLMs with Vision "
    "Foundation Models"
)


def card_facts(
    summary: SetSummary, provenance: TeacherProvenance, further: Mapping[str, str]
) -> dict[str, str]:
    """A set at a glance, without secrets and paths of this machine."""
    rows = summary.num_rows
    facts = {
        "rows": f"{rows.total()} ({rows['train']} train, {rows['val']} val)",
        "clips": str(summary.endings.total()),
        "teacher": provenance.teacher,
        "prompt": f"SHA-256 {provenance.prompt_sha}" if provenance.prompt_sha else "none",
        "parameters": f"SHA-256 {parameters_hash(provenance)}",
        "answered": " to ".join(dict.fromkeys(filter(None, _dates(summary)))) or "never",
    }
    return facts | {published(name): published(text) for name, text in further.items()}


def instruction_card(
    summary: SetSummary,
    provenance: TeacherProvenance,
    facts: Mapping[str, str],
    tables: Sequence[Table],
) -> str:
    """The text of ``README.md``.

    Args:
        summary: Of the set.
        provenance: As it is published.
        facts: Of :func:`card_facts`.
        tables: The sample, what was excluded from it, and the gate's counts.
    """
    splits = [split for split in _SPLITS if summary.num_rows[split]]
    # The head of the card, which the Hub and datasets read.
    front: dict[str, Any] = {
        "pretty_name": "Causal-Vid-Instruct",
        "license": "other",
        "license_name": "the-licences-of-its-sources",
        "language": ["en"],
        "task_categories": ["video-text-to-text"],
        "tags": ["synthetic", "video", "causal-reasoning", "vidreason"],
        "size_categories": [_size_category(summary.num_rows.total())],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"{split}.jsonl"} for split in splits],
            }
        ],
        "dataset_info": {"features": FEATURES},
    }
    sections = {
        "At a glance": "\n".join(f"- {escaped(k)}: {escaped(v)}" for k, v in facts.items()),
        "How it was made": _making(provenance),
        "How clips ended": _tables([ending_table(summary.bias), *tables]),
        "Sources and licences": _licences(summary, provenance),
        "What the rows hold": _content(summary),
        "Limits": (_TEACHER_LIMITS if provenance.prompt else "") + _LIMITS,
        "How to load it": _LOADING,
        "How to publish it": (
            "Push the texts only; `.gitignore` names what stays. Read the terms of the sources and "
            "of the teacher first.\n\n```\nhf upload NAME/OF-THE-SET . --repo-type dataset "
            "--include README.md --include report.md --include bias.html "
            "--include train.jsonl --include val.jsonl\n```"
        ),
        "Citation": _CITATION.format(title=_PAPER),
    }
    body = "\n\n".join(f"## {title}\n\n{text.rstrip()}" for title, text in sections.items())
    return (
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n# Causal-Vid-Instruct\n\n"
        "Causal explanations of short video clips, step by step, and predictions of what happens "
        f"next, for instruction tuning.\n\n{body}\n"
    )


def set_report(summary: SetSummary, facts: Mapping[str, str], tables: Sequence[Table]) -> str:
    """The text of ``report.md``: all tables of a run."""
    bias = summary.bias
    all_tables = [
        ending_table(bias),
        *tables,
        length_table(bias),
        agreement_table(bias),
        confidence_table(bias),
        *word_tables(bias, "verbs"),
        *word_tables(bias, "objects"),
        *scenario_tables(bias),
    ]
    listed = "\n".join(f"- {escaped(name)}: {escaped(text)}" for name, text in facts.items())
    return f"# Report of an instruction set\n\n{listed}\n\n{_tables(all_tables)}\n"


def _making(provenance: TeacherProvenance) -> str:
    if not provenance.prompt:
        return (
            f"No teacher model was asked: the texts come from {escaped(provenance.teacher)}. "
            f"{_parameters(provenance)}"
        )
    quoted = "\n".join(f"> {escaped(line)}" for line in provenance.prompt.splitlines())
    return (
        f"The teacher {code(provenance.teacher)} was shown frames of each clip with this prompt, "
        "word for word, and an instruction in which form to answer; the hash "
        f"{code(provenance.prompt_sha)} is that of both:\n\n{quoted}\n\n{_parameters(provenance)}"
    )


def _parameters(provenance: TeacherProvenance) -> str:
    text = json.dumps(provenance.parameters, indent=2, sort_keys=True)
    # A fence that no text of JSON can end: inside of it, line ends are escaped.
    return (
        f"The parameters, whose hash {code(parameters_hash(provenance))} is `parameters_sha` of "
        f"the rows:\n\n```json\n{text}\n```"
    )


def _licences(summary: SetSummary, provenance: TeacherProvenance) -> str:
    rows = [
        (code(source, in_table=True), escaped(licence) or "not recorded", str(count))
        for source, licences in sorted(summary.licences.items())
        for licence, count in sorted(licences.items())
    ]
    origin = (
        "The terms of the teacher's provider may limit what its texts are used for."
        if provenance.prompt
        else "The texts are made from the sources' annotations, so the terms of these hold for "
        "them, too: those of Ego4D and Something-Something forbid to pass them on."
    )
    return (
        f"{table(('source', 'licence tag of the clips', 'rows'), rows, num_left=2)}\n\n"
        "The tags are those of the videos, as a note and not as legal advice. Rows hold ids and "
        f"texts only, whatever their source: no video and no picture is here. {origin}"
    )


def _content(summary: SetSummary) -> str:
    total = summary.num_rows.total()
    rows = [
        (name, str(summary.num_with[name]), f"{summary.num_with[name] / total:.1%}")
        for name in ("explanation", "prediction", "confidences", "times", "flags")
        if total
    ]
    return (
        f"{table(('rows with', 'number', 'share'), rows)}\n\n"
        "`causal_explanation` is a list of steps, `step_times` their times in seconds from the "
        "start of the clip, where the teacher gave any; `prediction` is the most likely event and "
        "`predictions` up to three with confidences, where there are confidences; `outcome` is the "
        "event that really came next, where the source knows it."
    )


def _tables(tables: Sequence[Table]) -> str:
    return "\n\n".join(published(each.to_markdown()) for each in tables if each.rows)


def _dates(summary: SetSummary) -> tuple[str, str]:
    return summary.first_created[:10], summary.last_created[:10]


def _size_category(num_rows: int) -> str:
    return next((name for limit, name in _SIZES if num_rows < limit), "1M<n<10M")
