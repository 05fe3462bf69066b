"""Prompts of the user (section 3.3.1), without chat markup."""

import string
from collections.abc import Mapping, Sequence

from vidreason.example import Turn, split_system

EVENT_REASONING_PROMPT = (
    "The provided visual information depicts a sequence of events. Analyze the causal "
    "relationships between these events and provide a step-by-step explanation for the final "
    "outcome."
)
"""Section 3.3.1, word for word."""

CAUSAL_EXPLANATION_PROMPT = (
    "Based on the visual evidence, provide a step-by-step causal explanation for the final outcome "
    "in this video."
)
"""Figure 2, word for word."""

FUTURE_PREDICTION_PROMPT = (
    "Based on the events observed in the video, predict the three most likely subsequent events. "
    "For each prediction, provide a brief justification and a confidence score from 0 to 1."
)
"""Section 3.3.1, word for word."""

FUTURE_FRAMES_PROMPT = (
    "These frames show what happens next in a video. Name up to three events in them, the first "
    "one first. For each event, provide a brief justification and a confidence score from 0 to 1."
)
"""Asks for a description of frames that were predicted (section 5.2, MCVD), in the form of
predictions; the paper gives no words."""

CAPTION_PROMPT = "Describe the video."
"""Stage 1's prompt; the paper gives none."""


def open_ended_prompt(question: str) -> str:
    """Ask for a short answer in words."""
    return f"{question.strip()} Answer briefly."


def multiple_choice_prompt(question: str, options: Sequence[str]) -> str:
    """Ask for one of the lettered ``options``; the expected answer is its text, not its letter.

    Options are told apart by their texts' likelihood in evaluation, and a text says more to learn
    from than a letter does.

    Raises:
        ValueError: There are fewer than two options, or more than there are letters.
    """
    if not 2 <= len(options) <= len(string.ascii_uppercase):
        raise ValueError(
            f"a multiple-choice question has 2 to {len(string.ascii_uppercase)} options, found "
            f"{len(options)} for {question!r}"
        )
    lettered = zip(string.ascii_uppercase, options, strict=False)
    lines = [f"({letter}) {option.strip()}" for letter, option in lettered]
    return "\n".join(
        [
            question.strip(),
            *lines,
            "Answer with the text of the right option.",
        ]
    )


def yes_no_prompt(question: str, choice: str) -> str:
    """Ask whether ``choice``, of several that may all be right, answers the question."""
    return f"{question.strip()}\nIs this right: {choice.strip()}? Answer yes or no."


def boxes_text(boxes: Mapping[str, Sequence[int]]) -> str:
    """Say where the objects are that a prompt names, one line that stands before it.

    Args:
        boxes: Name -> left, top, right, bottom, in percent of the picture's width and height.
    """
    listed = "; ".join(f"{name} {' '.join(map(str, box))}" for name, box in boxes.items())
    return f"Boxes (left, top, right, bottom in percent of the picture): {listed}"


def grounding_prompt(question: str) -> str:
    """Ask when in the video the answer can be seen; the answer is read back as two times."""
    return (
        f"When in the video can the answer to this question be seen: {question.strip()}\n"
        "Answer with the start and the end in seconds, as in: 3.5 to 9.0"
    )


def grounding_response(start_seconds: float, end_seconds: float) -> str:
    """The answer to :func:`grounding_prompt`."""
    return f"{start_seconds:.1f} to {end_seconds:.1f}"


def written_out(earlier_turns: Sequence[Turn], prompt: str) -> str:
    """Return a conversation as one text: for reports, and for systems that take one question.

    Args:
        earlier_turns: As in an example.
        prompt: The question to be answered now.
    """
    system, turns = split_system(earlier_turns)
    before = f"{system.strip()}\n\n" if system and system.strip() else ""
    if not turns:
        return before + prompt
    names = {"user": "Question", "assistant": "Answer"}
    lines = [f"{names[turn.role]}: {turn.text}\n" for turn in turns]
    return f"{before}Earlier about this video:\n{''.join(lines)}\n{prompt}"
