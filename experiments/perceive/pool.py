"""The processes of ``experiments.perceive``, and how a run survives the crash of one.

A library may end its process, and so may the system when memory runs out. Each worker process is a
pool of its own, so that the others never notice. What a crashed worker had in hand is perceived
again one video at a time by the process that takes its place; the video on which that one crashes
too is a failure, and counted as such.
"""

import ctypes
import itertools
import platform
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from multiprocessing import active_children, get_context, resource_tracker
from multiprocessing.process import BaseProcess
from types import FrameType, TracebackType
from typing import Literal, NamedTuple, Protocol, Self

import torch

from experiments.perceive.plan import Span
from vidreason.cores import available_cores, use_threads
from vidreason.store.visual_token_source import VisualTokenSource
from vidreason.video.failures import UnreadableVideosError, VideoFailure
from vidreason.video.reader import VideoReadError

CHUNK = 8
"""Spans a task: enough to keep the pool's own work small, few enough for a live progress bar."""
CHUNKS_AHEAD = 2
"""Tasks that a worker is given before the first is done, so that it never waits for the next."""
STOP_POLL_SECONDS = 0.5
"""How often a run looks whether it has been told to stop, while no task comes back."""
_KEPT_BYTES = 256 * 2**20  # 256 MiB that a process keeps from one video to the next


class Seen(NamedTuple):
    """The outcome of a span whose video can be read."""

    state: Literal["stored", "perceived", "lost", "alias"]
    """``alias`` is a name of a perceived file. ``lost`` takes a ``perceived`` back that had not
    reached the disk when its worker crashed; the span's outcome comes once more."""
    num_tokens: int = 0
    """Visual tokens of the span: of its clips, and of objects on its key frames."""


Outcome = Seen | VideoFailure


class StopFlag(Protocol):
    """A number that this process and its workers share; once they have to stop, the signal's.

    Without a lock, because signal handlers set it.
    """

    value: int


StartFlags = ctypes.Array[ctypes.c_byte]
"""A number of each worker, which they share; 1 once its process can perceive."""


def perceive_span(source: VisualTokenSource, span: Span) -> Outcome:
    """Perceive a span unless the store has it."""
    span_of_media = (span.media, span.start_seconds, span.end_seconds)
    try:
        assert source.store is not None
        key = source.key(*span_of_media)
        if span.is_alias:
            return Seen("alias")
        num_tokens = source.store.num_tokens(key)
        if num_tokens is not None:
            return Seen("stored", num_tokens)
        source(*span_of_media)
        return Seen("perceived", source.store.num_tokens(key) or 0)
    except VideoReadError as error:
        if span.is_alias:  # its first name has failed too
            return Seen("alias")
        return error.failure(span.id)


def perceive_in_workers(
    source: VisualTokenSource,
    spans: Iterable[Span],
    stop: StopFlag,
    num_workers: int,
    max_crashes: int,
) -> Iterator[Outcome]:
    """Perceive in several processes; yield the outcomes, in any order.

    When all have come, everything is in the store.

    Args:
        source: Each process gets a copy.
        spans: What to perceive.
        stop: Set, it ends the run after the videos in hand.
        num_workers: How many processes.
        max_crashes: Crashes of workers that are survived.

    Raises:
        UnreadableVideosError: More workers crashed. What they had written is in the store.
    """
    remaining = iter(spans)
    crashes = Crashes(max_crashes)
    has_started = get_context("spawn").RawArray("b", num_workers)
    with ExitStack() as stack:
        workers = [
            stack.enter_context(_Worker((source, stop, index, has_started), crashes))
            for index in range(num_workers)
        ]
        while True:
            # Keep every worker busy, a few chunks ahead of what it reports.
            for worker in workers:
                worker.hand_out(remaining, is_stopped=bool(stop.value))
            running = [task for worker in workers for task in worker.tasks]
            if not running:
                return
            # Wait for any report; a poll, so that a signal is seen.
            done, _ = wait(running, STOP_POLL_SECONDS, return_when=FIRST_COMPLETED)
            if stop.value and not done:
                for worker in workers:
                    worker.end_unless_started()
            for worker in workers:
                yield from worker.outcomes(is_stopped=bool(stop.value))
            if crashes.are_too_many:
                stop.value = signal.SIGTERM  # the other workers end after the videos in hand
                raise UnreadableVideosError(crashes.summary())


class Crashes:
    """The crashes of all workers.

    Args:
        limit: How many are survived.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.causes: list[str] = []
        self.last_in_hand: Sequence[Span] = ()

    def record(self, cause: str, in_hand: Sequence[Span]) -> None:
        """Count one more."""
        self.causes.append(cause)
        self.last_in_hand = in_hand

    @property
    def are_too_many(self) -> bool:
        """Return whether there are more than the limit."""
        return len(self.causes) > self.limit

    def summary(self) -> str:
        """A few lines: how many, how they ended, what the last one had in hand, what to do."""
        lines = [
            f"{len(self.causes)} worker processes crashed; perceive.max_crashes is {self.limit}",
            *(f"  {self.causes.count(cause)} x {cause}" for cause in sorted(set(self.causes))),
            f"  the last one had in hand: {', '.join(span.media for span in self.last_in_hand)}",
            "  what they had written is in the store; SIGKILL is often the system's answer to a "
            "lack of memory: lower perceive.num_workers; else remove the videos of the cause "
            "'crashed' from the corpora, or raise perceive.max_crashes",
        ]
        return "\n".join(lines)


class Report(NamedTuple):
    """A worker's report on the spans that it was given."""

    outcomes: list[Outcome]
    """Outcomes of the first spans; it was told to stop before the others."""
    num_waiting: int
    """Entries of this worker that are not on the disk yet: those perceived last."""


class _Worker:
    """One process at a time, and what it has to do.

    Args:
        arguments: Of :func:`_start_worker`.
        crashes: Counts those of all workers.
    """

    def __init__(
        self, arguments: tuple[VisualTokenSource, StopFlag, int, StartFlags], crashes: Crashes
    ) -> None:
        self._arguments = arguments
        self._crashes = crashes
        self._executor = self._new_executor()
        self._process: BaseProcess | None = None
        self._suspects: deque[Span] = deque()  # one of them may have crashed the last process
        self._again: deque[Span] = deque()  # others that its crash undid
        self._unwritten: list[tuple[Span, Seen]] = []  # perceived, and not on the disk yet
        self._tasks: dict[Future[Report], list[Span]] = {}
        self._is_alone = False

    @property
    def tasks(self) -> Iterable[Future[Report]]:
        """Tasks that were handed out and have not been reported."""
        return self._tasks

    def hand_out(self, remaining: Iterator[Span], *, is_stopped: bool) -> None:
        """Give the process something to do, if there is anything."""
        while not is_stopped and len(self._tasks) < CHUNKS_AHEAD and not self._is_alone:
            # After a crash: one video at a time, alone, until the culprit is known.
            if self._suspects:
                if self._tasks:
                    return
                self._is_alone = True
                self._submit([self._suspects.popleft()], is_written=True)
                return
            # What a crash has undone comes before new spans.
            again = [self._again.popleft() for _ in range(min(CHUNK, len(self._again)))]
            chunk = again or list(itertools.islice(remaining, CHUNK))
            if not chunk:
                break
            self._submit(chunk)
        # Nothing left: let the process write what it still holds.
        if not self._tasks and self._unwritten:
            self._submit([], is_written=True)

    def outcomes(self, *, is_stopped: bool) -> Iterator[Outcome]:
        """The outcomes of the tasks that are done."""
        for task in [task for task in self._tasks if task.done()]:
            try:
                report = task.result()
            except BrokenProcessPool:
                yield from self._replace(is_stopped=is_stopped)
                return
            spans = self._tasks.pop(task)
            self._is_alone = False
            done = zip(spans, report.outcomes, strict=False)
            self._unwritten += [
                (span, outcome)
                for span, outcome in done
                if isinstance(outcome, Seen) and outcome.state == "perceived"
            ]
            self._unwritten = self._unwritten[len(self._unwritten) - report.num_waiting :]
            yield from report.outcomes

    def end_unless_started(self) -> None:
        """End a process that is still importing its libraries: it has nothing in hand."""
        *_, index, has_started = self._arguments
        if self._process is not None and not has_started[index]:
            self._process.kill()

    def _replace(self, *, is_stopped: bool) -> Iterator[Outcome]:
        """Put a new process into the place of the crashed one, and say what is lost with it."""
        self._executor.shutdown()
        in_hand, *handed_out = self._tasks.values()  # the tasks are done in their order
        cause = _cause_of_crash(self._process)
        if not is_stopped:  # else the signal may have ended it while it was starting
            self._crashes.record(cause, in_hand)
        yield from (seen._replace(state="lost") for _, seen in self._unwritten)
        unwritten = [span for span, _ in self._unwritten]
        self._again.extend(itertools.chain(unwritten, *handed_out))
        if self._is_alone:
            (span,) = in_hand
            detail = f"the process that perceived it ended {cause}, and so did one before"
            failure = VideoFailure(span.id, span.media, "crashed", detail)
            yield Seen("alias") if span.is_alias else failure
        else:
            self._suspects.extend(in_hand)
        self._tasks, self._unwritten, self._is_alone = {}, [], False
        self._executor, self._process = self._new_executor(), None

    def _submit(self, spans: list[Span], *, is_written: bool = False) -> None:
        is_first = self._process is None
        if is_first:
            *_, index, has_started = self._arguments
            has_started[index] = 0
        others = active_children() if is_first else []
        try:
            # A new process inherits what is blocked here: Ctrl-C is for this one alone to answer.
            resource_tracker.ensure_running()  # else it is started in there, and unblocks SIGINT
            with _sigint_blocked():
                task = self._executor.submit(_perceive_chunk, spans, is_written=is_written)
        except BrokenProcessPool as error:  # it crashed before this could be handed out
            task = Future()
            task.set_exception(error)
        self._tasks[task] = spans
        if is_first:  # for the exit status that it may have
            started = (child for child in active_children() if child not in others)
            self._process = next(started, None)

    def _new_executor(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            1,
            mp_context=get_context("spawn"),  # a forked process could not use CUDA
            initializer=_start_worker,
            initargs=self._arguments,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, KeyboardInterrupt) and self._process is not None:
            self._process.kill()  # whoever pressed Ctrl-C twice does not wait for a video
        self._executor.shutdown(cancel_futures=True)


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _cause_of_crash(process: BaseProcess | None) -> str:
    status = None if process is None else process.exitcode
    if status is None:
        return "without a word"
    return f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"


_worker_source: VisualTokenSource | None = None
_worker_stop: StopFlag | None = None


def _start_worker(
    source: VisualTokenSource, stop: StopFlag, index: int, has_started: StartFlags
) -> None:
    """Give this process its share of the cores, and its device where there are several."""
    global _worker_source, _worker_stop
    has_started[index] = 1
    use_threads(max(available_cores() // len(has_started), 1))
    _keep_freed_memory()
    if source.device.type == "cuda" and source.device.index is None:
        source.device = torch.device("cuda", index % torch.cuda.device_count())
    _worker_source, _worker_stop = source, stop

    def set_flag(number: int, frame: FrameType | None) -> None:  # schedulers signal all processes
        stop.value = number

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


def _perceive_chunk(spans: Sequence[Span], *, is_written: bool) -> Report:
    """Perceive spans, in a worker.

    Args:
        spans: Which.
        is_written: Whether everything is to be on the disk at the end.
    """
    source, stop = _worker_source, _worker_stop
    assert source is not None
    assert source.store is not None
    assert stop is not None
    outcomes = [
        perceive_span(source, span) for span in itertools.takewhile(lambda _: not stop.value, spans)
    ]
    if is_written:
        source.store.flush()
    return Report(outcomes, source.store.num_waiting)
