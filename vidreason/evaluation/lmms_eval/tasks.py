"""Benchmarks as task files of lmms-eval: a YAML file and a JSONL file beside it, from examples.

The JSONL holds what a reader made of local annotation files, so nothing is downloaded; answers are
scored by :mod:`vidreason.evaluation.protocols`. The other functions here are those that the YAML
files name.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from vidreason.evaluation.cells import score_predictions
from vidreason.evaluation.items import scored_items
from vidreason.evaluation.predictions.row_files import row_from_json
from vidreason.evaluation.predictions.rows import BenchmarkPrediction, grade, unanswered
from vidreason.evaluation.protocols import ALL, PROTOCOLS, Protocol
from vidreason.example import Example, Turn
from vidreason.reasoning.prompts import written_out

_IMAGES = (".jpg", ".jpeg", ".png", ".webp")
_HERE = "vidreason.evaluation.lmms_eval.tasks"


def write_tasks(examples: Sequence[Example], folder: str | Path) -> list[str]:
    """Write the tasks of the corpora among ``examples``.

    lmms-eval answers a task in one way: multiple choice is ``vidreason_<corpus>``, what is answered
    in words ``vidreason_<corpus>_open``.

    Args:
        examples: With references; those without one are left out.
        folder: Is made if it is not there; give it to lmms-eval as ``--include_path``.

    Returns:
        The tasks' names.
    """
    tasks: dict[str, list[Example]] = {}
    for example in examples:
        if unanswered(example).reference is not None:
            name = f"vidreason_{example.corpus}{'' if example.options else '_open'}"
            tasks.setdefault(name, []).append(example)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, of_task in tasks.items():
        data = folder / f"{name}.jsonl"
        # A corpus with two tasks has part of its rows in each.
        both = f"{name}_open" in tasks or name.removesuffix("_open") in tasks.keys() - {name}
        groups = _groups(of_task, is_half=both)
        data.write_text("".join(json.dumps(_document(one, groups)) + "\n" for one in of_task))
        is_choice = bool(of_task[0].options)
        (folder / f"{name}.yaml").write_text(_task(name, data.resolve(), groups, is_choice))
    return sorted(tasks)


def doc_to_visual(doc: dict[str, Any]) -> list[Any]:
    """The path of a video, or an image."""
    media = str(doc["media"])
    if not media.lower().endswith(_IMAGES):
        return [media]
    image = Image.open(media)
    image.load()  # which closes the file
    return [image]


def doc_to_text(doc: dict[str, Any], lmms_eval_specific_kwargs: Any = None) -> str:  # noqa: ANN401
    """The prompt, as the reader made it; it is the same for every model."""
    return str(doc["prompt"])


def doc_to_choice(doc: dict[str, Any]) -> list[str]:
    """The options' texts."""
    return list(_prediction(doc).options)


def doc_to_target(doc: dict[str, Any]) -> Any:  # noqa: ANN401 - an index or a text
    """The right option's index, or an accepted answer."""
    reference = _prediction(doc).reference
    return reference if isinstance(reference, int) else str(doc["response"])


def process_choices(
    doc: dict[str, Any], results: Sequence[tuple[float, bool] | str]
) -> dict[str, Any]:
    """Judge the losses of a question's options: the lowest is the model's choice."""
    scores = tuple(-_loss(result) for result in results)
    row = replace(_prediction(doc), option_log_likelihoods=scores)
    return _scored(doc, row)


def process_text(doc: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Judge a generated answer."""
    return _scored(doc, replace(_prediction(doc), output=str(results[0])))


def aggregate(items: Sequence[dict[str, Any]]) -> float:
    """The mean of one group of the benchmark's protocol; NaN where no question counts in it."""
    scores = _means(tuple(item["row"] for item in items))
    return scores.get(items[0]["group"], math.nan)


@lru_cache(maxsize=1)  # the groups of a task follow each other
def _means(rows: tuple[str, ...]) -> dict[str, float]:
    scores = score_predictions([row_from_json(json.loads(row)) for row in rows])
    return {score.group: score.score.mean for score in scores}


def _groups(examples: Sequence[Example], *, is_half: bool) -> list[str]:
    """Groups that a task can score; groups whose rows are split over two tasks are left out."""
    protocol = PROTOCOLS.get(examples[0].corpus, Protocol())
    split = {name for name, types in protocol.joint.items() if not types}
    split |= {ALL} if protocol.all_is_joint else set()
    items = scored_items([unanswered(one) for one in examples])
    return [group for _, group in items if not (is_half and group in split)]


def _document(example: Example, groups: Sequence[str]) -> dict[str, Any]:
    return {
        "id": example.id,
        "media": str(Path(example.media).resolve()),
        "start_seconds": example.start_seconds,
        "end_seconds": example.end_seconds,
        # One text for models that take no turns; ours takes those of the next column.
        "prompt": written_out(example.earlier_turns, example.prompt),
        "turns": json.dumps([[turn.role, turn.text] for turn in _turns(example)]),
        "response": example.response,
        "groups": list(groups),
        # Options and references differ in form from corpus to corpus; a column has one.
        "prediction": json.dumps(asdict(unanswered(example))),
    }


def _turns(example: Example) -> list[Turn]:
    if not example.earlier_turns:
        return []
    return [*example.earlier_turns, Turn("user", example.prompt)]


def _task(name: str, data: Path, groups: Sequence[str], is_choice: bool) -> str:
    # Written by hand: `!function` is a tag of lmms-eval's, which writers of YAML would quote.
    lines = [
        f"task: {name}",
        "dataset_path: json",
        f"dataset_kwargs: {{data_files: {{test: {json.dumps(str(data))}}}}}",
        "test_split: test",
        f"output_type: {'multiple_choice' if is_choice else 'generate_until'}",
        f"doc_to_visual: !function {_HERE}.doc_to_visual",
        f"doc_to_text: !function {_HERE}.doc_to_text",
        f"doc_to_target: !function {_HERE}.doc_to_target",
        f"process_results: !function {_HERE}.{'process_choices' if is_choice else 'process_text'}",
    ]
    if is_choice:
        lines.append(f"doc_to_choice: !function {_HERE}.doc_to_choice")
    lines.append("metric_list:")
    for group in groups:
        lines += [
            f"  - metric: {json.dumps(group)}",
            f"    aggregation: !function {_HERE}.aggregate",
            "    higher_is_better: true",
        ]
    return "\n".join(lines) + "\n"


def _scored(doc: dict[str, Any], row: BenchmarkPrediction) -> dict[str, Any]:
    """The row under the name of every group; which it counts in is for :func:`aggregate` to say.

    Some groups count several rows as one.
    """
    text = json.dumps(asdict(grade(row)))
    return {group: {"group": group, "row": text} for group in doc["groups"]}


def _loss(result: tuple[float, bool] | str) -> float:
    """The loss of ``(loss, is greedy)``, of which lmms-eval 0.7.3 makes a text on its way here."""
    loss = result.strip("( ").partition(",")[0] if isinstance(result, str) else result[0]
    return float(loss)  # also of "nan", which is no literal


def _prediction(doc: dict[str, Any]) -> BenchmarkPrediction:
    return row_from_json(json.loads(doc["prediction"]))
