"""The answer to a prompt for an explanation (section 3.3.1, figure 2) as data: steps and links.

A step is what an answer tells as one: a sentence, or an item of a list. A link is a cause with its
effect, as far as a step states them: "the ball hits the wall, so it stops".
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from vidreason.reasoning.plain_text import own_turn, without_markup


class Link(NamedTuple):
    """A cause and its effect, each a clause as it is told."""

    cause: str
    effect: str


class Step(NamedTuple):
    """One step of an explanation."""

    text: str
    """The whole step, one line, without the number of a list."""
    event: str
    """The clause that says what happens, without its causes and effects."""
    links: tuple[Link, ...]
    """Causes with their effects, as the step says; empty where it says nothing of it."""


def format_explanation(steps: tuple[Step, ...]) -> str:
    """Write steps as a numbered list, a line a step."""
    return "\n".join(f"{number}. {step.text}" for number, step in enumerate(steps, start=1))


def parse_explanation(text: str) -> tuple[Step, ...]:
    """Read the steps of a model's explanation. Deterministic; never raises; takes linear time.

    Thoughts and markup are left out; of more than 20,000 characters, the first are read. Lines and
    sentences are steps. Where lines have numbers or bullets ("1.", "2)", "Step 3:", "1.2", "- ",
    "b)"), only those count, with the lines that follow each without a blank one between: an
    introduction and a closing remark are no steps. Nor are headings, which end with a colon.

    The event of a step is its first clause. Words such as ", so", "therefore", "which makes" and
    ", causing" stand between a cause and its effect, "because" and "due to" between an effect and
    its cause. A step that begins with one of the former is an effect of the step before it; one
    that begins with one of the latter states its cause first ("Because it is hit, the ball moves"),
    or is itself the cause of the step before it ("This is because it is hit").
    """
    steps: list[Step] = []
    for line in _lines(without_markup(own_turn(text)[:_MAX_CHARS])):
        for sentence in _sentences(line):
            step = _step(sentence, steps[-1].event if steps else "")
            if step is not None:
                steps.append(step)
    return tuple(steps)


_MAX_CHARS = 20_000
"""A longer explanation is a loop."""
_MARK = re.compile(
    r"[-+\u2022\u2023\u2043\u25aa\u25cf\u25e6\u00b7\u2013\u2014] "
    r"|(?:(?:step|event) )?#?\(?\d{1,6}(?:\.\d{1,6}){0,9} ?"
    r"(?:[.):\]\u2013\u2014-]{1,3}|\u3001)(?: |$)"
    r"|(?:(?:step|event) )?\d{1,6}(?:\.\d{1,6}){1,9} (?!(?:s|secs?|seconds?|times)\b)"
    r"|(?:step|event) #?\d{1,6} "
    r"|\(?(?:[a-z]|[ivx]{1,5})\) ",
    re.IGNORECASE,
)
# Verbs of a cause: "which makes", ", making".
_MAKES = (
    r"(?:makes?|made|causes?|caused|leads? to|led to|results? in|resulted in|forces?|forced|"
    r"triggers?|triggered|lets?|means|meant)"
)
_MAKING = r"(?:making|causing|leading to|resulting in|forcing|triggering|letting|meaning)"
_THEREFORE = (
    r"(?:therefore|thus|hence|consequently|accordingly|as a (?:result|consequence)(?! of\b)"
    r"|because of (?:this|that)|for (?:this|that) reason|(?:which|that|this) is why)"
)
_BECAUSE = (
    r"(?:because(?: of)?(?! (?:of )?(?:this|that)\b)|due to|owing to|thanks to"
    r"|as a (?:result|consequence) of|since(?! then\b))"
)
# A semicolon before "so" parts no sentence.
_SENTENCE_END = re.compile(
    rf"(?:[.!?\u2026]|;(?! (?:and )?(?:so|{_THEREFORE})\b))[\"'\u201d\u2019)\]]{{0,3}} "
    r"|[\u3002\uff01\uff1f\uff1b]",
    re.IGNORECASE,
)
# Between two clauses of one sentence. White space is single here, so that nothing is read twice.
_CONNECTIVE = re.compile(
    rf"(?P<effect_first>,? \(?(?:just |only |mainly |partly )?{_BECAUSE}\b)"
    rf"|[,;:]? \(?(?:and )?{_THEREFORE}\b,?"
    r"|[,;] (?:and )?so(?! (?:far|long|much|many|little|few)\b)\b(?: that\b)?,?"
    r"| (?:and so|so that)\b,?"
    rf"|,? which(?: then| thus| also| in turn)? {_MAKES}\b"
    rf"|, (?:thereby |thus |so )?{_MAKING}\b"
    r"| (?:[-=]>|\u2192|\u21d2)",
    re.IGNORECASE,
)
_EFFECT_OF_BEFORE = re.compile(
    rf"(?:and )?(?:so(?: that)?\b|{_THEREFORE}\b|(?:this|that|which)(?: then| also| in turn)? "
    rf"{_MAKES}\b),?",
    re.IGNORECASE,
)
_CAUSE_FIRST = re.compile(rf"{_BECAUSE}\b(?P<cause>[^,]+), (?:so )?", re.IGNORECASE)
_CAUSE_OF_BEFORE = re.compile(
    rf"(?:(?:this|that|it) (?:is|was|happens|happened) {_BECAUSE}|because(?! of\b))\b",
    re.IGNORECASE,
)
_TIME_WORDS = re.compile(
    r"(?:then|first(?:ly)?|second(?:ly)?|third(?:ly)?|next|finally|lastly|afterwards|after that"
    r"|and|but)\b,? ",
    re.IGNORECASE,
)
_EDGES = " \t,;:.!?-\u2013\u2014\u2026\"'\u201c\u201d\u2018\u2019()[]\u3002\uff01\uff1f\uff1b"


def _lines(text: str) -> Iterator[str]:
    """The lines that tell steps, without marks of a list, white space made single."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    starts = [_after_marks(line) for line in lines]
    is_list, inside = any(starts), False
    for line, start in zip(lines, starts, strict=True):
        # An item goes on until a blank line.
        inside = not is_list or bool(start) or (inside and bool(line))
        if inside and not line.endswith((":", "\uff1a")):
            yield line[start:]


def _after_marks(line: str) -> int:
    """Offset of the text after all marks at the start of a line: "- 1. the ball"."""
    start = 0
    while (mark := _MARK.match(line, start)) is not None:
        start = mark.end()
    return start


def _sentences(line: str) -> Iterator[str]:
    start = 0
    for end in _SENTENCE_END.finditer(line):
        yield line[start : end.end()]
        start = end.end()
    yield line[start:]


def _step(sentence: str, before: str) -> Step | None:
    """The step that a sentence tells; None for one without a word.

    Args:
        sentence: With single spaces.
        before: The event of the step before; empty for the first one.
    """
    text = sentence.strip()
    said = text.strip(_EDGES)
    is_effect, cause_first = _EFFECT_OF_BEFORE.match(said), _CAUSE_FIRST.match(said)
    is_cause = None if cause_first else _CAUSE_OF_BEFORE.match(said)
    beginning = is_effect or cause_first or is_cause
    clauses, effect_first = _clauses(said[beginning.end() if beginning else 0 :])
    event = clauses[0]
    if not _has_word(event):
        return None
    links: list[Link] = []
    if is_effect is not None:
        links.append(Link(before, event))
    elif cause_first is not None:
        links.append(Link(_clause(cause_first["cause"]), event))
    elif is_cause is not None:
        links.append(Link(event, before))
    for index, turned in enumerate(effect_first):
        one, other = clauses[index : index + 2]
        links.append(Link(other, one) if turned else Link(one, other))
    return Step(text, event, tuple(filter(_is_whole, links)))


def _clauses(text: str) -> tuple[list[str], list[bool]]:
    """Clauses of a sentence, and for each after the first whether it is the cause of the other."""
    clauses, effect_first, start = [], [], 0
    for connective in _CONNECTIVE.finditer(text):
        clauses.append(_clause(text[start : connective.start()]))
        effect_first.append(connective["effect_first"] is not None)
        start = connective.end()
    return [*clauses, _clause(text[start:])], effect_first


def _clause(text: str) -> str:
    """A clause without punctuation at its ends and words of time before it."""
    clause, start = text.strip(_EDGES), 0
    while (word := _TIME_WORDS.match(clause, start)) is not None:
        start = word.end()
    return clause[start:]


def _has_word(text: str) -> bool:
    return any(sign.isalnum() for sign in text)


def _is_whole(link: Link) -> bool:
    return _has_word(link.cause) and _has_word(link.effect)
