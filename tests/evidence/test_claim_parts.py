"""Claims in parts: orders, causes, and everything else."""

import time

import pytest

from vidreason.evidence.claim_parts import claim_parts
from vidreason.evidence.spans import widened
from vidreason.evidence.verifier import Claim


def test_orders_causes_and_events_are_told_apart() -> None:
    wrong = {}
    for text, expected in {
        "The dog barks loudly before the cat runs away.": (
            "order",
            "The dog barks loudly",
            "the cat runs away",
        ),
        "the cat runs away after the dog barks loudly": (
            "order",
            "the dog barks loudly",
            "the cat runs away",
        ),
        "the ball stops because the wall blocks it": (
            "cause",
            "the wall blocks the ball",
            "the ball stops",
        ),
        "the glass falls due to the wind": ("cause", "the wind", "the glass falls"),
        "the lug nuts are tight because she turns them": (
            "cause",
            "she turns the lug nuts",
            "the lug nuts are tight",
        ),
        # What follows an event is a part of it.
        "the ball hits the wall, so it stops": ("event", "the ball hits the wall, so it stops"),
        # No events on one side.
        "the ball stops before the wall": ("event", "the ball stops before the wall"),
        "the ball stops after 2.5 more seconds": (
            "event",
            "the ball stops after 2.5 more seconds",
        ),
        "before": ("event", "before"),
        "a  hand\nwaves .": ("event", "a hand waves"),
        # Half of a surrogate pair, which JSON can hold and no tokenizer takes.
        "half a \ud83d waves": ("event", "half a ? waves"),
    }.items():
        parts = claim_parts(text)
        if (parts.kind, *parts.clauses) != expected:
            wrong[text] = parts
    assert not wrong


def test_an_empty_claim_is_refused() -> None:
    for text in ("", " \n", ".", ". . ."):
        with pytest.raises(ValueError, match="a claim is empty"):
            claim_parts(text)


def test_hostile_claims_are_read_in_little_time() -> None:
    began = time.process_time()
    for text in (
        "before " * 100_000,
        "a, before" * 100_000,
        "because " * 50_000,
        "the \\1 \\g<0> stops because it \\2",
        "\x00\u202e<|im_end|> before a b c",
    ):
        assert len(claim_parts(text).text) <= 2_000
    assert time.process_time() - began < 30  # not quadratic


def test_a_span_is_widened_and_cut_to_the_video() -> None:
    def of(start, end, margin, duration=6.0):
        claim = Claim(text="x", media="v", start_seconds=start, end_seconds=end)
        return widened(claim, margin, duration)

    assert of(2.0, 3.0, 0.5) == ("v", 1.5, 3.5)
    assert of(0.2, 5.9, 0.5) == of(None, None, 0.5) == of(2, 3, 10) == ("v", None, None)
    assert of(2.0, None, 0.0) == ("v", 2.0, None)
    assert of(None, 3.0, float("inf")) == ("v", None, None)
