"""Yes or no: the word that an answer begins with decides."""

from collections.abc import Sequence

from vidreason.evaluation.answers.reading import Reading
from vidreason.evaluation.answers.tokens import (
    ANNOUNCEMENTS,
    COMMITMENTS,
    COPULAS,
    FILLERS,
    HEADS,
    NO,
    NO_IDIOMS,
    VERDICTS,
    YES,
    Kind,
)

_LABELS = HEADS | VERDICTS | COPULAS | frozenset({"final", "the", "my", "short"})
_CORRECTIONS = frozenset({"wait", "actually", "sorry", "correction", "rather", "instead", "mean"})


def is_yes_no(options: Sequence[str]) -> bool:
    """Tell whether a question has the options yes and no."""
    return sorted(option.strip().casefold() for option in options) == ["no", "yes"]


def leading_yes_no(reading: Reading) -> frozenset[int] | None:
    """The option that an answer begins with, yes or no; None for another answer.

    "Yes, ... There is no indication" is yes. Both are named by "yes and no", and by nothing that
    only has the words of the other. A word after "wait" or "actually" takes the first one back.
    """
    # Skip marks, new lines and words that lead up to an answer, such as "the final answer is".
    index = 0
    while (token := reading.at(index)) is not None and (
        token.kind in (Kind.MARK, Kind.LINE) or token.text in _LABELS
    ):
        index += 1
    first = _choice(reading, index)
    if first is None:
        return None
    # The other word may follow at once, as in "yes and no".
    following = index + 1
    while (token := reading.at(following)) is not None and (
        (token.kind is Kind.MARK and token.raw not in ".!?;:") or token.text in ("or", "and")
    ):
        following += 1
    second = _choice(reading, following)
    ends = reading.is_mark(following + 1) or reading.ends_line(following + 1)
    if second is not None and second != first and ends:
        return frozenset({first, second})
    return frozenset({_corrected(reading, following, first)})


def named_yes_no(reading: Reading) -> frozenset[int]:
    """The options that an answer names elsewhere: "I think so, yes", "The answer to that is no"."""
    said: list[int] = []
    named: set[int] = set()
    for index in range(len(reading.tokens)):
        option = _choice(reading, index)
        if option is None or reading.is_taken_back(index, index + 1):
            continue
        if reading.is_announced(index, ANNOUNCEMENTS) and not reading.is_asked(index + 1):
            said.append(option)
        if reading.is_mark(index + 1) or reading.ends_line(index + 1):
            named.add(option)  # not "there is no indication"
    return frozenset(said[-1:] or named)


def _corrected(reading: Reading, start: int, first: int) -> int:
    choice = first
    for index in range(start, len(reading.tokens)):
        if reading.tokens[index].text in _CORRECTIONS:
            following = index + 1
            while (token := reading.at(following)) is not None and (
                token.text in FILLERS | COMMITMENTS or token.raw in ".!"
            ):
                following += 1
            later = _choice(reading, following)
            choice = choice if later is None else later
    return choice


def _choice(reading: Reading, start: int) -> int | None:
    """The option of the word here; None for another word."""
    token = reading.at(start)
    if token is None or token.text not in YES | NO:
        return None
    following = reading.at(start + 1)
    if token.text in NO and following is not None and following.text in NO_IDIOMS:  # "no doubt"
        return None
    wanted = "yes" if token.text in YES else "no"
    return [option.strip().casefold() for option in reading.options].index(wanted)
