"""Rate limits: what is sent in a minute, corrections by what replies say, and pauses for all."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from loopback import ByRequest, Loopback, http

from vidreason.endpoints.budget import RequestBudget
from vidreason.endpoints.cache import ReplyCache
from vidreason.endpoints.client import ChatEndpoint
from vidreason.endpoints.config import EndpointConfig
from vidreason.endpoints.rate_limits import RateLimits


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def sent_at(rates, clock, number, tokens=0):
    """Send ``number`` requests one after another as early as they may; their times."""
    times = []
    for _ in range(number):
        while wait := rates.seconds_to_wait():
            clock.now += wait
        reserved = rates.take()
        rates.settle(reserved, tokens)
        times.append(clock.now)
    return times


def most_in_a_minute(times):
    return max(sum(start <= time < start + 60 for time in times) for start in times)


@pytest.mark.parametrize("per_minute", [1, 7, 60, 600])
def test_no_minute_has_more_requests_than_allowed_and_none_is_wasted(per_minute):
    clock = Clock()
    times = sent_at(RateLimits(per_minute, None, clock), clock, 3 * per_minute)
    assert most_in_a_minute(times) <= per_minute + 1
    # All but the first need their share of a minute.
    assert times[-1] - times[0] <= 60 * 3 + 1e-6
    rates = RateLimits(per_minute, None, clock)
    sent_at(rates, clock, 1)
    clock.now += 3600  # an idle hour is no allowance for a burst
    times = sent_at(rates, clock, 2 * per_minute + 2)
    assert most_in_a_minute(times) <= per_minute * (1 + 1 / 60) + 2


@pytest.mark.parametrize("guess", [1, 1000, 50_000])
def test_tokens_are_held_to_whatever_was_estimated(guess):
    clock = Clock()
    rates = RateLimits(None, 10_000, clock)
    rates.expect(guess)
    times = sent_at(rates, clock, 60, tokens=1000)
    assert most_in_a_minute(times[9:]) <= 11  # 10 a minute, once replies have told
    assert times[-1] - times[0] <= 60 * (60 + guess / 1000) / 10
    rates.expect(10**9)  # replies count more than estimates
    assert rates.seconds_to_wait() < 60


def test_without_limits_nothing_waits_and_a_pause_is_for_all():
    clock = Clock()
    rates = RateLimits(clock=clock)
    assert sent_at(rates, clock, 1000, tokens=10**6) == [1000.0] * 1000
    rates.pause(20)
    rates.pause(5)
    assert rates.seconds_to_wait() == 20
    clock.now += 20
    assert rates.seconds_to_wait() == 0


def test_what_no_model_worked_on_takes_no_tokens():
    clock = Clock()
    rates = RateLimits(None, 600, clock)
    rates.expect(600)
    rates.give_back(rates.take())
    assert rates.seconds_to_wait() == 0
    rates.take()
    assert rates.seconds_to_wait() == pytest.approx(60)


def test_the_client_lets_all_wait_when_one_is_told_to(tmp_path):
    clock, lock, times = Clock(), threading.Lock(), []

    def answer(request):
        with lock:
            times.append(clock.now)
            is_first = len(times) == 1
        if is_first:
            return http(429, {"error": {"message": "slow down"}}, "Retry-After: 30")
        message = {"role": "assistant", "content": "fine"}
        usage = {"prompt_tokens": 90, "completion_tokens": 10}
        return http(200, {"choices": [{"message": message}], "usage": usage})

    async def sleep(seconds):
        with lock:
            clock.now += seconds
        await asyncio.sleep(0)

    server = Loopback()
    try:
        rates = RateLimits(clock=clock)
        budget = RequestBudget(ReplyCache(tmp_path / "cache"), "m", None, "max_requests", rates)
        config = EndpointConfig(base_url=server.script(ByRequest(answer)), api_key_variable="")
        with ChatEndpoint(config, budget, sleep=sleep, jitter=lambda: 1) as client:
            first = client.complete("m", [{"role": "user", "content": "?"}])
            start = clock.now
            with ThreadPoolExecutor(4) as pool:
                one = [{"role": "user", "content": "?"}]
                rates.pause(30)
                replies = list(pool.map(lambda _: client.complete("m", one), range(4)))
    finally:
        server.close()
    assert {reply.text for reply in [first, *replies]} == {"fine"}
    assert times[1] - times[0] >= 30
    assert min(times[2:]) - start >= 30
    assert budget.num_spent == 5  # the 429 is given back
