"""Sentences of annotations: what can be one, in one form, and how several are joined to a story."""

import html
import re
import unicodedata
from collections.abc import Sequence

from data_modules.english_verbs import word_set
from data_modules.rows import is_nan_like

MAX_WORDS = 60
"""A longer text is no sentence about one event."""

_MARKUP = re.compile(r"</?[A-Za-z!][^<>]*>|<\|[^<>]*\|>|\[/?INST\]|</?s>", re.IGNORECASE)
_REPEATED = re.compile(r"\b(?P<word>[^\W\d_]+)(?:[ ]+(?P=word)\b(?!'))+", re.IGNORECASE)
_PRONOUNS = word_set(
    "i you he she it we they me him her us them this that these those there here someone somebody "
    "something everyone everybody everything one ones who what and or but so too also yes no not "
    "is are was were be am do does did has have had"
)
"""A sentence of these alone says nothing without the one before it."""
_LOWERED = word_set(
    "a an the his her their its this that these those he she it they we you one two three four "
    "five several some many both all another each someone somebody everyone people men women "
    "children man woman person there"
)
"""First words that are written small within a sentence; of others it is not known."""
_CONNECTED = re.compile(
    r"(?:first|firstly|then|next|finally|after|afterwards?|later|lastly|meanwhile|second|once|when"
    r"|while|before|as|eventually|suddenly|in|at|during|now)\b"
    r"|(?:\S+ ){1,4}(?:then|next|finally)\b",
    re.IGNORECASE,
)
_CONTINUATIONS = ("Then, ", "After that, ", "Next, ")
_OVERLAP_SECONDS = 0.5  # an overlap of up to this is taken for imprecise spans


def plain_sentence(text: str) -> tuple[str, str]:
    """The text as one sentence with a capital and a full stop, or the empty text and the cause.

    Character references are decoded, white space made single, repeated words said once. Left out
    are texts that are empty or ``nan``, have markup, control tokens or control characters, have
    less than two words or more than :data:`MAX_WORDS`, are questions, or have nothing but
    pronouns.
    """
    text = html.unescape(text)
    if _MARKUP.search(text):
        return "", "its text has markup"
    # Control, format, surrogate and private-use characters.
    if any(unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Co") for sign in _inner(text)):
        return "", "its text has control characters"
    text = " ".join(text.split())
    if is_nan_like(text) or not any(map(str.isalpha, text)):
        return "", "its text is empty"
    text = text.strip(" \"'`*_#>|-,;:")
    if text.endswith("?"):
        return "", "its text is a question"
    text = _REPEATED.sub(lambda match: match["word"], text).rstrip(" .!,;:-\u2026")
    words = re.findall(r"[^\W_]+", text.casefold())
    if len(words) < 2:
        return "", "its text is a single word"
    if len(words) > MAX_WORDS:
        return "", f"its text has more than {MAX_WORDS} words"
    if _PRONOUNS.issuperset(words):
        return "", "its text has nothing but pronouns"
    return f"{text[0].upper()}{text[1:]}.", ""


def story(sentences: Sequence[str], spans: Sequence[tuple[float, float]]) -> list[str]:
    """Sentences with the words that say their order: First, Then, Meanwhile, Finally.

    Args:
        sentences: In the order in which they begin, from :func:`plain_sentence`.
        spans: Start and end of each; of one that overlaps the one before, it is said to happen
            meanwhile. A sentence that says its order itself, or whose first word may be a name,
            stays as it is.
    """
    told = []
    for index, sentence in enumerate(sentences):
        connective = ""
        if len(sentences) > 1:
            begin, end = spans[max(index - 1, 0)]
            tolerance = min(_OVERLAP_SECONDS, (end - begin) / 2)
            overlaps = index > 0 and spans[index][0] < end - tolerance
            connective = _CONTINUATIONS[(index - 1) % len(_CONTINUATIONS)]
            if index == 0:
                connective = "First, "
            elif overlaps:
                connective = "Meanwhile, "
            elif index == len(sentences) - 1 and index > 1:
                connective = "Finally, "
        told.append(_connected(connective, sentence))
    return told


def _connected(connective: str, sentence: str) -> str:
    first = sentence.partition(" ")[0].casefold()
    if not connective or first not in _LOWERED or _CONNECTED.match(sentence):
        return sentence
    return f"{connective}{sentence[0].lower()}{sentence[1:]}"


def _inner(text: str) -> str:
    """The text without line ends and tabs, which are blanks."""
    return text.replace("\n", " ").replace("\r", " ").replace("\t", " ")
