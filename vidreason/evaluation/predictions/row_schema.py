"""The form of a row of predictions: the type of each field, and how the fields fit each other."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from vidreason.evaluation.answers import normalise_answer

MAX_EVENTS = 1000
"""Events of one distribution over what happens next."""
SUM_TOLERANCE = 1e-3
"""Tolerance of the sum of a distribution, whose probabilities may have been rounded."""
_ROUNDING = 1e-6  # of one probability or likelihood

_Check = Callable[[Any], bool]


def row_problem(row: Mapping[str, Any]) -> str:
    """The first thing that is wrong with a row, as "field is ..., expected ..."; empty for none.

    Args:
        row: The JSON object of a line.
    """
    for name in _REQUIRED:
        if name not in row:
            return f"{name} is missing, expected {_FORMS[name][0]}"
    for name, value in row.items():
        if name not in _FORMS:
            return f"{name} is no field of a prediction, expected one of {', '.join(_FORMS)}"
        expected, is_valid = _FORMS[name]
        if not is_valid(value):
            return f"{name} is {shown(value)}, expected {expected}"
    return _misfit(row)


def futures_problem(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Name the fault of a row's computed futures, as :func:`row_problem` does; empty for none."""
    expected, is_valid = _FORMS["futures"]
    return "" if is_valid(value) else f"futures is {shown(value)}, expected {expected}"


def shown(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """A value of a file for a message, shortened."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _misfit(row: Mapping[str, Any]) -> str:
    options, reference = row.get("options", []), row.get("reference")
    kind = row.get("outcome_kind")
    is_event = isinstance(reference, list) and len(reference) == 1 and isinstance(reference[0], str)
    if kind and not is_event:
        return f"outcome_kind is {shown(kind)}, expected '' or one event as the reference"
    for name in ("option_log_likelihoods", "option_token_counts"):
        values = row.get(name, [])
        if values and len(values) != len(options):
            return (
                f"{name} is {shown(values)}, expected one value for each of {len(options)} options"
            )
    # With options, the reference is an index; without any, a list of answers or spans.
    if options:
        if reference is not None and not (isinstance(reference, int) and reference < len(options)):
            return (
                f"reference is {shown(reference)}, expected the index of one of {len(options)} "
                "options, or null"
            )
    elif isinstance(reference, int):
        return (
            f"reference is {shown(reference)}, expected accepted answers or spans, for there are "
            "no options"
        )
    return ""


def _is(*kinds: type) -> _Check:
    # True is an int in Python.
    return lambda value: isinstance(value, kinds) and not isinstance(value, bool)


def _is_list_of(is_valid: _Check) -> _Check:
    return lambda value: isinstance(value, list) and all(map(is_valid, value))


def _is_name(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    return isinstance(value, str) and bool(value.strip())


def _is_count(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    return _is(int)(value) and value >= 0


def _is_finite(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    try:
        return _is(int, float)(value) and math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def _is_span(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    return _is_list_of(_is_finite)(value) and len(value) == 2 and value[0] <= value[1]


def _is_share(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    return _is_finite(value) and 0 <= value <= 1 + _ROUNDING


def _is_delay(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    return value is None or (_is_finite(value) and value >= 0)


def _has_word(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    return isinstance(value, str) and bool(normalise_answer(value))


def _is_event(required: set[str], forms: Mapping[str, _Check]) -> _Check:
    """Check an object with all of some fields and none but those of ``forms``."""

    def check(value: Any) -> bool:  # noqa: ANN401 - any JSON value
        return (
            isinstance(value, dict)
            and required <= value.keys() <= forms.keys()
            and all(forms[name](one) for name, one in value.items())
        )

    return check


def _is_distribution(required: set[str], forms: Mapping[str, _Check]) -> _Check:
    """Check a list of such objects, whose probabilities sum to at most 1."""
    is_event = _is_event(required, forms)

    def check(value: Any) -> bool:  # noqa: ANN401 - any JSON value
        # Sizes first: a list of millions is not looked at.
        if not isinstance(value, list) or len(value) > MAX_EVENTS or not all(map(is_event, value)):
            return False
        return math.fsum(item["probability"] for item in value) <= 1 + SUM_TOLERANCE

    return check


def _is_reference(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    if value is None or _is_count(value):
        return True
    answers = _is_list_of(_has_word)
    return value != [] and (answers(value) or _is_list_of(_is_span)(value))


_NAME = ("a text that is not empty", _is_name)
_TEXT = ("a text", _is(str))
_TEXTS = ("a list of texts", _is_list_of(_is(str)))
_COUNT = ("a whole number of 0 or more", _is_count)
_REQUIRED = ("id", "corpus", "video_id")
_FORMS: dict[str, tuple[str, _Check]] = {
    "id": _NAME,
    "corpus": _NAME,
    "video_id": _NAME,
    "question_type": _TEXT,
    "group_id": _TEXT,
    "prompt": _TEXT,
    "options": _TEXTS,
    # Also numbers that are not finite: a model may give such likelihoods.
    "option_log_likelihoods": ("a list of numbers", _is_list_of(_is(int, float))),
    "option_token_counts": ("a list of whole numbers of 0 or more", _is_list_of(_is_count)),
    "output": _TEXT,
    "futures": (
        f"a list of at most {MAX_EVENTS} objects with 'event', a text with a word, "
        "'log_likelihood', a finite number of at most 0, 'probability', from 0 to 1 and at most 1 "
        "together, and optionally 'justification', a text, and 'seconds', null or 0 or more",
        _is_distribution(
            {"event", "log_likelihood", "probability"},
            {
                "event": _has_word,
                "log_likelihood": lambda value: _is_finite(value) and value <= _ROUNDING,
                "probability": _is_share,
                "justification": _is(str),
                "seconds": _is_delay,
            },
        ),
    ),
    "parsed": (
        "null, the index of an option, a text or [start, end]",
        lambda value: value is None or _is(str)(value) or _is_count(value) or _is_span(value),
    ),
    "reference": (
        "null, the index of an option, a list of answers with a word in each, or a list of spans "
        "[start, end] in seconds",
        _is_reference,
    ),
    "reference_texts": _TEXTS,
    "reference_justifications": (
        "a list of pairs of texts, [event, justification]",
        _is_list_of(lambda value: _is_list_of(_is(str))(value) and len(value) == 2),
    ),
    "outcome_kind": _TEXT,
    "outcome_seconds": ("null, or a finite number of 0 or more", _is_delay),
    "true_futures": (
        f"a list of at most {MAX_EVENTS} objects with 'text', which has a word, 'probability', "
        "from 0 to 1 and at most 1 together, and optionally 'seconds', null or 0 or more",
        _is_distribution(
            {"text", "probability"},
            {"text": _has_word, "probability": _is_share, "seconds": _is_delay},
        ),
    ),
    "correct": ("true, false or null", lambda value: value is None or isinstance(value, bool)),
    "error": _TEXT,
    "num_prompt_tokens": _COUNT,
    "num_visual_tokens": _COUNT,
    "num_generated_tokens": _COUNT,
    "record": ("an object", lambda value: isinstance(value, dict)),
    "missing_capability": _TEXT,
    "batch_seconds_share": (
        "a finite number of 0 or more",
        lambda value: _is_finite(value) and value >= 0,
    ),
}
"""Field -> what is expected, in words, and the check of it."""
