"""From generated text to an answer: which option or span is meant, and when short answers agree.

A text that names no option is invalid: it counts as wrong, stays in the denominator and is
reported. Nothing is ever guessed at random.
"""

import re
import unicodedata
from collections.abc import Sequence

PARSER_VERSION = 1
"""To be raised with any change after which some text has another answer: numbers of before and
after are then not comparable."""

_THOUGHTS = re.compile(r"<think>.*?</think>", re.DOTALL | re.IGNORECASE)
_TAGGED = re.compile(r"<answer>(.*?)(?:</answer>|$)", re.DOTALL | re.IGNORECASE)
_FINAL = re.compile(r"final answer\s*(?:is)?\s*:?\s*(.*)", re.DOTALL | re.IGNORECASE)

_TIME = r"\d{1,6}(?::\d\d){0,2}(?:\.\d{1,9})?"
_SPAN = re.compile(
    rf"(?<![\d.:])(?P<start>{_TIME})\s{{0,3}}(?:s|sec|seconds)?\s{{0,3}}"
    r"(?:to|till|until|and|through|[-\u2013\u2014,])"
    rf"\s{{0,3}}(?P<end>{_TIME})(?![\d:])",
    re.IGNORECASE,
)


def parse_choice(text: str, options: Sequence[str]) -> int | None:
    """Index of the option that ``text`` names, or None when it names none or more than one.

    Thoughts in ``<think>`` are left out; the content of ``<answer>``, or what follows "final
    answer", is preferred. Then, in this order: a capital letter at the start ("B", "(B)", "B. the
    text"); "answer is B", "option: B"; the text of exactly one option. A capital "A" or "I"
    followed by a space is a word and no letter, unless it is in brackets.

    Args:
        text: What was generated.
        options: The options' texts, in the order of their letters; at most 26.
    """
    text = _conclusion(text)
    if not options or len(options) > 26:
        raise ValueError(f"expected 1 to 26 options, found {len(options)}")
    letters = "".join(chr(ord("A") + index) for index in range(len(options)))
    for pattern in _letter_patterns(letters):
        found = {match.group("letter") for match in re.finditer(pattern, text)}
        if found:
            return letters.index(found.pop()) if len(found) == 1 else None
    return _named_by_text(text, options)


def normalise_answer(text: str) -> str:
    """A short open-ended answer in the form in which it is compared.

    Compatibility characters are unified, case and surrounding punctuation dropped, white space made
    single. Articles and inner punctuation stay, so that answers in the benchmarks' own files
    compare as the official scripts compare them: by exact match.
    """
    text = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(text.split()).strip(" \t.,;:!?\"'`()[]")


def short_answer(text: str) -> str:
    """The normalised first line of a generated answer, without thoughts and ``<answer>`` tags."""
    lines = [line for line in _conclusion(text).splitlines() if line.strip()]
    return normalise_answer(lines[0]) if lines else ""


def parse_span(text: str) -> tuple[float, float] | None:
    """The span of time that ``text`` names, in seconds, or None when it names none.

    Read are "3.5 to 9", "from 3.5s to 9s", "3.5 - 9 seconds", "[3.5, 9]" and clock times ("0:03 -
    0:09"); the first such pair counts, the earlier of its two times is the start.
    """
    match = _SPAN.search(_conclusion(text))
    if match is None:
        return None
    start, end = sorted(_seconds(match[name]) for name in ("start", "end"))
    return start, end


def _seconds(time: str) -> float:
    """Seconds of ``12.5`` or ``1:02:03``."""
    seconds = 0.0
    for part in time.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds


def _conclusion(text: str) -> str:
    text = _THOUGHTS.sub(" ", text)
    for pattern in (_TAGGED, _FINAL):
        matches = pattern.findall(text)
        if matches and matches[-1].strip():
            text = matches[-1]
    return text.strip()


def _letter_patterns(letters: str) -> tuple[str, str, str]:
    """Where a letter is taken for an option, the clearest place first."""
    # "A person runs" and "I see" start with a word; the other letters never stand alone in English.
    plain = "".join(letter for letter in letters if letter not in "AI")
    words = "".join(letter for letter in letters if letter in "AI")
    after_plain = rf"[{plain}](?=[.):,\s]|$)" if plain else r"(?!)"
    after_word = rf"[{words}](?=[.):,]|\s*$)" if words else r"(?!)"
    letter = rf"(?P<letter>{after_plain}|{after_word})"
    return (
        rf"\A\W*{letter}",
        rf"\b[Aa]nswer\s*(?:is|:)*\s*\W{{0,2}}{letter}",
        rf"\b(?:[Oo]ption|[Cc]hoice)\s*(?:is|:)*\s*\W{{0,2}}{letter}",
    )


def _named_by_text(text: str, options: Sequence[str]) -> int | None:
    wanted = normalise_answer(text)
    normalised = [normalise_answer(option) for option in options]
    exact = [index for index, option in enumerate(normalised) if option == wanted]
    if exact:
        return exact[0] if len(exact) == 1 else None
    contained = [
        index
        for index, option in enumerate(normalised)
        if option and re.search(rf"(?<!\w){re.escape(option)}(?!\w)", wanted)
    ]
    # "two dogs" contains "two": an option inside another named option is not named itself.
    longest = [
        index
        for index in contained
        if not any(normalised[index] in normalised[other] for other in contained if other != index)
    ]
    return longest[0] if len(longest) == 1 else None
