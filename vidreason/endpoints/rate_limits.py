"""Rate limits of an endpoint: requests and tokens a minute, and pauses that it asks for."""

import time
from collections.abc import Callable

_BURST_SECONDS = 1.0
"""Unused allowance is kept for this long: a minute's worth would double the first minute."""
_SMALLEST_WAIT = 1e-3
"""Seconds; what is missing for less is rounding of the clock."""
_REMEMBERED = 50
"""Replies over which the mean number of tokens is taken."""
_ENOUGH = 8
"""Replies after which the mean counts, and the estimate no more: the first may be of a probe."""


class RateLimits:
    """Token buckets for requests and tokens, and a pause for all of a client's requests.

    A request's tokens are only known when its reply is there: it takes an estimate, and the
    difference is settled then, so that the sum is right, whatever the estimate. Used from the one
    thread that a client's event loop runs in, but for :meth:`expect`.

    Args:
        requests_per_minute: None for no limit.
        tokens_per_minute: Of prompts and answers together; None for no limit.
        clock: Seconds that never go back; a test passes another.
    """

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._requests = _Bucket(requests_per_minute)
        self._tokens = _Bucket(tokens_per_minute)
        self._clock = clock
        self._last = clock()
        self._paused_until = self._last
        self._expected = 1.0
        self._mean = 0.0
        self._num_settled = 0

    def expect(self, num_tokens: float) -> None:
        """Set the estimate of a request's tokens until replies tell; the largest one counts."""
        self._expected = max(self._expected, num_tokens)

    @property
    def _estimate(self) -> float:
        return self._expected if self._num_settled < _ENOUGH else max(self._mean, 1.0)

    def seconds_to_wait(self) -> float:
        """Return how long the next request has to wait; 0 if it may be sent."""
        now = self._clock()
        elapsed, self._last = now - self._last, now
        self._requests.refill(elapsed, 1.0)
        self._tokens.refill(elapsed, self._estimate)
        wait = max(
            self._paused_until - now,
            self._requests.seconds_until(1.0),
            self._tokens.seconds_until(self._estimate),
        )
        return wait if wait >= _SMALLEST_WAIT else 0.0

    def take(self) -> float:
        """Count a request that is sent now; return the tokens that were reserved for it."""
        self._requests.level -= 1.0
        self._tokens.level -= self._estimate
        return self._estimate

    def settle(self, reserved: float, num_tokens: int) -> None:
        """Replace a reservation by the tokens that the reply says; 0 leaves it as it is."""
        if not num_tokens:
            return
        self._tokens.level += reserved - num_tokens
        self._num_settled += 1
        # The mean of all at first, then each new reply counts a fiftieth.
        step = 1 / min(self._num_settled, _REMEMBERED)
        self._mean += (num_tokens - self._mean) * step

    def give_back(self, reserved: float) -> None:
        """Take back the tokens of a request that no model has worked on; it counts as a request."""
        self._tokens.level += reserved

    def pause(self, seconds: float) -> None:
        """Let no request go for ``seconds``, as the endpoint has asked of one."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)


class _Bucket:
    """Allowance that grows with time; below 0 it is a debt."""

    def __init__(self, per_minute: float | None) -> None:
        self._per_second = None if per_minute is None else per_minute / 60
        self.level = 0.0
        self._is_new = True

    def refill(self, seconds: float, need: float) -> None:
        """Add what has grown in ``seconds``; a new bucket begins with what one request needs."""
        if self._per_second is None:
            return
        # At least one request's need: a larger one would else wait for ever.
        capacity = max(need, self._per_second * _BURST_SECONDS)
        if self._is_new:
            self.level, self._is_new = need, False
        self.level = min(self.level + seconds * self._per_second, capacity)

    def seconds_until(self, need: float) -> float:
        """Return when ``need`` is there."""
        if self._per_second is None:
            return 0.0
        return (need - self.level) / self._per_second
