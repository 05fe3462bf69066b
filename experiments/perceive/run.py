"""Perception of every video of the configured corpora."""

import itertools
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm  # type: ignore[import-untyped]

from data_modules.corpus_index import Corpora, open_corpora
from experiments.experiment_config import ExperimentConfig
from experiments.perceive.plan import Plan, Share, Span, share_of
from experiments.perceive.pool import (
    Outcome,
    Seen,
    StopFlag,
    perceive_in_workers,
    perceive_span,
)
from experiments.program import FAILURES_FILE
from experiments.signals import first_signal_tells
from experiments.start_checks.checks import check_start
from vidreason.cores import free_cores
from vidreason.devices import torch_device
from vidreason.perception.config import PerceiverConfig
from vidreason.store.visual_token_source import VisualTokenSource
from vidreason.video.failures import FailureLog, UnreadableVideosError, VideoFailure
from vidreason.video.reader import VideoReader

NEARLY_ALL = 0.95
"""Share of videos without an object from which the segmenter is taken to find nothing."""
NO_OBJECTS = """\
WARNING: the segmenter finds no object in {share:.0%} of the videos; of them the model sees clips
  lower perceiver.segmenter.pred_iou_threshold ({segmenter.pred_iou_threshold:g}) and
  perceiver.segmenter.stability_threshold ({segmenter.stability_threshold:g}), or take another
  segmenter by perceiver.segmenter.name ({segmenter.name}) and perceiver.segmenter.weights (the
  small one that comes with the package knows the microworld's pictures alone; docs/parts.md);
  perceiver.use_objects=false, if it is on purpose, saves the search"""


@dataclass(kw_only=True)
class Counts:
    """Numbers of spans by their outcome."""

    stored: int = 0
    """Were in the store already."""
    perceived: int = 0
    unreadable: int = 0
    missing: int = 0
    """Were not looked at, because the run was told to stop."""
    objects: int = 0
    """Objects on key frames in the tokens of those stored and perceived."""
    without_objects: int = 0
    """Number of those stored and perceived whose tokens are of clips alone."""

    def add(self, seen: Seen, num_clips: int) -> None:
        """Count a span whose video could be read."""
        if seen.state == "alias":
            return
        number = -1 if seen.state == "lost" else 1
        objects = max(seen.num_tokens - num_clips, 0)
        self.stored += seen.state == "stored"
        self.perceived += 0 if seen.state == "stored" else number
        self.objects += number * objects
        self.without_objects += 0 if objects else number

    def shown(self) -> dict[str, int]:
        """Return the numbers to show beside the progress bar.

        ``missing`` is left out: before the end it is what is still to come, which the bar itself
        shows, and it would be read as videos whose files are missing.
        """
        return {name: number for name, number in vars(self).items() if name != "missing"}


def perceive(config: ExperimentConfig) -> Counts:
    """Perceive what the store of ``config`` does not have yet; print and return the counts.

    A SIGTERM or Ctrl-C ends it after the videos in hand, with everything perceived in the store; a
    second Ctrl-C ends it at once.

    Raises:
        ValueError: No store or no corpus is configured.
        UnreadableVideosError: More spans were unreadable than ``data.max_unreadable_fraction``; all
            others are in the store by then. Or more worker processes crashed than
            ``perceive.max_crashes``.
        FeatureStoreError: The store is damaged or cannot be written to.
        SystemExit: A signal came; the status is 128 and its number, as of a program that ends by
            it.
    """
    check_start(config, "perceive")
    share = share_of(config.perceive)
    data = config.data
    # A split may stand in two lists, such as one to validate on that is scored, too.
    opened = [
        open_corpora(corpora, data.max_malformed_fraction).corpora
        for corpora in (data.train, data.validation, data.benchmark)
    ]
    plan = Plan(Corpora(list(itertools.chain(*opened))), share)
    counts = Counts(missing=len(plan))
    failures = FailureLog(
        Path(config.run_dir) / failures_file(share),
        data.max_unreadable_fraction,
        len(plan),
        setting="data.max_unreadable_fraction",
    )
    source = VisualTokenSource(
        config.perceiver,
        config.store,
        torch_device(config.device),
        VideoReader(config.data.decode_timeout_seconds),
    )
    assert source.store is not None
    # Now, and not when the first shard is full.
    source.store.require_writable()
    with _stop_at_signals() as stop, _progress_bar(len(plan), share) as progress:
        for outcome in _outcomes(config, source, itertools.chain(plan, plan.aliases), stop):
            if isinstance(outcome, VideoFailure):
                if stop.value and outcome.cause == "crashed":
                    continue  # the signal may have ended its process while it was starting
                counts.unreadable += 1
                failures.write([outcome])
                failures.add(1, 1)
            else:
                counts.add(outcome, config.perceiver.sampling.num_clips)
                # A lost span comes again, and counts then.
                failures.add(-1 if outcome.state == "lost" else 1, 0)
            done = counts.stored + counts.perceived + counts.unreadable
            counts.missing = len(plan) - done
            progress.set_postfix(counts.shown(), refresh=False)
            progress.update(done - progress.n)
    # What was added is merged, once there is enough of it, so that look-ups search few files.
    source.store.index.cover()
    source.store.media.cover()
    print("\n".join(report(counts, config.perceiver, failures)))
    if stop.value:
        name = signal.Signals(stop.value).name
        print(f"stopped by {name}: {counts.missing} are missing; the same command goes on")
        raise SystemExit(128 + stop.value)
    # Judged at the end alone: all that can be read is in the store by then.
    if counts.unreadable > config.data.max_unreadable_fraction * len(plan):
        raise UnreadableVideosError(failures.summary())
    return counts


def report(counts: Counts, perceiver: PerceiverConfig, failures: FailureLog) -> list[str]:
    """Return what is said at the end: what was perceived, what it holds, what could not be read."""
    lines = [
        f"perceived {counts.perceived} videos, found {counts.stored} in the store, "
        f"could not read {counts.unreadable}"
    ]
    if counts.unreadable:
        causes = ", ".join(f"{number} x {cause}" for cause, number in failures.causes.most_common())
        lines.append(f"not read: {causes}; each is listed in {failures.path}")
    seen = counts.stored + counts.perceived
    clips = f"visual tokens: {seen * perceiver.sampling.num_clips} clips"
    if not perceiver.use_objects:
        return [*lines, f"{clips}; objects are switched off (perceiver.use_objects=false)"]
    lines.append(
        f"{clips} and {counts.objects} objects on key frames; {counts.without_objects} of {seen} "
        "videos have no object"
    )
    if seen and counts.without_objects >= NEARLY_ALL * seen:
        lines.append(
            NO_OBJECTS.format(share=counts.without_objects / seen, segmenter=perceiver.segmenter)
        )
    return lines


def failures_file(share: Share) -> str:
    """The failure log's name; each task has its own, as nodes cannot append to one file on NFS."""
    if share.count == 1:
        return FAILURES_FILE
    stem, suffix = FAILURES_FILE.split(".")
    return f"{stem}-{share.index}.{suffix}"


@contextmanager
def _stop_at_signals() -> Iterator[StopFlag]:
    stop: StopFlag = get_context("spawn").RawValue("b", 0)

    def tell(number: int) -> None:
        stop.value = number

    with first_signal_tells(tell, "finishing the videos in hand; Ctrl-C again ends at once"):
        yield stop


def _progress_bar(total: int, share: Share) -> "tqdm[None]":
    part = "" if share.count == 1 else f" {share.index + 1} of {share.count}"
    # A batch job's log has a line for each state of the bar.
    interval = 0.1 if sys.stderr.isatty() else 30.0
    return tqdm(total=total, unit="video", desc=f"perceive{part}", mininterval=interval)


def _outcomes(
    config: ExperimentConfig, source: VisualTokenSource, spans: Iterable[Span], stop: StopFlag
) -> Iterator[Outcome]:
    """The outcome of each span, in any order."""
    settings = config.perceive
    num_workers = free_cores() if settings.num_workers is None else settings.num_workers
    if num_workers:
        yield from perceive_in_workers(source, spans, stop, num_workers, settings.max_crashes)
        return
    for span in itertools.takewhile(lambda _: not stop.value, spans):
        yield perceive_span(source, span)
    assert source.store is not None
    source.store.flush()
