"""An answer beside its options: which letters are of options, and what is said around them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from vidreason.evaluation.answers.tokens import (
    AFTER_A_LETTER,
    ALL,
    AUXILIARIES,
    CJK_ANNOUNCEMENTS,
    CLAUSE_STARTS,
    CLOSERS,
    COMMITMENTS,
    COPULAS,
    FILLERS,
    HEADS,
    LIST_WORDS,
    NO_PUNCTUATION,
    OPENERS,
    POINTERS,
    REFUTED,
    SENTENCE_ENDS,
    TAKEN_BACK,
    VERDICTS,
    Kind,
    Token,
    tokenise,
    words,
)

_REACH = 14  # tokens looked at on either side: no clause with an answer is longer
NOWHERE = -1
"""The index of a letter beyond the options."""


@dataclass(frozen=True)
class Reading:
    """An answer beside the options of its question."""

    text: str
    options: Sequence[str]
    tokens: list[Token] = field(init=False)
    option_words: tuple[tuple[str, ...], ...] = field(init=False)

    def __post_init__(self) -> None:
        """Cut into tokens."""
        object.__setattr__(self, "tokens", tokenise(self.text))
        option_words = tuple(words(tokenise(option)) for option in self.options)
        object.__setattr__(self, "option_words", option_words)

    # Tokens

    def at(self, index: int) -> Token | None:
        """A token; None beyond the ends."""
        return self.tokens[index] if 0 <= index < len(self.tokens) else None

    def ends_line(self, index: int) -> bool:
        """Tell whether a line or the text ends here."""
        token = self.at(index)
        return token is None or token.kind is Kind.LINE

    def is_mark(self, index: int, marks: frozenset[str] | None = None) -> bool:
        """Tell whether a sign, or one of ``marks``, is here."""
        token = self.at(index)
        return (
            token is not None and token.kind is Kind.MARK and (marks is None or token.raw in marks)
        )

    def skip(self, index: int, step: int, marks: frozenset[str]) -> int:
        """The first place from here on, forwards or backwards, that is none of some signs."""
        while self.is_mark(index, marks):
            index += step
        return index

    # Letters

    @cached_property
    def letters(self) -> list[bool]:
        """True for each token that is the letter of an option, and not the article or "I"."""
        # Backwards: a letter may count because the next one does.
        flags = [False] * len(self.tokens)
        for index in reversed(range(len(self.tokens))):
            token = self.tokens[index]
            flags[index] = token.is_letter and self._is_option_letter(index, token, flags)
        return flags

    def index(self, letter: Token) -> int:
        """The option of a letter; ``NOWHERE`` beyond the options."""
        number = ord(letter.raw.upper()) - ord("A")
        return number if number < len(self.options) else NOWHERE

    def _is_option_letter(self, start: int, token: Token, later: Sequence[bool]) -> bool:
        before, following = self.at(start - 1), self.at(start + 1)
        # "#B", "x_a": inside of something longer.
        inside = before is not None and token.glued and before.kind is Kind.MARK
        if inside and before is not None and before.raw in NO_PUNCTUATION - {"=", "&", "/", "<"}:
            return False
        if following is None or following.kind is Kind.LINE:
            return True
        if following.kind is Kind.MARK:
            glued_sign = following.glued and following.raw in NO_PUNCTUATION - {"&", "/"}
            return not glued_sign
        # A word follows: most such letters are the article, a name or an initial.
        if not token.raw.isupper():
            return False
        if following.kind is Kind.CJK or following.text in AFTER_A_LETTER:
            return True
        if self.is_affirmed(start + 1):  # "B would be the best answer"
            return True
        # "B C": both or neither.
        if following.is_letter:
            return later[start + 1]
        # The option's text after its letter, as in a list of options.
        wanted = self.option_words[number] if (number := self.index(token)) >= 0 else ()
        return bool(wanted) and self._words_from(start + 1, len(wanted)) == wanted

    def _words_from(self, index: int, number: int) -> tuple[str, ...]:
        """The next words, over signs but not over the end of a line."""
        following: list[str] = []
        while len(following) < number and not self.ends_line(index):
            token = self.tokens[index]
            if token.kind is not Kind.MARK:
                following.append(token.text)
            index += 1
        return tuple(following)

    def after_own_text(self, end: int, choices: set[int]) -> int:
        """After the option's text, where that follows its letter on the line."""
        (number,) = choices
        wanted = self.option_words[number] if number != NOWHERE else ()
        # Word by word, over signs; any other word ends it.
        index, left = end, list(wanted)
        while left and not self.ends_line(index):
            token = self.tokens[index]
            if token.kind is not Kind.MARK:
                if token.text != left.pop(0):
                    return end
                end_of_text = index + 1
            index += 1
        return end if left or not wanted else end_of_text

    def rest_of_line(self, start: int) -> tuple[str, ...]:
        """The words from here to the line's end."""
        index = start
        while not self.ends_line(index):
            index += 1
        return words(self.tokens[start:index])

    def is_joined(self, end: int, start: int) -> bool:
        """Tell whether only "or", "and" and signs within a sentence stand between."""
        between = self.tokens[end:start]
        return len(between) <= _REACH and all(
            token.text in LIST_WORDS or (token.kind is Kind.MARK and token.raw not in SENTENCE_ENDS)
            for token in between
        )

    def bracketed(self, start: int, end: int) -> bool:
        """Tell whether signs that belong together stand around tokens."""
        return self.is_mark(start - 1, OPENERS) and self.is_mark(end, CLOSERS)

    # What is around

    def is_taken_back(self, start: int, end: int) -> bool:
        """Tell whether the clause says that this is not the answer, or asks whether it is."""
        return self._refused_before(start) or self._refuted_after(end)

    def _refused_before(self, start: int) -> bool:
        for index in range(start - 1, max(start - 1 - _REACH, -1), -1):
            token = self.tokens[index]
            if token.kind is Kind.LINE or token.raw in SENTENCE_ENDS or token.raw == ",":
                return False
            if token.text in TAKEN_BACK:
                return True
            if token.text == "of":
                previous = self.at(index - 1)
                if previous is not None and previous.text == "instead":
                    return True
            if token.text in CLAUSE_STARTS:
                return False
        return False

    def _refuted_after(self, end: int) -> bool:
        index = self.skip(end, 1, CLOSERS)
        first = self.skip(index, 1, frozenset(":-\u2013\u2014,("))
        direct, following = self.at(first), self.at(first + 1)
        if direct is not None and direct.text in REFUTED:
            # "B, not C" says B.
            return direct.text != "not" or following is None or not following.is_letter
        for further in range(index, index + _REACH):
            token = self.at(further)
            if token is None or token.text in REFUTED:
                return token is not None
            if token.text not in AUXILIARIES | {"the", "a", "be", "out"}:
                return False
        return False

    def is_asked(self, end: int) -> bool:
        """Tell whether a question mark follows."""
        return self.is_mark(self.skip(end, 1, CLOSERS), frozenset("?"))

    def is_announced(self, start: int, announcements: frozenset[str]) -> bool:
        """Tell whether what stands before says that the answer comes here.

        Args:
            start: The first token of what may be the answer.
            announcements: Words that announce it if "is", a colon or the like follows them.
        """
        # Backwards over fillers to a copula or colon, and on to what announces: "the answer is B".
        copula = False
        for index in range(start - 1, max(start - 1 - _REACH, -1), -1):
            token = self.tokens[index]
            if token.kind is Kind.CJK:
                return token.text.endswith(CJK_ANNOUNCEMENTS)
            if self.letters[index]:  # "option B is a dog" says nothing of another option
                return False
            if token.kind is Kind.LINE:
                if not copula and not self._is_heading(index, announcements):
                    return False
                copula = True
            elif token.text in COPULAS:
                copula = True
            elif copula and token.text in announcements:
                return True
            elif token.text not in FILLERS:
                return False
        return False

    def _is_heading(self, line: int, announcements: frozenset[str]) -> bool:
        """Tell whether the line before ends with a word such as "Answer"."""
        before = self.at(line - 1)
        return before is not None and before.text in announcements - POINTERS

    def is_committed(self, start: int) -> bool:
        """Tell whether a word such as "choose", "so" or "wait" stands before."""
        for index in range(start - 1, max(start - 1 - _REACH, -1), -1):
            token = self.tokens[index]
            if token.text in COMMITMENTS:
                before = self.at(index - 1)
                excepts = token.text == "but" and before is not None and before.text in ALL
                return not excepts
            if token.kind is Kind.LINE or token.text not in FILLERS:
                return False
        return False

    def is_affirmed(self, end: int) -> bool:
        """Tell whether what stands after says that this is the answer: "is correct"."""
        index = self.skip(end, 1, CLOSERS)
        first = self.skip(index, 1, frozenset(":-\u2013\u2014."))
        token = self.at(first)
        if token is None:
            return False
        # "B: correct."
        if first > index and token.text in VERDICTS:
            return self.is_mark(first + 1) or self.ends_line(first + 1)
        if token.text not in AUXILIARIES:
            return False
        if token.text == "is" and (self.is_mark(first + 1) or self.ends_line(first + 1)):
            return True  # "A is not right. B is."
        for index in range(first, first + _REACH):
            token = self.at(index)
            if token is None:
                return False
            # "B is the right answer", but not "B is the right side".
            if token.text in VERDICTS | {"answer"}:
                following = self.at(index + 1)
                return (
                    following is None
                    or following.kind is not Kind.WORD
                    or (following.text in HEADS | {"one", "because", "since", "as", "here"})
                )
            if token.text not in AUXILIARIES | {"the", "my", "most", "likely", "indeed"}:
                return False
        return False

    def ends_clause(self, end: int) -> bool:
        """Tell whether a sentence or line ends here."""
        index = self.skip(end, 1, CLOSERS)
        return self.ends_line(index) or self.is_mark(index, SENTENCE_ENDS)

    def starts_line(self, start: int) -> bool:
        """Tell whether no word but "option" or the number of a list stands before on the line."""
        index = start - 1
        while not self.ends_line(index):
            token = self.tokens[index]
            is_number = token.text.isdigit() and self.is_mark(index + 1, frozenset(".)"))
            if token.kind is not Kind.MARK and token.text not in HEADS and not is_number:
                return False
            index -= 1
        return True

    def is_clause(self, start: int, end: int) -> bool:
        """Tell whether this is all between a sign of punctuation and the end of a line."""
        index = self.skip(start - 1, -1, OPENERS)
        begins = self.ends_line(index) or self.is_mark(index, frozenset(".!?:;,-\u2013\u2014"))
        return begins and self.ends_line(self.skip(end, 1, CLOSERS | SENTENCE_ENDS))
