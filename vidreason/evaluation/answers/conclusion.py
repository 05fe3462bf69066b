"""The part of an output that is meant as the answer, without thoughts and markup."""

import itertools
import re

from vidreason.reasoning.plain_text import own_turn, without_markup

_TAG = re.compile(
    r"<(?P<slash>/?)[ \t]{0,4}(?:final_?answer|answer|final|solution)[ \t]{0,4}>"
    r"|<\|(?:begin|(?P<end>end))_of_solution\|>",
    re.IGNORECASE,
)
_BOX = re.compile(r"\\(?:boxed|fbox|framebox)\s{0,3}\{|(?<!\\)[{}]|\n")
_KEY = re.compile(
    r"(?P<quote>[\"'])(?:final[ _]?answer|correct[ _]?(?:answer|option)|selected[ _]?option|answer|"
    r"choice|option|prediction|response|result|letter|label)(?P=quote)\s{0,9}:\s{0,9}"
    r"(?:\"(?P<double>(?:[^\"\\\n]|\\.){0,2000})\"|'(?P<single>(?:[^'\\\n]|\\.){0,2000})'"
    r"|\[(?P<many>[^\[\]]{0,2000})\]|(?P<bare>[^\s\"',{}\[\]]{1,200}))",
    re.IGNORECASE,
)

# "Q: why\nA: because": no letter of an option.
_QUESTION = re.compile(r"^[ \t]*(?:Q|Question)[ \t]*:", re.MULTILINE)
_ANSWER_OF_PAIR = re.compile(r"^[ \t]*A[ \t]*:", re.MULTILINE)
_MAX_CHARS = 10_000
"""Read at either end of an answer: a longer one is a loop, with its answer before or after it."""
_VALUES = ("double", "single", "many", "bare")


def conclusion(text: str) -> str:
    r"""The part of an output that is meant as the answer, as far as its form says so.

    The last that is not empty of: the content of ``<answer>`` tags, of LaTeX's ``\boxed``, of the
    key "answer" of a JSON object. Without one, the whole turn. Thoughts and markup are left out.
    Of more than 20,000 characters, the first and last 10,000 are read.
    """
    text = own_turn(text)
    spans = sorted([*_tagged(text), *_boxed(text), *_keyed(text)], key=lambda span: span[1])
    # The last first: the slices of nested ones are never all taken.
    contents = (inside for start, end in reversed(spans) if (inside := text[start:end]).strip())
    content = next(contents, None)
    said = without_markup(_ends(_TAG.sub(" ", text) if content is None else content)).strip()
    return _first_of_pairs(said)


def _first_of_pairs(text: str) -> str:
    """The answer to the first question where a model goes on with questions of its own."""
    questions = list(itertools.islice(_QUESTION.finditer(text), 2))
    if not questions:
        return text
    first = questions[0]
    # What stands before the model's own first question is the answer.
    if text[: first.start()].strip():
        return text[: first.start()].strip()
    end = questions[1].start() if len(questions) > 1 else len(text)
    return _ANSWER_OF_PAIR.sub("", text[first.end() : end]).strip()


def _ends(text: str) -> str:
    """The text without the middle of one that is too long; no word is cut."""
    if len(text) <= 2 * _MAX_CHARS:
        return text
    head, tail = text[:_MAX_CHARS].rsplit(maxsplit=1), text[-_MAX_CHARS:].split(maxsplit=1)
    return f"{head[0] if len(head) > 1 else ''}\n{tail[-1] if len(tail) > 1 else ''}"


def _tagged(text: str) -> list[tuple[int, int]]:
    """Start and end of each tagged content; the last one may be unclosed."""
    spans: list[tuple[int, int]] = []
    start: int | None = None
    for tag in _TAG.finditer(text):
        if not any(tag.group("slash", "end")):
            start = tag.end()
        elif start is not None:
            spans.append((start, tag.start()))
            start = None
    return spans if start is None else [*spans, (start, len(text))]


def _boxed(text: str) -> list[tuple[int, int]]:
    r"""The same of ``\boxed{...}``; one that is never closed ends with its line."""
    spans: list[tuple[int, int]] = []
    open_braces: list[tuple[bool, int]] = []  # whether of a box, and where its content begins
    for sign in _BOX.finditer(text):
        match sign[0]:
            case "}":
                if open_braces:
                    is_box, start = open_braces.pop()
                    spans += [(start, sign.start())] if is_box else []
            case "\n":
                spans += [(start, sign.start()) for is_box, start in open_braces[-1:] if is_box]
                open_braces.clear()
            case "{":
                open_braces.append((False, sign.end()))
            case _:
                open_braces.append((True, sign.end()))
    return [*spans, *((start, len(text)) for is_box, start in open_braces[-1:] if is_box)]


def _keyed(text: str) -> list[tuple[int, int]]:
    """The same of the values of the key "answer" and the like."""
    return [
        match.span(next(name for name in _VALUES if match[name] is not None))
        for match in _KEY.finditer(text)
    ]
