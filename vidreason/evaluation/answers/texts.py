"""Short answers in the form in which they are compared."""

import re

from vidreason.evaluation.answers.conclusion import conclusion
from vidreason.reasoning.plain_text import normalise_answer

_LABEL = re.compile(
    r"^\W{0,8}(?:(?:so|thus|hence|therefore),?\s{1,4})?(?:(?:the|my)\s{1,4})?"
    r"(?:(?:final|correct|right|short|best)\s{1,4})?(?:answer|ans)"  # codespell:ignore
    r"(?:\s{0,4}[:=]|\s{1,4}is\b\s{0,4}:?|\s{0,4}-(?=\s))",
    re.IGNORECASE,
)


def short_answer(text: str) -> str:
    """The normalised first line of a generated answer that says something.

    Left out are thoughts, markup, and a label ("**Answer:** two dogs" is "two dogs").

    Returns:
        The answer; empty where the text has no word: no answer at all.
    """
    for line in conclusion(text).splitlines():
        answer = normalise_answer(without_label(line))
        if answer:
            return answer
    return ""


def without_label(line: str) -> str:
    """The line without "Answer:", "The final answer is" or the like before what it says."""
    return _LABEL.sub("", line, count=1)
