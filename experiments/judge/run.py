"""Judgements of free answers: asked for in parallel, cached, summarised."""

import dataclasses
import hashlib
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from experiments.judge.config import JudgeProgramConfig
from experiments.writer_lock import sole_writer
from vidreason.atomic_file import write_atomically, write_json_atomically
from vidreason.endpoints.cache import ReplyCache
from vidreason.endpoints.errors import EndpointRefusedError, EndpointUnavailableError
from vidreason.endpoints.parallel import in_parallel
from vidreason.evaluation.judge.agreement import agreement
from vidreason.evaluation.judge.build import build_judge
from vidreason.evaluation.judge.files import read_evidence, read_scores
from vidreason.evaluation.judge.judges import Judge
from vidreason.evaluation.judge.judging import judge_answer, judge_pair
from vidreason.evaluation.judge.request import JudgeItem
from vidreason.evaluation.judge.rubric import AXES, Axis
from vidreason.evaluation.judge.summary import (
    Summary,
    agreement_table,
    judged_table,
    summarise_aspects,
    summarise_pairwise,
    summarise_pointwise,
)
from vidreason.evaluation.judge.video_chatgpt import (
    GENERATION,
    QUESTION_ANSWERING,
    judge_aspect,
)
from vidreason.evaluation.manifest import manifest_from_json
from vidreason.evaluation.predictions.row_files import read_predictions, read_predictions_file
from vidreason.evaluation.predictions.rows import BenchmarkPrediction, align_predictions, true_spans
from vidreason.secrets import printable

JUDGEMENTS_FILE = "judgements.jsonl"
SUMMARY_FILE = "summary.json"
TABLES_FILE = "tables.md"


def judge(config: JudgeProgramConfig) -> int:
    """Judge, print the tables and write all files; 1 where the judge could not be reached.

    Raises:
        ValueError: A file is missing or of another form, or it has nothing to judge; or another
            process writes to the same folder.
    """
    predictions = open_ended(_read_predictions(config.predictions), config.limit)
    if not predictions:
        raise ValueError(f"{config.predictions} has no open-ended answers; options need no judge")
    # All files are read before the first request is paid for.
    evidence = read_evidence(config.evidence) if config.evidence else {}
    others = {path: read_scores(path) for path in config.agreement_with}
    items = [judge_item(prediction, evidence) for prediction in predictions]
    folder = Path(config.output_dir or Path(config.predictions).parent / "judged")
    with sole_writer(folder, "judge"):
        return _judge_into(folder, config, items, others)


def _judge_into(
    folder: Path,
    config: JudgeProgramConfig,
    items: Sequence[JudgeItem],
    others: Mapping[str, Mapping[Axis, Mapping[str, int]]],
) -> int:
    # Outputs are kept as they come: a later start asks for the rest.
    cache = ReplyCache(folder / "outputs.sqlite")
    chosen = build_judge(config.judge)
    try:
        judgements, summaries, counts = _judge_all(config, chosen, cache, items)
    except EndpointUnavailableError as error:
        print(f"judge: {error}; start again to continue from here", file=sys.stderr)
        # What was judged so far is in the cache, and no file tells of a part.
        return 1
    finally:
        # Requests of other threads that are under way end, too.
        chosen.close()
    prompt_hashes = sorted({row["prompt_hash"] for row in judgements})
    summary: dict[str, Any] = {
        "judge": chosen.judge_id,
        "prompt_hashes": prompt_hashes,
        "predictions": _described(config.predictions),
        "manifest": _manifest(config, chosen.judge_id, prompt_hashes),
        "against": _described(config.against) if config.against else None,
        "protocol": config.protocol,
        **counts,
        "num_videos": len({item.video_id for item in items}),
        "num_empty_answers": sum(not item.answer.strip() for item in items),
        "results": summaries,
        "agreement": {path: _agreement(scores, judgements) for path, scores in others.items()},
    }
    # All or nothing: files are written when everything is judged.
    rows = "".join(json.dumps(row) + "\n" for row in judgements)
    write_atomically(folder / JUDGEMENTS_FILE, rows)
    write_json_atomically(folder / SUMMARY_FILE, _without_nan(summary))
    named = f"{config.predictions} against {config.against}"
    tables = [
        judged_table(
            summaries,
            title=named if config.against else config.predictions,
            judge_id=chosen.judge_id,
            prompt_hashes=prompt_hashes,
        )
    ]
    if config.agreement_with:
        tables.append(agreement_table(chosen.judge_id, summary["agreement"]))
    markdown = "\n\n".join(table.to_markdown() for table in tables) + "\n"
    write_atomically(folder / TABLES_FILE, markdown)
    print("\n\n".join(table.to_text() for table in tables))
    invalid = [row for row in judgements if row["invalid"]]
    if invalid:
        print(
            f"judge: {len(invalid)} of {len(judgements)} outputs are no verdicts, such as that of "
            f"{printable(invalid[0]['id'])}: {invalid[0]['invalid']}",
            file=sys.stderr,
        )
    return 0


def open_ended(
    predictions: Sequence[BenchmarkPrediction], limit: int | None = None
) -> list[BenchmarkPrediction]:
    """The rows whose answer is a free text."""
    # Options and spans are right or wrong without a judge; what cannot be done has no answer.
    rows = [
        row for row in predictions if not (row.options or true_spans(row) or row.missing_capability)
    ]
    return rows[:limit]


def judge_item(prediction: BenchmarkPrediction, evidence: Mapping[str, str]) -> JudgeItem:
    """A row as a judge sees it; of an unreadable video, the answer is empty."""
    references = prediction.reference if isinstance(prediction.reference, tuple) else ()
    # What is known of the question goes before what is known of its video.
    known = evidence.get(f"id:{prediction.id}", evidence.get(f"video:{prediction.video_id}", ""))
    return JudgeItem(
        id=prediction.id,
        # Two corpora may use one id for different videos.
        video_id=f"{prediction.corpus}:{prediction.video_id}",
        question=prediction.prompt,
        answer="" if prediction.error else prediction.output,
        references=tuple(map(str, references)) or prediction.reference_texts,
        evidence=known,
    )


def _judge_all(
    config: JudgeProgramConfig, judge: Judge, cache: ReplyCache, items: Sequence[JudgeItem]
) -> tuple[list[dict[str, Any]], list[Summary], dict[str, int]]:
    """Rows of ``judgements.jsonl``, summaries, and how many answers were judged and left out."""
    work: list[tuple[JudgeItem, Callable[[], Any]]]
    summarise: Callable[[Sequence[Any]], list[Summary]]
    counts = {"num_items": len(items)}
    if config.against:
        summarise = summarise_pairwise
        work = [
            (item, partial(judge_pair, judge, cache, item, item.answer, other))
            for item, other in zip(items, _other_answers(config.against, items), strict=True)
        ]
    elif config.protocol == "axes":
        summarise = summarise_pointwise
        work = [(item, partial(judge_answer, judge, cache, item)) for item in items]
    else:
        summarise = summarise_aspects
        aspects = QUESTION_ANSWERING if config.protocol == "video_chatgpt_qa" else GENERATION
        # Video-ChatGPT's prompts compare with a reference.
        known = [item for item in items if any(text.strip() for text in item.references)]
        if not known:
            raise ValueError(
                f"{config.predictions} has no references, which {config.protocol} needs"
            )
        counts = {"num_items": len(known), "num_without_reference": len(items) - len(known)}
        work = [
            (item, partial(judge_aspect, judge, cache, item, aspect))
            for item in known
            for aspect in aspects
        ]
    # A model in this process gains nothing by threads.
    num_threads = config.num_parallel if config.judge.kind == "openai" else 1
    judgements = _in_parallel(judge, work, num_threads)
    return [dataclasses.asdict(one) for one in judgements], summarise(judgements), counts


def _other_answers(path: str, items: Sequence[JudgeItem]) -> list[str]:
    """Another run's answers to the same questions."""
    ids = [item.id for item in items]
    judged = set(ids)
    # The other run may have answered more, of which this one judges a part.
    rows = align_predictions([row for row in _read_predictions(path) if row.id in judged], ids)
    if missing := [row.id for row in rows if row.missing_capability]:
        raise ValueError(
            f"{path} is of a system that cannot answer {len(missing)} of the questions, such as "
            f"{missing[0]}: there is nothing to compare"
        )
    return [judge_item(row, {}).answer for row in rows]


def _in_parallel(
    judge: Judge, work: Sequence[tuple[JudgeItem, Callable[[], Any]]], num_threads: int
) -> list[Any]:
    """Results in the order of ``work``; at the first error no further request is begun."""

    def judge_named(item_and_call: tuple[JudgeItem, Callable[[], Any]]) -> Any:  # noqa: ANN401
        item, call = item_and_call
        try:
            return call()
        except EndpointRefusedError:
            raise  # as a rule it is the same for all items
        except ValueError as error:
            raise ValueError(f"{item.id}: {error}") from error

    return in_parallel(judge_named, work, num_threads, judge.close)


def _agreement(
    others: Mapping[Axis, Mapping[str, int]], judgements: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """By axis, how far the scores of another judge agree with these."""
    by_axis: dict[str, Any] = {}
    for axis in AXES:
        # Outputs that are no verdicts have no scores.
        first = {row["id"]: row["scores"][axis] for row in judgements if axis in row["scores"]}
        second = others[axis]
        by_axis[axis] = (
            dataclasses.asdict(agreement(first, second)) if first.keys() & second.keys() else None
        )
    return by_axis


def _without_nan(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Turn what is not defined, such as an interval of one video, into null: JSON has no NaN."""
    if isinstance(value, Mapping):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _manifest(
    config: JudgeProgramConfig, judge_id: str, prompt_hashes: Sequence[str]
) -> dict[str, Any] | None:
    """Manifest of the judged predictions; None where they do not say what they were made with."""
    values = read_predictions_file(config.predictions).manifest
    if values is None:
        return None
    manifest = manifest_from_json(values, config.predictions)
    judged_by = f"{judge_id}, {config.protocol}, prompts {' '.join(prompt_hashes)}"
    # Two scores may be compared if all of this is the same for both.
    return dataclasses.replace(manifest, judge=judged_by).as_json()


def _described(path: str) -> dict[str, str]:
    return {"file": path, "sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest()}


def _read_predictions(path: str) -> list[BenchmarkPrediction]:
    if not Path(path).is_file():
        raise ValueError(f"there is no file {path!r} (looked in {Path.cwd()})")
    return read_predictions(path)
