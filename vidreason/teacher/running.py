"""Asking a teacher about all clips of a journal: many requests at a time, frames decoded ahead.

Decoding is work for this machine and requests wait for another one, so both go on at once: some
threads read the frames of the next clips and make their requests, others send them. Clips in hand
are bounded, whatever the length of the job. The journal is written by the calling thread only.

Tries, their waits and rate limits are the client's (:mod:`vidreason.endpoints.client`): a request
that arrives here as unavailable has failed in all of its tries.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, NamedTuple

from vidreason.baselines.frames import FrameSource
from vidreason.endpoints.errors import (
    BudgetSpentError,
    EndpointRefusedError,
    EndpointUnavailableError,
)
from vidreason.endpoints.replies import REFUSED, ChatReply
from vidreason.errors import ReportedError
from vidreason.secrets import printable
from vidreason.teacher.clip import Clip
from vidreason.teacher.journal import Journal
from vidreason.teacher.prices import estimated_usage
from vidreason.teacher.protocol import Teacher, TeacherRequest
from vidreason.teacher.running_config import RunningConfig
from vidreason.teacher.spending import Spending
from vidreason.video.failures import FailureLog, VideoFailure, VideoReadError

GRACE_SECONDS = 20.0
"""Time that requests in flight have when the run is told to stop; SLURM kills after 30 s."""
_LOOK_SECONDS = 0.5
"""How often it looks whether it is to stop."""

_LOG = logging.getLogger(__name__)
_MIN_FIRST_FAILURES = 3
"""Before the first reply of a run, so many failures, or as many as are asked at a time, say that no
server is there, or another one."""


class OutageError(ReportedError):
    """So many requests in a row failed that the endpoint is at fault, and not the clips."""


class Asking(NamedTuple):
    """All that clips are asked with."""

    teacher: Teacher
    read_frames: FrameSource
    config: RunningConfig
    spending: Spending
    max_new_tokens: int
    """Limit of an answer."""
    failures: FailureLog
    """Where unreadable videos are written down; its budget is that of this start."""


@dataclass
class _InHand:
    """A clip between the journal's two states."""

    clip: Clip
    request: TeacherRequest | None = None
    error: VideoReadError | None = None


def ask(
    journal: Journal,
    asking: Asking,
    observe: Callable[[], None],
    is_stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Ask about every pending clip, and record what comes of it; returns when it is told to stop.

    Args:
        journal: Its clips.
        asking: Teacher, frames and limits.
        observe: Called now and then in the calling thread, between changes of the journal.
        is_stopped: Tells whether to stop: no further request is sent then, and those in flight have
            :data:`GRACE_SECONDS`.

    Raises:
        BudgetSpentError: No further request may be paid for; all replies are recorded.
        EndpointRefusedError: The endpoint refuses all requests.
        OutageError: ``max_consecutive_failures`` requests in a row failed.
        UnreadableVideosError: More videos are unreadable than ``max_unreadable_fraction``.
    """
    _Run(journal, asking, observe, is_stopped).work()


class _Run:
    def __init__(
        self,
        journal: Journal,
        asking: Asking,
        observe: Callable[[], None],
        is_stopped: Callable[[], bool],
    ) -> None:
        self._journal = journal
        self._asking = asking
        self._observe = observe
        self._is_stopped = is_stopped
        self._num_parallel = min(asking.config.num_parallel, asking.teacher.num_parallel)
        self._clips: Iterator[Clip] = journal.pending()
        # A clip in hand is being decoded, ready to be sent, or sent.
        self._decoding: dict[Future[_InHand], Clip] = {}
        self._ready: deque[_InHand] = deque()
        self._sending: dict[Future[ChatReply], _InHand] = {}
        self._num_failed_in_a_row = 0
        counts = journal.counts()
        # Replies of earlier starts count: the server was there.
        self._has_reply = bool(counts.answered + counts.accepted + counts.rejected.total())
        self._reason: Exception | None = None
        """Why no further clip is asked about; None while there is no reason."""
        self._deadline: float | None = None
        """Until when requests in flight are waited for; None while further ones are sent."""
        self._is_closed = False
        hours = asking.config.max_hours
        self._ends_at = None if hours is None else time.monotonic() + 3600 * hours

    def work(self) -> None:
        """Ask until all is done or a reason to stop; raises the reason."""
        decoders = ThreadPoolExecutor(self._asking.config.num_decoders, "decode")
        senders = ThreadPoolExecutor(self._num_parallel, "ask")
        try:
            while self._go_on(decoders, senders):
                futures: list[Future[Any]] = [*self._decoding, *self._sending]
                # Until something has ended, or it is time to look whether to stop.
                done, _ = wait(futures, _LOOK_SECONDS, FIRST_COMPLETED)
                for future in done:
                    self._take_in(future)
                self._observe()
        except BaseException:
            # Nobody waits for replies any more.
            self._asking.spending.stop()
            self._asking.teacher.close()
            raise
        finally:
            # Waits for what runs: no thread is to use the teacher or the cache after the run.
            decoders.shutdown(cancel_futures=True)
            senders.shutdown(cancel_futures=True)
        if self._reason is not None:
            raise self._reason

    def _go_on(self, decoders: ThreadPoolExecutor, senders: ThreadPoolExecutor) -> bool:
        """Begin what may be begun; return whether there is something to wait for."""
        if self._reason is not None or self._is_to_stop():
            # No further tries. Whatever is in flight has until the deadline; then closing the
            # teacher makes it raise.
            self._asking.spending.stop()
            if self._deadline is None:
                self._deadline = time.monotonic() + GRACE_SECONDS
            if self._sending and time.monotonic() > self._deadline and not self._is_closed:
                self._is_closed = True
                self._asking.teacher.close()
            return bool(self._sending)
        # Bounded, as each of them holds its frames.
        while len(self._decoding) + len(self._ready) < self._asking.config.decode_ahead:
            clip = next(self._clips, None)
            if clip is None:
                break
            self._decoding[decoders.submit(self._prepare, clip)] = clip
        while self._has_room() and (next_one := self._next_ready()):
            assert next_one.request is not None
            # Told before the request is sent: the spending then counts it at this estimate.
            usage = estimated_usage(
                self._asking.config.prices, next_one.request, self._asking.max_new_tokens
            )
            self._asking.spending.expect(usage)
            future = senders.submit(self._asking.teacher.complete, next_one.request)
            self._sending[future] = next_one
        return bool(self._decoding or self._ready or self._sending)

    def _has_room(self) -> bool:
        """Tell whether another request may be sent now.

        Near the limit of money, those in flight are waited for: most cost less than their estimate.
        """
        num_sending = len(self._sending)
        if num_sending >= self._num_parallel:
            return False
        # With nothing in flight there is nothing to wait for: spend() then raises if there is no
        # room.
        return not num_sending or self._asking.spending.has_room_for(num_sending + 1)

    def _is_to_stop(self) -> bool:
        return self._is_stopped() or (
            self._ends_at is not None and time.monotonic() >= self._ends_at
        )

    def _next_ready(self) -> _InHand | None:
        """Return a clip whose request is not in flight for another one: it is paid for once."""
        keys = {one.request.key for one in self._sending.values() if one.request is not None}
        for one in self._ready:
            if one.request is not None and one.request.key not in keys:
                self._ready.remove(one)
                return one
        return None

    def _prepare(self, clip: Clip) -> _InHand:
        """Read a clip's frames and make its request, in a thread."""
        teacher = self._asking.teacher
        try:
            frames = self._asking.read_frames(
                clip.media, clip.start_seconds, clip.end_seconds, teacher.frame_rule()
            )
        except VideoReadError as error:
            # Anything else ends the run, by the future's result.
            return _InHand(clip, error=error)
        return _InHand(clip, teacher.request(frames))

    def _take_in(self, future: Future[Any]) -> None:
        if future in self._decoding:
            del self._decoding[future]
            prepared: _InHand = future.result()
            if prepared.error is None:
                self._ready.append(prepared)
            else:
                self._unreadable(prepared.clip, prepared.error)
            return
        in_hand = self._sending.pop(future)
        assert in_hand.request is not None
        try:
            reply: ChatReply = future.result()
        except EndpointUnavailableError as error:
            self._unavailable(in_hand.clip, error)
        except (BudgetSpentError, EndpointRefusedError) as error:
            # After a stop the spending refuses every request, which is no reason of its own.
            if self._deadline is None:
                self._stop_for(error)
        else:
            self._replied(in_hand.clip, in_hand.request, reply)

    def _replied(self, clip: Clip, request: TeacherRequest, reply: ChatReply) -> None:
        self._num_failed_in_a_row = 0
        self._has_reply = True
        if reply.problem.startswith(REFUSED):
            self._journal.record_failure(clip.id, "refused_request", reply.problem)
        else:
            self._journal.record_reply(clip.id, request.key, reply)
        self._count_sample()

    def _unreadable(self, clip: Clip, error: VideoReadError) -> None:
        self._journal.record_failure(clip.id, "unreadable_video", str(error))
        self._count_sample(error.failure(clip.id))

    def _count_sample(self, *failures: VideoFailure) -> None:
        try:
            self._asking.failures.record(1, failures)
        except ReportedError as spent:
            self._stop_for(spent)

    def _unavailable(self, clip: Clip, error: EndpointUnavailableError) -> None:
        if self._deadline is not None or self._reason is not None:
            return  # the run ends anyway, and may have cut it off: the clip stays as it was
        self._journal.record_failure(clip.id, "endpoint", str(error))
        self._num_failed_in_a_row += 1
        _LOG.warning("%s: %s", printable(clip.id), printable(str(error)))
        # Before the first reply, fewer are enough: then there may be no server at all.
        limit = self._asking.config.max_consecutive_failures
        if not self._has_reply:
            limit = min(limit, max(_MIN_FIRST_FAILURES, self._num_parallel))
        if self._num_failed_in_a_row >= limit:
            self._stop_for(
                OutageError(
                    f"{limit} requests in a row failed in all their tries, so the endpoint seems "
                    f"to be out of order; the last one: {error}. What was answered is kept, and "
                    "the clips that failed are asked about again: start again when it is in order, "
                    "or raise running.max_consecutive_failures"
                )
            )

    def _stop_for(self, reason: Exception) -> None:
        """Remember the first reason to stop; what is in flight is waited for."""
        self._reason = self._reason or reason
