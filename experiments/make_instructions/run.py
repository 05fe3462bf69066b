"""The program: clips, answers, the gate, and the set.

All that is made is in ``run_dir``: the journal with every reply, the videos that could not be read,
and the set in a folder of its own.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from data_modules.clip_sampling import sample_clips
from data_modules.excluded_clips import ExcludedClips, read_excluded
from experiments.make_instructions.asking import ask_all, estimate_of
from experiments.make_instructions.config import MakeInstructionsConfig
from experiments.make_instructions.drafting import judge_drafts
from experiments.make_instructions.progress import progress_of
from experiments.make_instructions.stopping import stop_at_signals
from experiments.make_instructions.summary import summary_lines
from experiments.make_instructions.teacher_free import TeacherFreeReport, teacher_free_answers
from experiments.writer_lock import sole_writer
from vidreason.devices import torch_device
from vidreason.endpoints.errors import BudgetSpentError
from vidreason.evaluation.tables import Table
from vidreason.evidence.build import build_verifier
from vidreason.secrets import refuse_secrets
from vidreason.teacher.build import build_teacher, problems
from vidreason.teacher.clip import Clip
from vidreason.teacher.gate import Gate
from vidreason.teacher.instruction_set import SetOptions, write_instruction_set
from vidreason.teacher.journal import JOURNAL_FILE, Journal
from vidreason.teacher.judging import Judging
from vidreason.teacher.provenance import TeacherProvenance
from vidreason.teacher.spending import Spending

SET_FOLDER = "set"
"""In the run folder."""
_STOPPED = "waiting for the replies in flight, at most 20 s; Ctrl-C again ends at once"


def make_instructions(config: MakeInstructionsConfig) -> int:
    """Make the set, or go on making it; return the exit status.

    Returns:
        0; or 1 where not all clips were asked about, because the budget or the time of this start
        is spent.

    Raises:
        ValueError: Something is wrong with the configuration, or ``run_dir`` was begun with another
            one; or another process writes to it.
        OutageError: The endpoint is out of order.
        EndpointRefusedError: It refuses all requests.
        UnreadableVideosError: More videos are unreadable than ``running.max_unreadable_fraction``.
        SystemExit: A signal came; the status is 128 and its number.
    """
    refuse_secrets(asdict(config))
    if config.answers == "teacher" and not config.dry_run and (wrong := problems(config.teacher)):
        raise ValueError("; ".join(wrong))
    folder = Path(config.run_dir)
    with ExitStack() as stack:
        stack.enter_context(sole_writer(folder, "make_instructions"))
        if config.dry_run and not (folder / JOURNAL_FILE).exists():
            # The sample of a dry run binds nobody.
            folder = Path(stack.enter_context(TemporaryDirectory()))
        journal = stack.enter_context(Journal(folder / JOURNAL_FILE, run_identity(config)))
        excluded = read_excluded(
            config.exclude,
            # Videos of evaluation sets are read for a new sample only.
            compare_pictures=config.exclude_pictures and not _is_sampled(config, journal),
            min_text_similarity=config.gate.leakage_similarity,
        )
        if config.answers == "teacher":
            return _with_teacher(config, journal, excluded)
        return _without_teacher(config, journal, excluded)


def run_identity(config: MakeInstructionsConfig) -> dict[str, Any]:
    """Return all that the replies of a run depend on, for its journal.

    A teacher's ``num_clips`` may grow, and limits, prices and the gate may change.
    """
    teacher = asdict(config.teacher)
    endpoint = teacher.pop("endpoint")
    # Neither how replies are fetched nor the variable of the key changes what they say.
    for name in ("batch", "batch_limits"):
        teacher.pop(name)
    identity: dict[str, Any] = {
        "answers": config.answers,
        "seed": config.seed,
        "validation_fraction": config.validation_fraction,
        "exclude": [asdict(corpus) for corpus in config.exclude],
        "exclude_pictures": config.exclude_pictures,
    }
    if config.answers == "teacher":
        identity["sources"] = [asdict(source) for source in config.sources]
        # Of the endpoint its address: time limits and numbers of tries change no reply.
        identity["teacher"] = teacher | {"base_url": endpoint["base_url"]}
    else:
        # A larger sample has another order.
        identity["num_clips"] = config.num_clips
        identity["teacher_free"] = asdict(config.teacher_free)
    return identity


def _with_teacher(config: MakeInstructionsConfig, journal: Journal, excluded: ExcludedClips) -> int:
    _sample(config, journal, excluded)
    spending = Spending(journal.cache, "teacher", config.running, is_batch=config.teacher.batch)
    teacher = build_teacher(config.teacher, journal.cache, spending)
    try:
        if not config.dry_run:
            journal.ask_again()
        estimate = estimate_of(config, journal, teacher)
        title = "this run would need:" if config.dry_run else "what is left needs:"
        print("\n  ".join([title, *estimate]))
        if config.dry_run:
            print("nothing was sent; set dry_run=false to ask")
            return 0
        # Of the first start, for the whole set; later ones price what is left.
        if not journal.noted("estimate"):
            journal.note("estimate", "; ".join(estimate))
        judging = Judging(journal, _gate(config, journal, excluded))
        remark = ""
        with progress_of(journal, spending, _currency(config)) as progress:

            def observe() -> None:
                judging.advance()
                progress.show()

            with stop_at_signals(_STOPPED) as stop:
                try:
                    ask_all(config, journal, teacher, spending, observe, stop)
                except BudgetSpentError as error:
                    remark = str(error)
                # What was answered by then is kept, and judged by the next start.
                stop.exit_if_set()
            judging.finish()
        provenance = teacher.provenance()
    finally:
        teacher.close()
    if not remark and (pending := journal.counts().pending):
        remark = f"running.max_hours is over: {pending:,} clips are not asked about; start again"
    return _write(config, journal, provenance, spending, remark)


def _without_teacher(
    config: MakeInstructionsConfig, journal: Journal, excluded: ExcludedClips
) -> int:
    if config.dry_run:
        print(f"answers: {config.answers} cost nothing; set dry_run=false to make them")
        return 0
    gate = _gate(config, journal, excluded)
    report = TeacherFreeReport()
    answers = teacher_free_answers(config, lambda clip: _cause(excluded, clip), report)
    with progress_of(journal, None, "") as progress:
        judge_drafts(journal, gate, answers, progress.show)
    rows = [
        (one.corpus, f"{one.num_drawn:,}", f"{one.num_answers:,}", _listed(one.left_out))
        for one in report.corpora
    ]
    _note_tables(
        journal, [Table("Corpora", ("corpus", "clips", "answers", "left out"), tuple(rows))]
    )
    return _write(config, journal, TeacherProvenance(teacher=config.answers), None, "")


def _sample(config: MakeInstructionsConfig, journal: Journal, excluded: ExcludedClips) -> None:
    """Sample the clips, unless an earlier start has sampled as many: some sources are slow."""
    if _is_sampled(config, journal):
        return
    sampled = sample_clips(
        config.sources,
        config.num_clips,
        config.seed,
        config.validation_fraction,
        excluded,
        folder=None if config.dry_run else Path(config.run_dir),
    )
    num_new = journal.add(sampled.clips)
    tables = sampled.report.tables()
    _note_tables(journal, tables)
    # Last: a start that is killed before it samples again.
    journal.note("num_clips", str(config.num_clips))
    print(f"sampled {num_new:,} clips", *(table.to_text() for table in tables), sep="\n\n")


def _is_sampled(config: MakeInstructionsConfig, journal: Journal) -> bool:
    is_teacher_free = config.answers != "teacher"
    return is_teacher_free or journal.noted("num_clips") == str(config.num_clips)


def _note_tables(journal: Journal, tables: Sequence[Table]) -> None:
    # In the journal, because a later start writes the set and does not sample.
    shown = [[table.title, table.header, table.rows] for table in tables]
    journal.note("sample", json.dumps(shown))


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {number:,}" for name, number in counts.items())


def _sample_tables(journal: Journal) -> list[Table]:
    """Return the tables on the sample, of whichever start has made it."""
    return [
        Table(title, tuple(header), tuple(map(tuple, rows)))
        for title, header, rows in json.loads(journal.noted("sample") or "[]")
    ]


def _gate(config: MakeInstructionsConfig, journal: Journal, excluded: ExcludedClips) -> Gate:
    verifier = build_verifier(config.verifier, torch_device("auto"))
    judged_by = {
        "gate": asdict(config.gate),
        "verifier": "" if verifier is None else verifier.verifier_id,
    }
    if forgotten := journal.judge_anew(json.dumps(judged_by, sort_keys=True)):
        print(f"the gate has changed: {forgotten:,} answers are judged anew, and none is paid for")
    return Gate(config.gate, excluded.texts, verifier)


def _write(
    config: MakeInstructionsConfig,
    journal: Journal,
    provenance: TeacherProvenance,
    spending: Spending | None,
    remark: str,
) -> int:
    folder = Path(config.run_dir) / SET_FOLDER
    facts = run_facts(config, journal, spending)
    roots = {source.name: source.root for source in config.sources}
    options = SetOptions(facts=facts, tables=_sample_tables(journal), media_roots=roots)
    written = write_instruction_set(folder, journal.ended, provenance, options)
    print("\n".join(summary_lines(journal.counts(), facts, folder, written.media_dir)))
    if remark:
        print(f"make_instructions: {remark}", file=sys.stderr)
        return 1
    return 0


def run_facts(
    config: MakeInstructionsConfig, journal: Journal, spending: Spending | None
) -> dict[str, str]:
    """Return what card, report and summary say of a run: what it was to cost, and what it cost."""
    facts = {"verifier": config.verifier.model or "none"}
    if spending is None:
        return facts
    paid, currency = spending.paid, config.running.prices.currency
    facts["estimated beforehand"] = journal.noted("estimate")
    facts["requests with a reply"] = f"{paid.num_requests:,.0f}"
    facts["requests paid for, with or without a reply"] = f"{spending.num_spent:,}"
    facts["tokens"] = (
        f"{paid.num_prompt_tokens:,.0f} of prompts ({paid.num_cached_tokens:,.0f} cached) and "
        f"{paid.num_generated_tokens:,.0f} of answers"
    )
    if config.running.prices.are_given:
        facts["cost"] = (
            f"{spending.paid_cost:,.2f} {currency}, and at most {spending.unknown_cost:,.2f} "
            f"{currency} for requests without a reply"
        )
    return facts


def _currency(config: MakeInstructionsConfig) -> str:
    return config.running.prices.currency if config.running.prices.are_given else ""


def _cause(excluded: ExcludedClips, clip: Clip) -> str:
    """Return why a clip may not be in the set; empty for no reason."""
    if excluded.by_video(clip.source, clip.source, clip.video_id, clip.media):
        return "its video is in an evaluation set"
    return "its text is in an evaluation set" if excluded.by_text(clip) else ""
