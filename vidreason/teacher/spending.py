"""Spending of a run: requests, money and rates, counted over all its starts in its journal."""

import threading

from typing_extensions import override

from vidreason.endpoints.budget import RequestBudget
from vidreason.endpoints.cache import ReplyCache
from vidreason.endpoints.errors import BudgetSpentError
from vidreason.endpoints.rate_limits import RateLimits
from vidreason.teacher.prices import Usage, money
from vidreason.teacher.running_config import RunningConfig


class Spending(RequestBudget):
    """Budget of requests and of money.

    Requests are counted before they are sent. One whose reply says what was used costs that; all
    others - in flight, timed out, or in flight when a process was killed - cost the dearest
    estimate, or the largest prompt of a reply where that is more. So the sum is never too low as
    long as no answer is longer than its limit, and no request is sent that may exceed ``max_cost``.

    Args:
        cache: The run's file of replies.
        model_id: Names the teacher.
        config: Limits, rates and prices.
        is_batch: Whether requests go through the batch API, which has a discount.
    """

    def __init__(
        self, cache: ReplyCache, model_id: str, config: RunningConfig, *, is_batch: bool = False
    ) -> None:
        rates = RateLimits(config.requests_per_minute, config.tokens_per_minute)
        super().__init__(cache, model_id, config.max_requests, "running.max_requests", rates)
        self._config = config
        self._is_batch = is_batch
        self._estimate = Usage(num_requests=1)
        self._paid = Usage()
        self._last_row = 0
        self._lock = threading.Lock()
        self._num_admitted = 0  # to a batch that is not sent, and so not yet counted
        self._is_stopped = False

    def expect(self, usage: Usage) -> None:
        """Take account of the estimate of a request that is about to be sent."""
        with self._lock:
            # The most of each kind: one estimate stands for all requests of which nothing is known.
            self._estimate = Usage(*map(max, self._estimate, usage))
        assert self.rates is not None
        self.rates.expect(usage.num_prompt_tokens + usage.num_generated_tokens)

    def stop(self) -> None:
        """Let no further request be sent, such as another try of one that has failed."""
        self._is_stopped = True

    @property
    def paid(self) -> Usage:
        """Usage that replies say, of all starts."""
        with self._lock:
            return self._read_paid()

    @property
    def paid_cost(self) -> float:
        """Money for :attr:`paid`."""
        return self._money(self.paid)

    @property
    def unknown_cost(self) -> float:
        """Money at most for requests that have no reply with counts."""
        with self._lock:
            num_spent = self.num_spent
            self._read_paid()
            return self._unknown(num_spent)

    def has_room_for(self, count: int) -> bool:
        """Tell whether ``count`` more requests may not exceed ``max_cost``."""
        if self._config.max_cost is None:
            return True
        with self._lock:
            return self._cost_with(count)[1] <= self._config.max_cost

    def admit(self, usage: Usage) -> None:
        """Make sure that a request may be added to those of a batch that is not yet sent.

        Raises:
            BudgetSpentError: Together they may cost too much.
        """
        self.expect(usage)
        with self._lock:
            if self._config.max_cost is not None:
                paid, cost = self._cost_with(self._num_admitted + 1)
                if cost > self._config.max_cost:
                    raise BudgetSpentError(self._message(paid, cost))
            self._num_admitted += 1

    @override
    def spend(self, count: int = 1) -> None:
        """Count requests that are about to be sent; all of them, or none.

        Raises:
            BudgetSpentError: They would be too many, or may cost too much; or the run is to stop.
        """
        if self._is_stopped:
            raise BudgetSpentError("the run is to stop: no further request is sent")
        with self._lock:
            if self._config.max_cost is not None:
                paid, cost = self._cost_with(count)
                if cost > self._config.max_cost:
                    raise BudgetSpentError(self._message(paid, cost))
            # Within the lock: two threads must not both take the last of the money.
            super().spend(count)
            self._num_admitted = max(self._num_admitted - count, 0)

    def _cost_with(self, count: int) -> tuple[float, float]:
        """Return what was paid, and what it is at most with ``count`` more requests."""
        # Requests first: a reply that comes in between is counted twice, not left out.
        num_spent = self.num_spent
        paid = self._money(self._read_paid())
        return paid, paid + self._unknown(num_spent + count)

    def _message(self, paid: float, cost: float) -> str:
        currency = self._config.prices.currency
        return (
            f"running.max_cost={self._config.max_cost:g} {currency} may be exceeded by another "
            f"request: it would be {cost:.4g} {currency}, of which {paid:.4g} "
            "are for replies, and the rest an estimate for requests without one; what was answered "
            "is kept: raise the limit and start again to go on from here"
        )

    def _unknown(self, num_spent: int) -> float:
        # A reply without counts is as unknown as none.
        num_unknown = max(num_spent - int(self._paid.num_requests), 0)
        return self._money(self._estimate.times(num_unknown))

    def _money(self, usage: Usage) -> float:
        return money(self._config.prices, usage, is_batch=self._is_batch)

    def _read_paid(self) -> Usage:
        """Add the replies that came since the last time; return the usage of all."""
        # One statement, and so one state of the file: no reply is left out.
        query = (
            "SELECT COALESCE(SUM(prompt + generated > 0), 0), COALESCE(SUM(prompt), 0), "
            "COALESCE(SUM(generated), 0), COALESCE(SUM(cached), 0), COALESCE(MAX(prompt), 0), "
            "COALESCE(MAX(generated), 0), COALESCE(MAX(rowid), ?) FROM tokens WHERE rowid > ?"
        )
        with self._cache.connection() as connection:
            row = connection.execute(query, (self._last_row, self._last_row)).fetchone()
        num_replies, prompt, generated, cached, largest, longest, self._last_row = row
        self._paid = self._paid.plus(Usage(num_replies, 0, prompt, generated, cached))
        seen = Usage(num_prompt_tokens=largest, num_generated_tokens=longest)
        self._estimate = Usage(*map(max, self._estimate, seen))
        # Replies do not say how many pictures their requests had: all have as many.
        num_images = self._paid.num_requests * self._estimate.num_images
        return self._paid._replace(num_images=num_images)
