"""Options of multiple-choice questions, and which is right, in the forms that files have."""

import re
from collections.abc import Callable
from typing import Literal

from data_modules.rows import Row, is_nan_like

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

AnswerForm = Literal["index", "letter", "text"]
"""An option's number from 0, its letter, or its text."""

_ReadAnswer = Callable[[str, tuple[str, ...]], int | None]

NO_ANSWER = -1
"""Written by some as the index of an answer that is hidden."""

# (A) text, [A] text, A. text, A) text, A: text; Option 1: text, Sentence A: text. A number, or a
# colon, needs a blank after it: 1.5 and 1:30 have no label.
_LABEL = re.compile(
    r"(?:(?:option|sentence|caption|choice|answer)\s+)?"
    r"(?:\((?P<round>[a-z]|\d{1,2})\)|\[(?P<square>[a-z]|\d{1,2})\]"
    r"|(?P<bare>[a-z](?:[.)]|:(?=\s))|\d{1,2}[.):](?=\s)))\s*(?P<text>.*)",
    re.IGNORECASE | re.DOTALL,
)
_LETTER = re.compile(r"\W*(?P<letter>[A-Za-z])\W*")


def option_texts(row: Row, name: str) -> tuple[str, ...]:
    """The options in the list of a field, without blanks around them and without their labels.

    Labels (``A.``, ``(B)``, ``Option 3:``) are taken off where each option has its own, in order: a
    single option that begins like one is left as it is. Numbers are texts.

    Raises:
        MalformedRowError: It is no list of 2 to 26 texts, or one of them is empty.
    """
    value = row.get(name)
    options = [_text(item) for item in value] if isinstance(value, list | tuple) else []
    if not 2 <= len(options) <= len(LETTERS):
        raise row.malformed(
            f"field {name!r} must hold 2 to {len(LETTERS)} texts, found {value!r:.200}"
        )
    unlabelled = _without_labels(options)
    if not all(unlabelled):
        raise row.malformed(f"field {name!r}: an option is empty in {value!r:.200}")
    return tuple(unlabelled)


def right_option(row: Row, name: str, options: tuple[str, ...], form: AnswerForm) -> int | None:
    """The index of the right option, as a field names it; None where the row hides it.

    Of two options with the same text the first is meant as much as the second.

    Args:
        row: The row.
        name: The field's name.
        options: From :func:`option_texts`.
        form: How the benchmark writes answers. A text that differs from an option's in case, blanks
            or a full stop, a number written as a text, a letter, and a letter with its option's
            text are read in any case, where they can mean one option only.

    Raises:
        MalformedRowError: The answer names none of the options.
    """
    answer = row.get(name)
    text = _text(answer)
    # The form of the benchmark first, then the others, unless a number is meant.
    order: list[_ReadAnswer] = [_READERS[form]]
    if not text.isdigit():
        order += [_by_letter, _by_text, _by_label]
    for read in order:
        index = read(text, options)
        if index is not None:
            return index
    is_hidden = isinstance(answer, str) and is_nan_like(answer)
    if answer is None or is_hidden or (form == "index" and text == str(NO_ANSWER)):
        return None
    raise row.malformed(
        f"field {name!r} is {answer!r:.200}, which names none of the options {options!r:.200} by "
        f"its {form}{', which counts from 0' if form == 'index' else ''}"
    )


def _text(value: object) -> str:
    """A text without blanks around it; that of a number; empty for anything else."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    return f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value)


def _without_labels(options: list[str]) -> list[str]:
    matches = [_LABEL.fullmatch(option) for option in options]
    labels = "".join(_label(match) for match in matches if match is not None)
    numbers = "".join(map(str, range(1, len(options) + 1)))
    is_labelled = None not in matches and labels in (LETTERS[: len(options)], numbers)
    if not is_labelled:
        return options
    return [match["text"].strip() for match in matches if match is not None]


def _label(match: re.Match[str]) -> str:
    return (match["round"] or match["square"] or match["bare"][:-1]).upper()


def _by_index(text: str, options: tuple[str, ...]) -> int | None:
    if not re.fullmatch(r"\d{1,2}(\.0)?", text):
        return None
    index = int(text.partition(".")[0])
    return index if index < len(options) else None


def _by_letter(text: str, options: tuple[str, ...]) -> int | None:
    match = _LETTER.fullmatch(text)
    index = LETTERS.index(match["letter"].upper()) if match else len(options)
    return index if index < len(options) else None


def _by_text(text: str, options: tuple[str, ...]) -> int | None:
    if text in options:
        return options.index(text)
    plain = [_plain(option) for option in options]
    wanted = _plain(text)
    same = [index for index, option in enumerate(plain) if wanted and option == wanted]
    # Options that differ in case or a full stop only: nobody can tell which of them is meant.
    return same[0] if len({options[index] for index in same}) == 1 else None


def _by_label(text: str, options: tuple[str, ...]) -> int | None:
    """``B. what option B says``."""
    match = _LABEL.fullmatch(text)
    if match is None:
        return None
    label = _label(match)
    index = LETTERS.index(label) if label.isalpha() else int(label) - 1  # labels count from 1
    by_text = _by_text(match["text"].strip(), options)
    if by_text is None or not 0 <= index < len(options):
        return None
    return index if options[index] == options[by_text] else None


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold().rstrip(". ")


_READERS: dict[AnswerForm, _ReadAnswer]
_READERS = {"index": _by_index, "letter": _by_letter, "text": _by_text}
