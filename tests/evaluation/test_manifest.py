"""Which changes make two numbers incomparable, and which are what is compared."""

from dataclasses import replace

import pytest

from vidreason.evaluation.answers import PARSER_VERSION, parse_choice, parse_span, short_answer
from vidreason.evaluation.config import EvaluationConfig
from vidreason.evaluation.manifest import (
    MUST_AGREE,
    Manifest,
    manifest_differences,
    manifest_from_json,
)
from vidreason.evaluation.provenance import Provenance, make_manifest
from vidreason.example import Example, Turn
from vidreason.model import DecodingConfig
from vidreason.reasoning.outcomes import Outcome, outcome_meta
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT
from vidreason.reasoning.reasoner_config import FuturesConfig

SYSTEM = Provenance(model="m", perceiver="p", frames={"num_clips": 8})
CHOICE = Example(
    id="nextqa:val:1_2",
    corpus="nextqa",
    media="/here/1.mp4",
    video_id="1",
    prompt="why",
    response="y",
    options=("x", "y"),
    answer_index=1,
    question_type="CW",
)
OPEN = Example(
    id="activitynet_qa:val:a",
    corpus="activitynet_qa",
    media="/here/2.mp4",
    video_id="2",
    prompt="is it",
    response="yes",
    answers=("yes",),
)

TURNS = (Turn("user", "q"), Turn("assistant", "a"))
CAME_NEXT = outcome_meta(Outcome("yes", "hit"), ())


def manifest(
    examples=(CHOICE, OPEN), system=SYSTEM, decoding=None, control="none", **evaluation
) -> Manifest:
    return make_manifest(
        examples,
        system,
        EvaluationConfig(**evaluation),
        decoding or DecodingConfig(),
        control=control,
    )


@pytest.mark.parametrize(
    ("changed", "fields"),
    [
        (manifest([OPEN, CHOICE]), []),  # the order says nothing
        (manifest([replace(CHOICE, media="/there/1.mp4"), OPEN]), []),  # nor does the place
        (manifest([replace(CHOICE, answer_index=0), OPEN]), ["questions"]),
        (manifest([replace(CHOICE, end_seconds=9.0), OPEN]), ["questions"]),
        (manifest([replace(CHOICE, prompt="why not"), OPEN]), ["prompts"]),
        (manifest([replace(CHOICE, earlier_turns=TURNS), OPEN]), ["prompts"]),
        (manifest([CHOICE, replace(OPEN, meta={"source": "x"})]), []),
        (manifest([CHOICE, replace(OPEN, meta=CAME_NEXT)]), ["questions"]),
        (manifest([CHOICE]), ["questions", "prompts", "answering"]),
        (manifest(system=replace(SYSTEM, frames={"num_clips": 4})), ["frames"]),
        (manifest(decoding=DecodingConfig(max_new_tokens=8)), ["answering"]),
        (manifest(decoding=DecodingConfig(num_beams=9)), []),  # greedy has no beams
        (manifest(multiple_choice="generate"), ["answering"]),
        (manifest(max_text_tokens=99), ["answering"]),
        (manifest(system=replace(SYSTEM, model="n")), ["model"]),
        (manifest(system=replace(SYSTEM, perceiver="q")), ["perceiver"]),
        (manifest(control="blind"), ["control"]),
        (manifest(control="random", seed=3), ["control", "seed"]),
        (manifest(seed=3), []),  # nothing is drawn
        (manifest(batch_size=3), ["batch_size"]),
        (replace(manifest(), parser=PARSER_VERSION + 1), ["parser"]),
        (replace(manifest(), judge="a judge"), ["judge"]),
    ],
)
def test_what_differs(changed, fields):
    expected = manifest()
    assert list(manifest_differences(expected, changed)) == fields
    assert (changed.hash == expected.hash) == (not fields)
    assert (changed.protocol_hash == expected.protocol_hash) == (not set(fields) & set(MUST_AGREE))


def test_another_measure_is_another_protocol():
    other = manifest().scored_by({"nextqa": "WUPS"})
    assert manifest_differences(manifest().scored_by({}), other) == {
        "scoring": ["scoring.nextqa: 'accuracy' and 'WUPS'"]
    }
    assert other.protocol_hash != manifest().scored_by({}).protocol_hash


def test_the_search_for_futures_matters_where_a_prediction_is_asked_for():
    predicted = [replace(OPEN, prompt=FUTURE_PREDICTION_PROMPT)]
    drawn = DecodingConfig(futures=FuturesConfig(method="nucleus"))
    differences = manifest_differences(manifest(predicted), manifest(predicted, decoding=drawn))
    assert differences == {"answering": ["answering.futures.method: 'beam' and 'nucleus'"]}


def test_what_no_question_needs_does_not_matter():
    """Texts are not generated where all questions have options, nor options scored elsewhere."""
    assert manifest([CHOICE]) == manifest([CHOICE], decoding=DecodingConfig(max_new_tokens=8))
    assert manifest() == manifest(decoding=DecodingConfig(futures=FuturesConfig(method="nucleus")))
    assert manifest([OPEN]) == manifest([OPEN], multiple_choice="generate", max_text_tokens=9)


def test_round_trip():
    values = manifest().as_json()
    assert manifest_from_json(values, "a file") == manifest()
    for broken in (values | {"model": "n"}, {"hash": values["hash"]}, values | {"new": 1}):
        with pytest.raises(ValueError, match="the manifest of a file was changed"):
            manifest_from_json(broken, "a file")


def test_a_parser_that_answers_otherwise_has_another_version():
    """Whoever changes one of these raises ``PARSER_VERSION``, and adds what has changed here."""
    options = ("a red ball", "two dogs", "two")
    texts = (
        "B",
        "(b)",
        "A dog",
        "answer: C",
        "Answer B. Answer C.",
        "two dogs",
        "Two.",
        "I see",
        "",
    )
    assert PARSER_VERSION == 2
    assert [parse_choice(text, options) for text in texts] == [
        *(1, 1, None, 2, None, 1, 2, None, None)
    ]
    assert parse_choice("<think>A</think><answer>B</answer>", options) == 1
    assert [short_answer(text) for text in (" Yes, it is.\nNo", "\u00bd 'cup'", "")] == [
        *("yes, it is", "1\u20442 'cup", "")
    ]
    assert [parse_span(text) for text in ("9 to 3.5", "0:03 - 1:00", "3")] == [
        *((3.5, 9.0), (3.0, 60.0), None)
    ]
