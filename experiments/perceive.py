"""Fill the feature store: perceive every video of the configured corpora once.

Entries that the store holds are skipped, so a killed run is started again with the same command.
Any number of runs may fill one store at once; as a SLURM array they share the videos among them:
``sbatch --array=0-99 ... python -m experiments.perceive --config FILE.yaml``.
"""

import ctypes
import itertools
import os
import platform
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Protocol

import torch
from tqdm import tqdm  # type: ignore[import-untyped]

from data_modules.corpus_index import open_corpora
from experiments.experiment_config import ExperimentConfig
from experiments.perceive_plan import Plan, Share, Span, share_of
from experiments.program import FAILURES_FILE, run_program, torch_device
from vidreason.store.visual_token_source import VisualTokenSource
from vidreason.video.failures import FailureLog, UnreadableVideosError, VideoFailure
from vidreason.video.reader import VideoReadError

CHUNK = 8
"""Spans a task: enough to keep the pool's own work small, few enough for a live progress bar."""
CHUNKS_AHEAD = 4
"""Tasks a worker that are handed out before the first is done."""
STOPPED_STATUS = 128 + signal.SIGTERM
"""The exit status after a SIGTERM, as of a program that ends by it."""
_KEPT_BYTES = 256 * 2**20


@dataclass(kw_only=True)
class Counts:
    """What became of the spans."""

    stored: int = 0
    """Were in the store already."""
    perceived: int = 0
    unreadable: int = 0
    missing: int = 0
    """Were not looked at, because the run was told to stop."""


class StopFlag(Protocol):
    """A number that this process and its workers share; not 0 once they have to stop.

    Without a lock, because signal handlers set it.
    """

    value: int


def perceive(config: ExperimentConfig) -> Counts:
    """Perceive what the store of ``config`` lacks; print and return the counts.

    A SIGTERM ends it after the videos in hand, with everything perceived in the store.

    Raises:
        ValueError: No store or no corpus is configured.
        UnreadableVideosError: More spans were unreadable than ``data.max_unreadable_fraction``. All
            others are in the store by then.
        FeatureStoreError: The store is damaged or cannot be written to.
        SystemExit: A SIGTERM came; see ``STOPPED_STATUS``.
    """
    if not config.store.path:
        raise ValueError("store.path is empty; name the folder that perceive should fill")
    share = share_of(config.perceive)
    corpora = [*config.data.train, *config.data.validation, *config.data.benchmark]
    if not corpora:
        raise ValueError("data.train, data.validation and data.benchmark are empty; name a corpus")
    plan = Plan(open_corpora(corpora), share)
    counts = Counts()
    failures = FailureLog(Path(config.run_dir) / failures_file(share), 1.0, len(plan))
    source = VisualTokenSource(
        config.perceiver,
        config.store,
        torch_device(config.device),
        config.data.decode_timeout_seconds,
    )
    with _stop_at_sigterm() as stop, _progress_bar(len(plan), share) as progress:
        for outcome in _outcomes(config, source, itertools.chain(plan, plan.aliases), stop):
            if isinstance(outcome, VideoFailure):
                if stop.value:
                    continue  # the signal may have ended what decoded it
                counts.unreadable += 1
                failures.record(1, [outcome])
            else:
                counts.stored += outcome == "stored"
                counts.perceived += outcome == "perceived"
                failures.record(1)
            done = counts.stored + counts.perceived + counts.unreadable
            counts.missing = len(plan) - done
            progress.set_postfix(vars(counts), refresh=False)
            progress.update(done - progress.n)
    assert source.store is not None
    source.store.index.cover()
    source.store.media.cover()
    print(
        f"perceived {counts.perceived} videos, found {counts.stored} in the store, "
        f"could not read {counts.unreadable}"
    )
    if stop.value:
        print(f"stopped by SIGTERM: {counts.missing} are missing; the same command goes on")
        raise SystemExit(STOPPED_STATUS)
    if counts.unreadable > config.data.max_unreadable_fraction * len(plan):
        raise UnreadableVideosError(failures.summary())
    return counts


def failures_file(share: Share) -> str:
    """The failure log's name; each task has its own, as nodes cannot append to one file on NFS."""
    if share.count == 1:
        return FAILURES_FILE
    stem, suffix = FAILURES_FILE.split(".")
    return f"{stem}-{share.index}.{suffix}"


@contextmanager
def _stop_at_sigterm() -> Iterator[StopFlag]:
    stop: StopFlag = get_context("spawn").RawValue("b", 0)
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may handle signals
        return

    def set_flag(*_: object) -> None:
        stop.value = 1

    former = signal.signal(signal.SIGTERM, set_flag)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, former)


def _progress_bar(total: int, share: Share) -> "tqdm[None]":
    part = "" if share.count == 1 else f" {share.index + 1} of {share.count}"
    # A batch job's log has a line for each state of the bar.
    interval = 0.1 if sys.stderr.isatty() else 30.0
    return tqdm(total=total, unit="video", desc=f"perceive{part}", mininterval=interval)


Outcome = str | VideoFailure


def _outcomes(
    config: ExperimentConfig, source: VisualTokenSource, spans: Iterable[Span], stop: StopFlag
) -> Iterator[Outcome]:
    """``stored``, ``perceived``, ``alias`` or the failure of each span, in any order."""
    num_workers = config.perceive.num_workers
    if num_workers == 0:
        for span in itertools.takewhile(lambda _: not stop.value, spans):
            yield _perceive_span(source, span)
        assert source.store is not None
        source.store.flush()
        return
    context = get_context("spawn")  # a forked process could not use CUDA
    remaining = iter(spans)
    running: set[Future[list[Outcome]]] = set()
    with ProcessPoolExecutor(
        num_workers,
        mp_context=context,
        initializer=_start_worker,
        initargs=(source, stop, context.Value("i", 0), num_workers),
    ) as pool:
        while True:
            while len(running) < CHUNKS_AHEAD * num_workers and not stop.value:
                chunk = list(itertools.islice(remaining, CHUNK))
                if not chunk:
                    break
                running.add(pool.submit(_perceive_chunk, chunk))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for task in done:
                yield from task.result()


def _perceive_span(source: VisualTokenSource, span: Span) -> Outcome:
    place = (span.media, span.start_seconds, span.end_seconds)
    try:
        assert source.store is not None
        key = source.key(*place)
        if span.is_alias:
            return "alias"
        if key in source.store:
            return "stored"
        source(*place)
    except VideoReadError as error:
        if span.is_alias:  # its first name has failed too
            return "alias"
        return error.failure(span.id)
    return "perceived"


_worker_source: VisualTokenSource | None = None
_worker_stop: StopFlag | None = None


def _start_worker(
    source: VisualTokenSource, stop: StopFlag, started: "Synchronized[int]", num_workers: int
) -> None:
    """Give this process its share of the cores, and its device where there are several."""
    global _worker_source, _worker_stop
    with started.get_lock():
        index = started.value
        started.value += 1
    torch.set_num_threads(max((os.cpu_count() or 1) // num_workers, 1))
    _keep_freed_memory()
    if source.device.type == "cuda" and source.device.index is None:
        source.device = torch.device("cuda", index % torch.cuda.device_count())
    _worker_source, _worker_stop = source, stop

    def set_flag(*_: object) -> None:  # a scheduler signals every process
        stop.value = 1

    signal.signal(signal.SIGTERM, set_flag)


def _keep_freed_memory() -> None:
    """Let glibc hand freed memory out again instead of giving it back to the system each time.

    The segmenter's masks take and free some 100 MB a video, and zeroed pages for them were a fifth
    of perception's time on the microworld (0.26 and 0.21 CPU seconds a video).
    """
    if platform.libc_ver()[0] != "glibc":
        return
    trim_threshold, mmap_threshold = -1, -3  # from malloc.h
    libc = ctypes.CDLL(None)
    libc.mallopt(mmap_threshold, _KEPT_BYTES)
    libc.mallopt(trim_threshold, 2 * _KEPT_BYTES)


def _perceive_chunk(spans: Sequence[Span]) -> list[Outcome]:
    source, stop = _worker_source, _worker_stop
    assert source is not None
    assert stop is not None
    return [
        _perceive_span(source, span)
        for span in itertools.takewhile(lambda _: not stop.value, spans)
    ]


if __name__ == "__main__":
    sys.exit(
        run_program(
            perceive,
            program="perceive",
            description="Fill the feature store with the corpora's videos.",
        )
    )
