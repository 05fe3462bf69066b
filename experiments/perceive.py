"""Fill the feature store: perceive every video of the configured corpora once.

Entries that the store holds are skipped, so a killed run is started again with the same command.
"""

import ctypes
import os
import platform
import sys
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import torch
from tqdm import tqdm  # type: ignore[import-untyped]

from data_modules.corpus_index import open_corpora
from experiments.experiment_config import ExperimentConfig
from experiments.program import FAILURES_FILE, run_program, torch_device
from vidreason.example import Example
from vidreason.store.visual_token_source import VisualTokenSource
from vidreason.video.failures import FailureLog, UnreadableVideosError, VideoFailure
from vidreason.video.reader import VideoReadError

CHUNK = 8
"""Spans a task: enough to keep the pool's own work small, few enough for a live progress bar."""
_KEPT_BYTES = 256 * 2**20


@dataclass(frozen=True, kw_only=True)
class Span:
    """What is perceived once: a video, or a part of it, and an example that asks for it."""

    id: str
    media: str
    start_seconds: float | None
    end_seconds: float | None


@dataclass(kw_only=True)
class Counts:
    """What became of the spans."""

    stored: int = 0
    """Were in the store already."""
    perceived: int = 0
    unreadable: int = 0


def perceive(config: ExperimentConfig) -> Counts:
    """Perceive what the store of ``config`` lacks; print and return the counts.

    Raises:
        ValueError: No store or no corpus is configured.
        UnreadableVideosError: More spans were unreadable than ``data.max_unreadable_fraction``. All
            others are in the store by then.
    """
    if not config.store.path:
        raise ValueError("store.path is empty; name the folder that perceive should fill")
    spans = distinct_spans(
        example
        for corpora in (config.data.train, config.data.validation, config.data.benchmark)
        for example in open_corpora(corpora)
    )
    if not spans:
        raise ValueError("data.train, data.validation and data.benchmark are empty; name a corpus")
    counts = Counts()
    failures = FailureLog(Path(config.run_dir) / FAILURES_FILE, 1.0, len(spans))
    with tqdm(total=len(spans), unit="video", desc="perceive") as progress:
        for outcome in _outcomes(config, spans):
            counts.stored += outcome == "stored"
            counts.perceived += outcome == "perceived"
            if isinstance(outcome, VideoFailure):
                counts.unreadable += 1
                failures.record(1, [outcome])
            else:
                failures.record(1)
            progress.update()
    print(
        f"perceived {counts.perceived} videos, found {counts.stored} in the store, "
        f"could not read {counts.unreadable}"
    )
    if counts.unreadable > config.data.max_unreadable_fraction * len(spans):
        raise UnreadableVideosError(failures.summary())
    return counts


def distinct_spans(examples: Iterator[Example]) -> list[Span]:
    """The spans of ``examples``, each once, in order: a video's questions share its tokens.

    A file that several corpora link to is one video.
    """
    spans: dict[tuple[Hashable, float | None, float | None], Span] = {}
    files: dict[str, Hashable] = {}
    for example in examples:
        media, start, end = example.media, example.start_seconds, example.end_seconds
        if media not in files:
            files[media] = _file_identity(media)
        spans.setdefault(
            (files[media], start, end),
            Span(id=example.id, media=media, start_seconds=start, end_seconds=end),
        )
    return list(spans.values())


def _file_identity(path: str) -> Hashable:
    """Equal for two paths of one file."""
    try:
        status = os.stat(path)
    except OSError:
        return path  # perceiving will say why it cannot be read
    return status.st_dev, status.st_ino


Outcome = str | VideoFailure


def _outcomes(config: ExperimentConfig, spans: Sequence[Span]) -> Iterator[Outcome]:
    """``stored``, ``perceived`` or the failure of each span, in any order."""
    device = torch_device(config.device)
    source = VisualTokenSource(config.perceiver, config.store, device)
    if config.perceive.num_workers == 0:
        for span in spans:
            yield _perceive_span(source, span)
        assert source.store is not None
        source.store.flush()
        return
    context = get_context("spawn")  # a forked process could not use CUDA
    with ProcessPoolExecutor(
        config.perceive.num_workers,
        mp_context=context,
        initializer=_start_worker,
        initargs=(source, context.Value("i", 0), config.perceive.num_workers),
    ) as pool:
        chunks = [spans[start : start + CHUNK] for start in range(0, len(spans), CHUNK)]
        for task in as_completed([pool.submit(_perceive_chunk, chunk) for chunk in chunks]):
            yield from task.result()


def _perceive_span(source: VisualTokenSource, span: Span) -> Outcome:
    place = (span.media, span.start_seconds, span.end_seconds)
    try:
        assert source.store is not None
        if source.key(*place) in source.store:
            return "stored"
        source(*place)
    except VideoReadError as error:
        return error.failure(span.id)
    return "perceived"


_worker_source: VisualTokenSource | None = None


def _start_worker(
    source: VisualTokenSource, started: "Synchronized[int]", num_workers: int
) -> None:
    """Give this process its share of the cores, and its device where there are several."""
    global _worker_source
    with started.get_lock():
        index = started.value
        started.value += 1
    torch.set_num_threads(max((os.cpu_count() or 1) // num_workers, 1))
    _keep_freed_memory()
    if source.device.type == "cuda" and source.device.index is None:
        source.device = torch.device("cuda", index % torch.cuda.device_count())
    _worker_source = source


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
    assert _worker_source is not None
    return [_perceive_span(_worker_source, span) for span in spans]


if __name__ == "__main__":
    sys.exit(
        run_program(
            perceive,
            program="perceive",
            description="Fill the feature store with the corpora's videos.",
        )
    )
