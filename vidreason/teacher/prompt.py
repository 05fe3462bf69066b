"""The prompt for the teacher (section 4.1.2), and the form in which answers are asked for."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Literal

TEACHER_PROMPT = (
    "Observe the following video clip. First, provide a step-by-step causal explanation of the "
    "events. Second, predict what is most likely to happen immediately after the clip ends."
)
"""Section 4.1.2, word for word."""

PROMPT_VERSION = 1
"""To be raised whenever anything that a teacher is told changes but the configured prompt."""

AnswerForm = Literal["json", "text"]
"""``json``: the prompt, and an instruction to answer with an object of :data:`ANSWER_SCHEMA`;
``text``: the prompt alone, as the paper has it."""

_CLIP = (
    "The clip lasts {duration:.2f} seconds; you see {count} of its frames, shown at {times} "
    "seconds."
)
_INSTRUCTION = (
    "Say only what is visible in the frames: name no object, tool, person, place or intention that "
    "they do not show.\n"
    "Answer with one JSON object and nothing else, in this form:\n"
    '{"steps": [{"text": "...", "start_seconds": 0.0, "end_seconds": 1.5}], '
    '"predictions": [{"event": "...", "justification": "...", "confidence": 0.8}]}\n'
    "steps: the causal explanation, in order; each text is a sentence that says what happens and "
    "why, with the seconds from the start of the clip at which it begins and ends, or null where "
    "the frames do not tell.\n"
    "predictions: at most three different events, the most likely first; the justification says "
    "which visible fact speaks for the event, and confidence is a number from 0 to 1."
)


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an object, in the subset that strict modes take."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_TEXT = {"type": "string"}
# Null and not left out: strict modes want every property.
_SECONDS = {"type": ["number", "null"]}
ANSWER_SCHEMA: dict[str, Any] = _object(
    steps={
        "type": "array",
        "items": _object(text=_TEXT, start_seconds=_SECONDS, end_seconds=_SECONDS),
    },
    predictions={
        "type": "array",
        "items": _object(event=_TEXT, justification=_TEXT, confidence={"type": "number"}),
    },
)
"""The answer as a JSON schema, for endpoints that honour one. Bounds of numbers and lists are said
in words: not all strict modes take them."""


def response_format(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return the field of a request that asks for an answer of a schema."""
    return {
        "type": "json_schema",
        "json_schema": {"name": name, "strict": True, "schema": schema},
    }


ANSWER_FORMAT = response_format("causal_explanation", ANSWER_SCHEMA)
"""Value of ``response_format`` for endpoints that honour one."""


def full_prompt(
    prompt: str, form: AnswerForm, seconds: Sequence[float], duration_seconds: float
) -> str:
    """Return all that a teacher is told about a clip, the task first and as it is.

    Args:
        prompt: The task.
        form: How it shall answer.
        seconds: When each frame is shown, from the start of the clip.
        duration_seconds: Length of the clip.
    """
    if form == "text":
        return prompt
    times = ", ".join(f"{one:.2f}" for one in seconds)
    clip = _CLIP.format(duration=duration_seconds, count=len(seconds), times=times)
    return f"{prompt}\n\n{clip} {_INSTRUCTION}"


def answer_form_text(form: AnswerForm, with_schema: bool) -> str:
    """Return the part of the instruction that is the same for all clips, for :func:`prompt_hash`.

    Args:
        form: How a teacher shall answer.
        with_schema: Whether the schema is sent as a field as well.
    """
    if form == "text":
        return ""
    schema = json.dumps(ANSWER_FORMAT, sort_keys=True) if with_schema else ""
    return "\n".join([_CLIP, _INSTRUCTION, schema])


def prompt_hash(prompt: str, answer_form: str) -> str:
    """Return the SHA-256 of all that a teacher is told beside the pictures.

    Args:
        prompt: The task.
        answer_form: The instruction how to answer, and the schema where one is sent.
    """
    content = f"{PROMPT_VERSION}\0{prompt}\0{answer_form}"
    return hashlib.sha256(content.encode()).hexdigest()
