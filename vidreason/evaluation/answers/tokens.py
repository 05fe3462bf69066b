"""Tokens of an answer, and the words by which it commits to something or takes it back."""

import re
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import NamedTuple

from vidreason.reasoning.plain_text import unified

_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_TOKEN = re.compile(
    r"(?P<line>\n\s*)"
    r"|(?P<initials>(?:[^\W\d_]\.){2,})"  # N.A., U.S.: no letters of options
    r"|(?P<number>(?<!\w)[-+]?\d+(?:[.,:]\d+)*(?![^\W_]))"  # 12.5, 1:02, -3
    rf"|(?P<cjk>[{_CJK}]+)"
    rf"|(?P<word>[^\W_{_CJK}]+(?:['\u2019-][^\W_{_CJK}]+)*)"  # don't, two-legged
    r"|(?P<mark>[^\w\s]|_)"
)


class Kind(Enum):
    """Sorts of tokens."""

    LINE = "line"
    """The end of a line, with all blank lines after it."""
    WORD = "word"
    """A word of letters, with its apostrophes and hyphens; also a number."""
    CJK = "cjk"
    """A run of Chinese, Japanese or Korean signs, which have no blanks between words."""
    MARK = "mark"
    """One sign of punctuation, or another one."""


class Token(NamedTuple):
    """One token."""

    kind: Kind
    text: str
    """In lower case."""
    raw: str
    glued: bool
    """No white space stands before it."""

    @property
    def is_letter(self) -> bool:
        """A single letter of the Latin alphabet."""
        return len(self.raw) == 1 and self.raw.isascii() and self.raw.isalpha()


_WORDS = ("initials", "number")
"""Groups of ``_TOKEN`` that are words, too."""


def tokenise(text: str) -> list[Token]:
    """The tokens of a text, compatible characters unified."""
    return list(_tokens(unified(text).replace("\u2019", "'")))


def _tokens(text: str) -> Iterator[Token]:
    end = -1
    for match in _TOKEN.finditer(text):
        kind = Kind.WORD if match.lastgroup in _WORDS else Kind(match.lastgroup)
        yield Token(kind, match[0].casefold(), match[0], match.start() == end)
        end = match.end()


def words(tokens: Sequence[Token]) -> tuple[str, ...]:
    """The words alone, in lower case."""
    return tuple(token.text for token in tokens if token.kind in (Kind.WORD, Kind.CJK))


def _split(text: str) -> frozenset[str]:
    return frozenset(text.split())


OPENERS = frozenset("([{<\"'`\u201c\u2018\u00ab\u2039\u3010\u300c\u300e\u300a\u201e")
CLOSERS = frozenset(")]}>\"'`\u201d\u2019\u00bb\u203a\u3011\u300d\u300f\u300b\u201c")
SENTENCE_ENDS = frozenset(".!?;\u3002\uff61")
NO_PUNCTUATION = frozenset("+#%@$^~\\*_=&/<")
"""Signs after which a single letter is a grade, a language, a variable, and no option."""

HEADS = _split("answer ans option choice letter")  # codespell:ignore
"""Words that stand directly before a letter: "option B"."""
VERDICTS = _split("correct right best true accurate")
COMMITMENTS = _split(
    "choose chose chosen choosing pick picked picking select selected selecting opt opted guess "
    "guessing conclude concluded wait actually sorry correction mean meant think believe say vote "
    "go going stick settle so therefore thus hence but must probably maybe perhaps possibly "
    "likely definitely certainly clearly surely it's its that's final finally instead rather"
)
"""Words after which a letter is what somebody answers: "so B", "I choose B", "No wait, B"."""
ANNOUNCEMENTS = (
    HEADS
    | VERDICTS
    | _split(
        "it that this one solution response output prediction result verdict decision "
        "conclusion key "
        "final antwort loesung l\u00f6sung respuesta r\u00e9ponse risposta resposta "
        "\u043e\u0442\u0432\u0435\u0442 odpowied\u017a cevap jawaban svar antwoord"
    )
)
"""Words after which a letter is an answer if "is" or a colon stands between."""
POINTERS = _split("it that this one option choice")
"""Announcements that say something else at the end of a line, or before a text."""
TEXT_ANNOUNCEMENTS = ANNOUNCEMENTS - POINTERS | {"option", "choice"}
COPULAS = _split(
    "is are was be being would should must will = : \u2192 - \u2013 \u2014 > est es "
    "ist "  # codespell:ignore
    "\u00e8 \u00e9"
)
# Answer, choose: Chinese; answer: Japanese; answer: Korean.
CJK_ANNOUNCEMENTS = tuple(
    _split(
        "\u7b54\u6848 \u7b54\u6848\u662f \u7b54\u6848\u4e3a \u662f \u4e3a \u9009 \u9009\u62e9 "
        "\u9009\u9879 \u9078 \u9078\u64c7 \u6b63\u89e3\u306f \u7b54\u3048\u306f \u7b54\u3048 "
        "\ub2f5 \ub2f5\uc740 \uc815\ub2f5\uc740 \uc815\ub2f5"
    )
)
FILLERS = (
    COPULAS
    | HEADS
    | VERDICTS
    | _split(
        "the a an to that this of for with by on most likely more very my your our final "
        "given here "
        "follows following question above below multiple-choice multiple indeed simply "
        "just also then "
        "probably clearly obviously definitely possible given have has been can could "
        "may might shall "
        "la el le die das der il a o richtige correcta correcte juste corretta both either "
        "one it i ' \" ( [ { < \u201c \u2018 \u00ab ,"
    )
)
"""Words and signs between an announcement and what it announces."""
TAKEN_BACK = _split(
    "not never neither nor cannot can't couldn't isn't wasn't aren't doesn't don't didn't won't "
    "wouldn't shouldn't without except excluding exclude excluded eliminate eliminated eliminates "
    "eliminating rule ruled rules ruling unlikely incorrect wrong false unlike if whether unless "
    "suppose supposing assuming hardly doubt than reject rejected discard discarded"
)
"""Words before an option that is not the answer."""
CLAUSE_STARTS = _split(
    "but so therefore thus hence because since although though however while and which means as"
)
REFUTED = _split(
    "not isn't aren't wasn't doesn't don't didn't cannot can't couldn't won't wouldn't incorrect "
    "wrong false unlikely impossible eliminated excluded ruled irrelevant invalid inaccurate "
    "neither"
)
"""Words after an option that is not the answer."""
AUXILIARIES = _split(
    "is are was were can could would seems seem appears appear looks must should may might does do "
    "did has be been also both clearly definitely probably"
)
SINGULAR = _split("is isn't was wasn't does doesn't has hasn't seems appears looks")
"""Words that say something of one letter, and not of two that are named together."""
AFTER_A_LETTER = AUXILIARIES - _split("was were could would did do been be can may might must") | (
    REFUTED
    | _split(
        "because since as and or but which where who whose that they he she it this these those "
        "there his her their its the shows describes depicts represents explains matches fits "
        "contains says states has porque parce car weil denn"
    )
) - _split("neither")
"""Words that may follow a bare letter of an option, and never the article "a" or the word "I"."""
TELLING = AUXILIARIES | _split(
    "shows describes depicts represents explains matches fits contains says states has"
)
"""Words after a letter that tell something of its option."""
LIST_WORDS = _split(
    "or and then and/or either both maybe perhaps possibly also option options choice choices "
    "ou und oder y o e"  # codespell:ignore
)
"""Words between letters of which several are named together; signs stand there, too."""
YES = _split("yes yeah yep yup yea")
NO = _split("no nope nah")
ALL = _split("anything everything all any")
"""Words before "but" that make it an exception: "anything but B"."""
NO_IDIOMS = _split("idea clue doubt question way wait problem worries")
"""After "no", which then is no answer: "no doubt"."""
