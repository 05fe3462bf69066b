"""Requests through an endpoint's batch API: all that the cache of replies has not, until it has.

Each reply is stored in the cache, so that a run that asks afterwards finds it there. Whoever is
killed, at whatever moment: started again, it goes on with the batches that are under way.
"""

import json
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import IO

from vidreason.endpoints.batch_results import BatchResults
from vidreason.endpoints.batches import REQUEST_PATH, BatchEndpoint, RemoteBatch
from vidreason.endpoints.budget import RequestBudget
from vidreason.endpoints.cache import ReplyCache
from vidreason.endpoints.errors import (
    BudgetSpentError,
    EndpointRefusedError,
    EndpointUnavailableError,
)
from vidreason.endpoints.replies import ChatReply
from vidreason.endpoints.transport import MAX_FILE_BYTES
from vidreason.secrets import printable
from vidreason.teacher.batch_journal import BatchJournal, JournaledBatch
from vidreason.teacher.config import TeacherConfig
from vidreason.teacher.endpoint_teacher import EndpointTeacher
from vidreason.teacher.protocol import TeacherRequest

_LOG = logging.getLogger(__name__)

_LONGEST_HOURS = 48
"""A service has a day; a batch that takes two will not end."""
_RESULT_BYTES = 8192  # of a result beside its text, generously
_RESULT_BYTES_PER_TOKEN = 16
"""Room for a reply in a file of results, so that a whole one can be downloaded."""


@dataclass(kw_only=True)
class BatchReport:
    """Counts of one run through a batch API."""

    num_batches: int = 0
    """Batches that were created."""
    num_resumed: int = 0
    """Batches of an earlier start that were gone on with."""
    num_replies: int = 0
    """Replies that were stored."""
    num_left: int = 0
    """Requests of batches that ended in the last round without a reply to them."""
    problems: Counter[str] = field(default_factory=Counter)
    """Results that were no replies, and batches that failed, by cause; printable."""
    examples: list[str] = field(default_factory=list)
    """Details of some of them; printable."""


class BatchRun:
    """Sends requests of a teacher in batches and waits for their replies.

    Args:
        config: Of the teacher.
        teacher: Makes the bodies of the requests.
        cache: Has the replies.
        budget: Counts and limits the requests; None for no limit.
        admit: Called with each request before it is added to a batch; raises
            ``BudgetSpentError`` where it may not be paid for.
        sleep: Waits; a program that is told to stop may raise in it, and nothing is lost.
        clock: Seconds of the epoch.

    Raises:
        ValueError: The endpoint's key is not in the environment.
    """

    def __init__(
        self,
        config: TeacherConfig,
        teacher: EndpointTeacher,
        cache: ReplyCache,
        budget: RequestBudget | None = None,
        *,
        admit: Callable[[TeacherRequest], None] = lambda _: None,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._limits = config.batch_limits
        self._teacher = teacher
        self._cache = cache
        self._budget = budget
        self._admit = admit
        self._sleep = sleep
        self._clock = clock
        self._journal = BatchJournal(cache, teacher.teacher_id, clock)
        self._max_open = self._limits.max_open
        self._num_useful = 0
        # No more requests than a downloaded file of results has room for.
        most = MAX_FILE_BYTES // (_RESULT_BYTES + _RESULT_BYTES_PER_TOKEN * config.max_new_tokens)
        self._max_requests = max(min(self._limits.max_requests, most), 1)
        self.report = BatchReport()
        self._endpoint = BatchEndpoint(config.endpoint)

    def close(self) -> None:
        """Close the connections; batches go on at the endpoint."""
        self._endpoint.close()

    def run(self, requests: Callable[[], Iterable[TeacherRequest]]) -> BatchReport:
        """Send all requests that have no reply, and wait until each batch has ended.

        Requests without a result are sent again, as long as a round brings any reply, at most
        ``endpoint.max_attempts`` times.

        Args:
            requests: Gives the requests, once a round; they are not kept.

        Raises:
            BudgetSpentError: Some were not sent; those that were are waited for before.
            EndpointUnavailableError: The endpoint cannot be had; batches go on meanwhile.
            EndpointRefusedError: It has no batch API, or refuses the key.
        """
        self._resume()
        for _ in range(self._config.endpoint.max_attempts):
            before = self.report.num_replies
            had_open = bool(self._journal.open())  # what they leave is not a part of this round
            self.report.num_left = self._num_useful = 0
            self._send_round(requests())
            self._wait(0)
            is_stuck = self.report.num_replies == before and not had_open
            if not self.report.num_left or is_stuck:
                break
        if self.report.num_left and not self._num_useful:
            raise EndpointUnavailableError(
                f"{self._teacher.teacher_id}: no batch of the last round was worked on "
                f"({'; '.join(self.report.examples[-3:])})"
            )
        return self.report

    def _resume(self) -> None:
        """Find the batches of an earlier start that was killed before it knew their ids."""
        for batch in self._journal.open():
            if not batch.batch:
                self._recover(batch)
            else:
                self.report.num_resumed += 1

    def _recover(self, batch: JournaledBatch) -> None:
        found_batch = None
        if batch.input_file:
            # The request that created it may still be on its way.
            age = self._clock() - batch.created
            wait = self._config.endpoint.timeout_seconds - age
            if wait > 0:
                self._sleep(min(wait, self._config.endpoint.timeout_seconds))
            found_batch = self._endpoint.find(batch.tag, batch.input_file)
        if found_batch is not None:
            self._journal.created(batch.tag, found_batch.id)
            self.report.num_resumed += 1
            return
        # They were counted before they were sent, and nobody has worked on them.
        num_unpaid = len(self._journal.keys(batch.tag))
        self._journal.end(batch.tag, "never created")
        self._give_back(num_unpaid)

    def _send_round(self, requests: Iterable[TeacherRequest]) -> None:
        """Send what has no reply and is not under way."""
        is_first = True
        keys: dict[str, None] = {}
        with self._new_file() as file:
            try:
                for request in requests:
                    if not self._is_pending(request.key, keys):
                        continue
                    if is_first:
                        self._teacher.prepare(request)
                        is_first = False
                        if self._cache.stored(request.key) is not None:
                            continue  # it was the first, which told whether videos are looked at
                    line = self._line(request)
                    if self._is_full(keys, file.tell() + len(line)):
                        self._send(file, keys)
                    self._admit(request)
                    self._check_budget(keys)
                    file.write(line)
                    keys[request.key] = None
            except BudgetSpentError:
                # Whatever was admitted is sent and waited for.
                self._send(file, keys)
                self._wait(0)
                raise
            self._send(file, keys)

    def _new_file(self) -> IO[bytes]:
        """Open a file that is gone with its process; it holds pictures of the clips."""
        return tempfile.TemporaryFile(dir=self._cache.path.parent)

    def _is_pending(self, key: str, keys: dict[str, None]) -> bool:
        is_known = self._cache.stored(key) is not None
        return not is_known and key not in keys and not self._journal.is_under_way(key)

    def _line(self, request: TeacherRequest) -> bytes:
        line = {
            "custom_id": request.key,
            "method": "POST",
            "url": REQUEST_PATH,
            "body": self._teacher.body(request),
        }
        return json.dumps(line).encode() + b"\n"

    def _is_full(self, keys: dict[str, None], num_bytes: int) -> bool:
        is_large = num_bytes > self._limits.max_megabytes * 1e6
        return bool(keys) and (len(keys) >= self._max_requests or is_large)

    def _check_budget(self, keys: dict[str, None]) -> None:
        """Raise where the budget has no room for one more than ``keys``."""
        if self._budget is None:
            return
        left = self._budget.num_left
        if left is not None and left <= len(keys):
            self._budget.spend(left + 1)  # raises

    def _send(self, file: IO[bytes], keys: dict[str, None]) -> None:
        """Create a batch of the collected requests, and forget them."""
        num_requests = len(keys)
        if not num_requests:
            return
        self._wait(self._max_open - 1)
        # Counted and written down before anything leaves this machine: whoever is killed has
        # counted too many rather than too few, and finds the batch again.
        if self._budget is not None:
            self._budget.spend(num_requests)
        tag = self._journal.begin(keys)
        file.flush()
        try:
            input_file = self._endpoint.upload(file, file.tell())
            self._journal.uploaded(tag, input_file)
            created = self._endpoint.create(input_file, tag)
        except EndpointRefusedError as error:
            # There is no batch. Of one that is unavailable it is not known: the next start looks
            # for it.
            self._journal.end(tag, "refused")
            self._give_back(num_requests)
            raise EndpointRefusedError(
                f"{error}; for an endpoint without a batch API set teacher.batch=false"
            ) from error
        self._journal.created(tag, created.id)
        self.report.num_batches += 1
        _LOG.info("batch %s: %d requests", created.id, num_requests)
        keys.clear()
        file.seek(0)
        file.truncate()

    def _wait(self, most: int) -> None:
        """Wait until at most so many batches are open, and store the results of those that end."""
        while True:
            num_open = sum(not self._look(batch) for batch in self._journal.open())
            if num_open <= most:
                return
            self._sleep(self._limits.poll_seconds)

    def _look(self, batch: JournaledBatch) -> bool:
        """Look at a batch and store its results; tell whether it has ended."""
        remote = self._endpoint.look(batch.batch)
        if remote is None:
            raise EndpointUnavailableError(
                f"{self._teacher.teacher_id} does not know the batch {batch.batch} that was "
                "created there: use the key of the same account, or, if the batch is gone, set "
                "teacher.batch=false, which sends its requests again"
            )
        if remote.has_ended:
            self._collect(batch, remote)
            return True
        if self._clock() - batch.created > 3600 * _LONGEST_HOURS:
            raise EndpointUnavailableError(
                f"{self._teacher.teacher_id}: the batch {batch.batch} is {remote.status!r} after "
                f"{_LONGEST_HOURS} hours; cancel it at the service, and start again"
            )
        return False

    def _collect(self, batch: JournaledBatch, remote: RemoteBatch) -> None:
        """Store the replies of a batch that has ended."""
        keys = self._journal.keys(batch.tag)
        # Replies before the end: a process that is killed in between collects them again, and those
        # that are stored stay as they are.
        results = BatchResults(keys, self._config.endpoint)
        for file_id in (remote.output_file, remote.error_file):
            if file_id is None:
                continue
            content = self._endpoint.download(file_id)
            if content is None:
                results.problems["file of results is gone"] += 1
                results.examples.append(f"the file {file_id} is gone")
                continue
            self.report.num_replies += self._cache.put(
                self._teacher.teacher_id,
                ((key, self._cleaned(reply)) for key, reply in results.replies(content)),
            )
        results.end(is_complete=remote.status == "completed")
        self._journal.end(batch.tag, remote.status)
        self._give_back(len(keys) - results.num_paid)
        self._count(remote, results, len(keys) - results.num_replies)
        # It has served; a service has room for so many.
        if batch.input_file:
            self._endpoint.delete_file(batch.input_file)

    def _count(self, remote: RemoteBatch, results: BatchResults, num_left: int) -> None:
        """Add a batch that has ended to the report."""
        self.report.num_left += num_left
        problems = {self._shown(name): count for name, count in results.problems.items()}
        examples = results.examples
        if remote.status != "completed":
            problems[f"{remote.status} batch"] = 1
            examples = [f"the batch {remote.id} is {remote.status} ({remote.detail})", *examples]
            # Such as one above the service's limit of tokens that wait.
            self._max_open = max(self._max_open - 1, 1)
        if results.num_paid:
            self._num_useful += 1
        self.report.problems.update(problems)
        self.report.examples = (self.report.examples + list(map(self._shown, examples)))[-20:]
        if num_left:
            _LOG.warning(
                "%s: %d requests have no reply and are sent again (%s)",
                *(remote.id, num_left, "; ".join(map(self._shown, examples[:3]))),
            )

    def _cleaned(self, reply: ChatReply) -> ChatReply:
        """Return a reply without what tells of the key."""
        clean = self._endpoint.clean
        return replace(reply, text=clean(reply.text), problem=clean(reply.problem))

    def _shown(self, text: str) -> str:
        return printable(self._endpoint.clean(text))

    def _give_back(self, count: int) -> None:
        if self._budget is not None and count:
            self._budget.give_back(count)
