"""Words of a caption as the official caption scores see them, without Java.

The official scores (github salaniz/pycocoevalcap, 1.2) run Stanford's PTBTokenizer 3.4.1 with
``-preserveLines -lowerCase`` and then drop punctuation. This module does the same to plain English:
run beside that tool, it gave the same words for all 29,641 different questions and options of
NExT-QA's and ActivityNet-QA's validation files, and for 78% of 1,269 sentences of technical notes,
which are full of paths, versions and arrows.
"""

import re

# The official list also holds "-LRB-" and the like; because of -lowerCase, brackets come out as
# "-lrb-" and stay. That is how all published numbers were made.
_PUNCTUATION = frozenset({"''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"})
_ABBREVIATION = re.compile(
    r"al|mr|mrs|ms|dr|prof|sr|jr|st|ave|vs|etc|inc|ltd|co|corp|jan|feb|mar|apr|jun|jul|aug|"
    r"sep|sept|oct|nov|dec|approx|dept|est|fig|gen|gov|hon|lt|maj|messrs|mt|"
    r"rep|rev|sen|sgt|capt|col|cmdr"
)
_TYPOGRAPHY = str.maketrans(
    {
        "\u2019": "'",
        "\u2018": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u2026": "...",
        "\u2013": "--",
        "\u2014": "--",
    }
)
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_CLOSING = frozenset({"-rrb-", "-rsb-", "-rcb-"})
_CLITIC = r"(?:s|m|d|ll|re|ve)"
_REWRITES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # In this order: contractions, brackets, punctuation, signs; each sees what is left.
        (r"\bcannot\b", "can not"),
        (r"\b(gon|wan)na\b", r"\1 na"),
        (r"\bgotta\b", "got ta"),
        (r"(?<=[a-z])n't\b", " n't"),
        (rf"(?<=[\w.])'({_CLITIC})\b", r" '\1"),
        (r"\by'(?=[a-z])", "y' "),
        (r"\bno\.(?=\d)", "no. "),
        (r"(?<!\S)([:;=]-?)\)(?!\S)", r"\1-rrb-"),  # a smiley is one word
        (r"(?<!\S)([:;=]-?)\((?!\S)", r"\1-lrb-"),
        (r"[()\[\]{}]", lambda match: f" {_BRACKETS[match[0]]} "),
        (r'["`]', " "),
        (r"\.{2,}", " ... "),
        (r"[!?]", " "),
        (r";(?!-)", " "),
        (r",(?!\d)|(?<!\d),", " "),
        (r":(?![\d-])|(?<![\d\s]):(?!-)", " "),
        (r"(?<!\S)-(?!\S)", " "),
        (r"--+", " "),
        (r"(\*+|#+|=+|~+|\^+|[$%&+|])", r" \1 "),
    )
)
_INITIALS = re.compile(r"(?:[a-z]\.)+[a-z]")


def ptb_tokens(text: str) -> list[str]:
    """Lower-case words of ``text``, in order, without punctuation.

    ``Don't fall!`` gives ``do n't fall``; a newline is a space; brackets become ``-lrb-`` and
    ``-rrb-``; abbreviations keep their full stop inside a sentence.
    """
    text = text.translate(_TYPOGRAPHY).lower()
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    tokens = []
    following = ""  # the next word that is no closing bracket: hence from the end
    for word in reversed(text.split()):
        token = _strip_quotes(_strip_full_stop(word, following))
        if token and token not in _PUNCTUATION:
            tokens.append(token)
        if word not in _CLOSING:
            following = word
    return tokens[::-1]


def _strip_full_stop(word: str, following: str) -> str:
    if not word.endswith(".") or len(word) == 1 or word == "...":
        return word
    stem = word[:-1]
    if _INITIALS.fullmatch(stem):
        return word
    if stem == "no":
        return word if following[:1].isdigit() else stem
    keeps = _ABBREVIATION.fullmatch(stem) or (re.fullmatch(r"[a-z]", stem) and stem != "i")
    # The full stop of the last word ends the sentence.
    return word if keeps and following else stem


def _strip_quotes(word: str) -> str:
    if re.fullmatch(rf"'{_CLITIC}|y'", word):
        return word
    return word.strip("'")
