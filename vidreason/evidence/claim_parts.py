"""A claim in parts: what it says as one, or two events in an order, or an effect with its cause."""

import re
from typing import Literal, NamedTuple

from vidreason.reasoning.explanations import parse_explanation

_MAX_CHARS = 2_000
"""A longer claim is no single one."""
_MIN_WORDS = 3  # of a clause: "before the wall" and "after 2 seconds" are no events
# "A before B", "B after A"
_ORDER = re.compile(r"(?P<one>.+?),? (?P<word>before|after) (?P<other>.+)", re.IGNORECASE)
_ONE = re.compile(r"\b(?:it|he|she|him|her)\b", re.IGNORECASE)
_SEVERAL = re.compile(r"\b(?:they|them)\b", re.IGNORECASE)
_DETERMINER = re.compile(
    r"(?:the|an?|this|that|these|those|his|her|its|their|one|two|three|some|another) ",
    re.IGNORECASE,
)
_AUXILIARY = re.compile(r"is|are|was|were|has|have|had|will|can|does|do|did", re.IGNORECASE)
_VERB = re.compile(r".{2,}(?:s|ed)", re.IGNORECASE)
_LONGEST_SUBJECT = 6  # words


class ClaimParts(NamedTuple):
    """The reading of a claim."""

    kind: Literal["event", "order", "cause"]
    text: str
    """The whole claim, without a full stop."""
    clauses: tuple[str, ...]
    """Parts of the claim. Of an order, the event that is said to come first and the one after it;
    of a cause, the cause and the effect; of an event, the claim."""


def claim_parts(text: str) -> ClaimParts:
    """Read a claim. Deterministic; takes linear time; a claim of no known form is an event.

    "A before B" and "B after A" are orders. "E because C", "E due to C" are causes, as
    :func:`~vidreason.reasoning.explanations.parse_explanation` reads them; "C, so E" is an event
    with what follows from it, as reasoners tell it. Pronouns of a cause stand for what its effect
    begins with: "the ball stops because the wall blocks it" has the cause "the wall blocks the
    ball".

    Raises:
        ValueError: The claim is empty.
    """
    # Half of a surrogate pair, which JSON can hold, is no text to a tokenizer.
    whole = text[:_MAX_CHARS].encode("utf-8", "replace").decode()
    said = " ".join(whole.split()).rstrip(". ")
    if not said:
        raise ValueError("a claim is empty; leave it out")
    order = _ORDER.fullmatch(said)
    if order is not None and min(_num_words(order["one"]), _num_words(order["other"])) >= (
        _MIN_WORDS
    ):
        clauses = (order["one"], order["other"])
        if order["word"].casefold() == "after":
            clauses = clauses[::-1]
        return ClaimParts("order", said, clauses)
    steps = parse_explanation(said)
    if len(steps) == 1 and len(steps[0].links) == 1:
        cause, effect = steps[0].links[0]
        if steps[0].event == effect:
            return ClaimParts("cause", said, (_resolved(cause, effect), effect))
    return ClaimParts("event", said, (said,))


def _num_words(text: str) -> int:
    words = text.split()
    return 0 if not words or words[0][0].isdigit() else len(words)


def _resolved(cause: str, effect: str) -> str:
    """Return a cause without its first pronoun, if what it stands for can be told."""
    subject = _subject(effect)
    if not subject:
        return cause
    pronoun = _SEVERAL if subject.endswith("s") else _ONE
    # A function: a subject with a backslash is no template.
    return pronoun.sub(lambda match: subject, cause, count=1)


def _subject(clause: str) -> str:
    """Return the words before the verb of a clause that begins with a determiner; or nothing."""
    words = clause.split()[: _LONGEST_SUBJECT + 1]
    if _DETERMINER.match(clause) is None:
        return ""
    # "the nuts are tight": a noun may look like a verb where there is another one.
    for verb in (_AUXILIARY, _VERB):
        for index, word in enumerate(words[2:], start=2):
            if verb.fullmatch(word):
                return " ".join(words[:index])
    return ""
