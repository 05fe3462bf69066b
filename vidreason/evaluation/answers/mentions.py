"""Mentions of options in an answer, by letter or by text, and how surely each is meant."""

from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from vidreason.evaluation.answers.reading import NOWHERE, Reading
from vidreason.evaluation.answers.tokens import (
    ANNOUNCEMENTS,
    HEADS,
    LIST_WORDS,
    OPENERS,
    SENTENCE_ENDS,
    SINGULAR,
    TELLING,
    TEXT_ANNOUNCEMENTS,
    Kind,
)


class Strength(IntEnum):
    """Certainty that a mention is meant as the answer."""

    LISTED = 0
    """In the form of a list of options: "A. a dog B. a cat"."""
    CASUAL = 1
    """In brackets or after "option", somewhere in the text."""
    ALONE = 2
    """At the start of a line, or alone in a clause."""
    SAID = 3
    """Said to be the answer: "the answer is B", "B is correct", "No wait, B"."""


class Mention(NamedTuple):
    """Options that are named together."""

    start: int
    """First token."""
    end: int
    """After the last token."""
    choices: frozenset[int]
    strength: Strength
    style: str
    """The signs around a single letter; empty for texts and several letters."""


def letter_mentions(reading: Reading) -> Iterator[Mention]:
    """Options that are named by letter, in order, without those that are taken back."""
    at = 0
    while at < len(reading.tokens):
        if not reading.letters[at]:
            at += 1
            continue
        start, end, choices = at, at + 1, {reading.index(reading.tokens[at])}
        end = reading.after_own_text(end, choices)
        # "A, B and D": letters that are listed are one mention.
        while (following := _listed_letter(reading, end, is_bare=end == at + 1)) is not None:
            if reading.ends_clause(end) and reading.is_taken_back(start, end):
                break  # "not A. B"
            named = {reading.index(reading.tokens[following])}
            choices |= named
            at = following
            end = reading.after_own_text(following + 1, named)
        at = end
        if not reading.is_taken_back(start, end):
            strength = _strength(reading, start, end, choices)
            if strength is not None:
                style = _style(reading, start) if len(choices) == 1 else ""
                yield Mention(start, end, frozenset(choices), strength, style)


def text_mentions(reading: Reading) -> list[Mention]:
    """Options that are named by their texts, in order, without those that are taken back.

    Of options with one text, the first is named. An option that is part of another named one is
    not named itself: "two dogs" does not name "two".
    """
    # Options by their first word: a long answer is read once.
    by_first: dict[str, list[int]] = {}
    first_of: dict[tuple[str, ...], int] = {}
    for number, words in enumerate(reading.option_words):
        if words and words not in first_of:
            first_of[words] = number
            by_first.setdefault(words[0], []).append(number)
    # Signs between words do not matter, so words are counted alone.
    word_indices = [
        n for n, token in enumerate(reading.tokens) if token.kind in (Kind.WORD, Kind.CJK)
    ]
    matches: list[tuple[int, int, int]] = []
    for number, index in enumerate(word_indices):
        for option in by_first.get(reading.tokens[index].text, ()):
            words = reading.option_words[option]
            matched = word_indices[number : number + len(words)]
            if tuple(reading.tokens[one].text for one in matched) == words:
                matches.append((matched[0], matched[-1] + 1, option))
    named = {reading.option_words[option] for _, _, option in matches}
    # Named options that are part of other named ones.
    inner = {words for words in named if any(_is_part(words, other) for other in named)}
    mentions: list[Mention] = []
    reached = 0
    for start, end, option in sorted(matches, key=lambda one: (one[0], -one[1])):
        if end <= reached or reading.is_taken_back(start, end):
            continue
        # The longest match at a place wins; it covers those inside.
        reached = end
        said = reading.is_announced(start, TEXT_ANNOUNCEMENTS) and not reading.is_asked(end)
        if reading.option_words[option] in inner and not said:
            continue
        alone = reading.starts_line(start) and (reading.is_mark(end) or reading.ends_line(end))
        alone = alone or reading.is_clause(start, end)
        strength = Strength.SAID if said else Strength.ALONE if alone else Strength.CASUAL
        own_choice = frozenset({option})
        # "a dog and a cat" names both.
        if mentions and reading.is_joined(mentions[-1].end, start):
            last = mentions.pop()
            own_choice, start = own_choice | last.choices, last.start
            strength = max(strength, last.strength)
        mentions.append(Mention(start, end, own_choice, strength, ""))
    return mentions


def _listed_letter(reading: Reading, end: int, *, is_bare: bool) -> int | None:
    """The next letter, if only signs and words such as "or" stand between.

    In the next sentence or line, it belongs to the ones before only if all are bare letters.
    """
    index, new_sentence, has_words = end, False, False
    while (token := reading.at(index)) is not None:
        if reading.letters[index]:
            following = reading.at(index + 1)
            bare = is_bare and not has_words and _stands_alone(reading, index)
            if new_sentence and not bare:
                return None
            if has_words and following is not None and following.text in SINGULAR:
                return None  # "A, and B is wrong"
            return index
        if token.kind is Kind.LINE or token.raw in SENTENCE_ENDS:
            new_sentence = True
        elif token.text in LIST_WORDS:
            has_words = True
        elif token.kind is not Kind.MARK:
            return None
        index += 1
    return None


def _stands_alone(reading: Reading, index: int) -> bool:
    """Tell whether nothing but signs comes between a letter and the next one, or the line's end."""
    index += 1
    while reading.is_mark(index):
        index += 1
    return reading.ends_line(index) or reading.letters[index]


def _strength(reading: Reading, start: int, end: int, choices: set[int]) -> Strength | None:
    token = reading.tokens[start]
    inside = reading.bracketed(start, start + 1)
    # Said outright: announced ("the answer is A"), committed to, or affirmed afterwards ("A is
    # correct").
    said = (
        reading.is_announced(start, ANNOUNCEMENTS)
        or reading.is_committed(start)
        or reading.is_affirmed(end)
    )
    if said and not reading.is_asked(end):
        return Strength.SAID
    # A letter as such: a capital, in brackets, or closed by a mark as items of lists are. "a" and
    # "I" may be words.
    clear = token.raw.isupper() or inside or _closes(reading, start)
    is_ours = choices != {NOWHERE}
    # "Option A is a person" tells of it; "A because" and "A is right" answer.
    following = reading.at(start + 1)
    tells = following is not None and following.text in TELLING
    named = clear and (is_ours or (token.raw.isupper() and token.raw != "I"))
    if named and (reading.starts_line(start) or reading.is_clause(start, end)):
        return Strength.CASUAL if tells else Strength.ALONE
    if not is_ours:
        return None
    before = reading.at(reading.skip(start - 1, -1, OPENERS))
    if (inside and clear) or (before is not None and before.text in HEADS):
        return Strength.CASUAL
    if reading.is_mark(start + 1, frozenset(")")):
        return Strength.CASUAL
    return Strength.LISTED if reading.is_mark(start + 1, frozenset(".:")) else None


def _closes(reading: Reading, index: int) -> bool:
    """Tell whether a small letter ends as those of lists do: "b)", "b.", or with its line."""
    return reading.is_mark(index + 1, frozenset(").:")) or reading.ends_line(index + 1)


def _style(reading: Reading, start: int) -> str:
    signs = [reading.at(start - 1), reading.at(start + 1)]
    return " ".join(
        "" if sign is None or sign.kind is not Kind.MARK else sign.raw for sign in signs
    )


def _is_part(part: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Tell whether some words are a part of others."""
    return len(part) < len(other) and any(
        other[start : start + len(part)] == part for start in range(len(other) - len(part) + 1)
    )
