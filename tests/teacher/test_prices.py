"""Prices: by hand-computed sums, the rules for pictures, and what a configuration may not say."""

import math

import pytest

from vidreason.teacher.prices import Usage, estimate_job, estimated_usage, money, picture_tokens
from vidreason.teacher.protocol import TeacherRequest
from vidreason.teacher.running_config import PriceConfig, RunningConfig

PRICES = PriceConfig(
    per_million_prompt_tokens=2.0,
    per_million_generated_tokens=8.0,
    per_million_cached_tokens=0.5,
    per_image=0.001,
    batch_discount=0.5,
)


def request(images=4, pixels=4 * 640 * 360, chars=401):
    return TeacherRequest(
        key="k", content="", num_images=images, num_image_pixels=pixels, num_text_chars=chars
    )


def test_usage_costs_what_the_price_list_says():
    usage = Usage(3, 10, 1_000_000, 500_000, 400_000)
    assert money(PRICES, usage) == pytest.approx(0.6 * 2 + 0.4 * 0.5 + 0.5 * 8 + 10 * 0.001)
    assert money(PRICES, usage, is_batch=True) == pytest.approx(money(PRICES, usage) / 2)
    without = PriceConfig(per_million_prompt_tokens=2.0)
    assert money(without, usage) == pytest.approx(2.0)
    assert money(PriceConfig(), usage) == 0


@pytest.mark.parametrize(
    ("rule", "width", "height", "tokens"),
    [
        ("patches_28", 448, 252, 16 * 9),
        ("patches_28", 640, 360, 23 * 13),
        ("patches_32", 640, 360, 20 * 12),
        ("tiles_512", 640, 360, 85 + 2 * 170),
        # 4096 x 2304 is made 2048 x 1152, then 1365 x 768: three by two tiles.
        ("tiles_512", 4096, 2304, 85 + 6 * 170),
        ("tiles_512", 160, 90, 85 + 170),
    ],
)
def test_pictures_are_counted_by_the_rules_of_services(rule, width, height, tokens):
    assert picture_tokens(PriceConfig(image_tokens=rule), width * height) == tokens
    fixed = PriceConfig(image_tokens="fixed", tokens_per_image=258)
    assert picture_tokens(fixed, width * height) == 258


def test_an_estimate_has_pictures_text_and_the_longest_answer():
    usage = estimated_usage(PRICES, request(), 512)
    assert usage == Usage(1, 4, 4 * 23 * 13 + 101, 512)
    assert estimated_usage(PRICES, request(images=0, pixels=0), 512).num_prompt_tokens == 101
    video = estimated_usage(PRICES, request(images=0), 512)
    assert video.num_images == 0
    assert video.num_prompt_tokens == pytest.approx(4 * 23 * 13 + 101, rel=0.1)


def test_a_job_is_priced_by_some_of_its_requests():
    config = RunningConfig(prices=PRICES, requests_per_minute=10, tokens_per_minute=50_000)
    samples = [Usage(1, 4, 900, 512), Usage(1, 4, 1100, 512)]
    job = estimate_job(config, samples, 1000)
    assert job.usage == Usage(1000, 4000, 1_000_000, 512_000)
    assert job.cost == pytest.approx(2 + 0.512 * 8 + 4)
    assert job.minutes_at_rate_limits == pytest.approx(100)
    text = "\n".join(job.lines())
    assert "1,000, with 4,000 pictures" in text
    assert "10.10 USD" in text
    assert "100.0 minutes" in text
    batch = estimate_job(config, samples, 1000, is_batch=True)
    assert batch.cost == pytest.approx(job.cost / 2)
    assert batch.minutes_at_rate_limits is None
    tight = RunningConfig(tokens_per_minute=1_000)
    assert estimate_job(tight, samples, 10).minutes_at_rate_limits == pytest.approx(15.12)
    assert "no prices" in "\n".join(estimate_job(RunningConfig(), samples, 1).lines())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_cost": 5.0}, r"max_cost is 5.0 and running.prices has none; set"),
        ({"num_parallel": 0}, r"running.num_parallel is 0; it must be"),
        ({"tokens_per_minute": 0.0}, r"running.tokens_per_minute is 0.0; it must be above 0"),
        ({"max_hours": math.nan}, r"running.max_hours is nan"),
    ],
)
def test_limits_that_cannot_be_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        RunningConfig(**fields)


def test_prices_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"batch_discount is 1.5"):
        PriceConfig(batch_discount=1.5)
    with pytest.raises(ValueError, match=r"say how many tokens a picture has"):
        PriceConfig(image_tokens="fixed")
