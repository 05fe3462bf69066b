"""Answers as objects: how they print, what they are as JSON, and how a notebook draws them."""

import json
from html.parser import HTMLParser
from typing import Any

import pytest
import torch

from vidreason.answer import Answer, Explanation, Forecast, Timings, TokenCounts
from vidreason.perception.visual_tokens import VisualTokens
from vidreason.reasoning import future_search
from vidreason.reasoning.evidence import Evidence
from vidreason.reasoning.explanations import parse_explanation
from vidreason.reasoning.forecast_text import LikelyEvents
from vidreason.reasoning.future_search import Forecasts
from vidreason.reasoning.futures import Future
from vidreason.video.config import SamplingConfig

NO_TOKENS = VisualTokens(
    features=torch.zeros(0, 4),
    kinds=torch.zeros(0, dtype=torch.int64),
    spans=torch.zeros(0, 2),
    boxes=torch.zeros(0, 4),
    areas=torch.zeros(0),
    track_ids=torch.zeros(0, dtype=torch.int64),
    masks=(),
    duration_seconds=6.0,
)
PARTS = (
    Evidence("track", 2, 0.5, 4.75, 2.306),
    Evidence("clip", None, 4.5, 6.0, 1.1),
    Evidence("track", 0, 3.0, 3.0, 0.4),
    Evidence("clip", None, 0.0, 1.5, 0.3),
)
FUTURES = (
    Future("the ball \x1b falls", -0.25, 0.625),
    *(Future(f"event {number}", -2.0, 0.05) for number in range(8)),
)
FORECASTS = Forecasts(
    (
        future_search.Forecast(
            Future("the ball \x1b falls", -0.25, 0.625, "it rolls", 1.34), 0.8, PARTS
        ),
        future_search.Forecast(
            Future("it stops", -2.0, 0.0004), None, (Evidence("clip", None, 0.0, 6.0, 0.01),)
        ),
        future_search.Forecast(Future("nothing moves", -3.0, 0.0001), None, ()),
    ),
    FUTURES,
    0.934,
)
NO_FORECASTS = Forecasts((), (), 0.0)


def fields(text: str, **others: Any) -> dict[str, Any]:
    """All fields of an answer."""
    return {
        "text": text,
        "confidence": None,
        "evidence": (),
        "tokens": TokenCounts(visual=0, embeddings=32, prompt=3, answer=2),
        "timings": Timings(perceive_seconds=0.5, answer_seconds=0.25),
        "warnings": (),
        "media": "absent.mp4",
        "start_seconds": None,
        "end_seconds": None,
        "visual_tokens": NO_TOKENS,
        "sampling": SamplingConfig(),
        **others,
    }


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "1. The ball falls. Because it rolls. Confidence: 0.8",
            "1. The ball falls.\nJustification: Because it rolls.\nConfidence: 0.8",
        ),
        ("no idea", "(could not be read as a prediction: no idea)"),
    ],
)
def test_predictions_are_shown_as_a_list_where_no_event_could_be_computed(text, shown):
    assert str(Forecast(**fields(text), printed=text, forecasts=NO_FORECASTS)) == shown
    assert str(Answer(**fields(text))) == text


def test_an_explanation_is_shown_as_a_list():
    shown = "1. The wall blocks it, so it stops.\n2. It leaves."
    for text in ("The wall blocks it, so it stops.\nIt leaves.", shown):
        assert str(Explanation(**fields(text), steps=parse_explanation(text))) == shown
    assert str(Explanation(**fields("..."), steps=())) == "..."


def test_an_answer_is_an_object_with_what_it_is_read_into():
    text = "The wall blocks it, so it stops. \x1b \u00e9"
    answer = Answer(**fields(text, confidence=0.5, evidence=PARTS[:1], warnings=("cut",)))
    assert answer.to_json().isascii()
    assert json.loads(answer.to_json()) == {
        "answer": text,
        "confidence": 0.5,
        "evidence": [PARTS[0]._asdict()],
        "warnings": ["cut"],
    }
    text = "1. The wall blocks it, so it stops."
    explanation = Explanation(**fields(text), steps=parse_explanation(text))
    (step,) = json.loads(explanation.to_json())["steps"]
    assert step == {
        "text": "The wall blocks it, so it stops.",
        "event": "The wall blocks it",
        "links": [{"cause": "The wall blocks it", "effect": "it stops"}],
    }
    text = "1. It stops. Confidence: 80%"
    printed = json.loads(Forecast(**fields(text), printed=text, forecasts=NO_FORECASTS).to_json())
    assert printed["predictions"] == [
        {"event": "It stops.", "justification": "", "confidence": 0.8}
    ]
    assert (printed["futures"], printed["num_events"], printed["covered_mass"]) == ([], 0, 0.0)


def test_computed_probabilities_are_told_from_printed_confidences():
    answer = Forecast(**fields("no"), printed="1. no", forecasts=FORECASTS)
    assert str(answer) == (
        "1. the ball \\x1b falls\n"
        "Probability: 62.5% (computed)\n"
        "Confidence: 0.8 (printed)\n"
        "Justification: it rolls\n"
        "Expected: 1.3 s after the end (computed)\n"
        "Rests on: object 2, 0.5-4.8 s (2.31 nats); clip 4.5-6.0 s (1.10 nats); "
        "object 0, 3.0 s (0.40 nats)\n"
        "2. it stops\n"
        "Probability: 0.0% (computed)\n"
        "Rests on: no single part of the video\n"
        "3. nothing moves\n"
        "Probability: 0.0% (computed)\n"
        "(computed: shares of 9 events that were found, of all that the model may name 93%)"
    )
    value = json.loads(answer.to_json())
    assert (value["num_events"], value["covered_mass"]) == (9, 0.934)
    assert value["futures"][0] == {
        "event": "the ball \x1b falls",
        "log_likelihood": -0.25,
        "probability": 0.625,
        "justification": "it rolls",
        "seconds": 1.34,
        "confidence": 0.8,
        "evidence": [part._asdict() for part in PARTS],
    }
    assert len(value["futures"]) == 3


def test_a_calibrated_forecast_names_the_events_of_which_one_comes():
    likely = LikelyEvents(("the ball \x1b falls", "it stops"), 0.9, 300)
    answer = Forecast(**fields("no"), printed="1. no", forecasts=FORECASTS, likely=likely)
    assert str(answer).splitlines()[-2:] == [
        "One of these comes, in 90% of such videos: the ball \\x1b falls; it stops",
        "(computed: calibrated on 300 videos; shares of 9 events that were found, of all that the "
        "model may name 93%)",
    ]
    assert json.loads(answer.to_json())["likely"] == {
        "events": ["the ball \x1b falls", "it stops"],
        "level": 0.9,
        "num_videos": 300,
    }
    unbounded = Forecast(
        **fields("no"), printed="", forecasts=FORECASTS, likely=LikelyEvents((), 0.9, 9)
    )
    assert "One of these comes" not in str(unbounded)
    plain = Forecast(**fields("no"), printed="", forecasts=FORECASTS)
    assert json.loads(plain.to_json())["likely"] is None


class Texts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


def test_a_hostile_answer_draws_as_text():
    answer = Answer(
        **fields("<script>x</script>", evidence=PARTS, warnings=("<b>",), confidence=0.5)
    )
    page = Texts()
    page.feed(answer._repr_html_())
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert "<script>x</script>" in page.text
    assert "rests on object 2, 0.5-4.8 s" in page.text
    assert "img" not in page.tags  # the video is no longer there
