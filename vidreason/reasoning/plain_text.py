"""A model's output as plain text: one turn, without thoughts, markup and invisible characters.

Language models wrap what they say: thoughts before it, Markdown, HTML and LaTeX around it, control
tokens and an invented next turn after it. Whatever reads an output reads it through here. Every
step takes time linear in the text's length, also on the loops that models fall into.
"""

import re
import unicodedata

_THOUGHTS = (
    r"think|thinks|thinking|thought|thoughts|reason|reasoning|reflection|analysis|scratchpad|"
    r"inner_monologue|seed:think|cot"
)
_THOUGHT_MARK = re.compile(
    rf"<(?P<slash>/?)[ \t]{{0,4}}(?:{_THOUGHTS})\b[^<>\n]{{0,40}}>"
    r"|\[(?P<bracket>/?)THINK(?:ING)?\]"
    r"|\u25c1(?P<triangle>/?)think\u25b7"
    r"|<\|(?:begin|(?P<end>end))_of_thought\|>",
    re.IGNORECASE,
)
_FINAL_CHANNEL = re.compile(r"<\|channel\|>\s{0,4}final\b[^<>\n]{0,40}<\|message\|>")
_OTHER_CHANNEL = re.compile(r"<\|channel\|>")
_TURN_START = re.compile(
    r"\s{0,9}(?:<s>|<\|begin_of_text\|>|<bos>|\[/INST\]|<start_of_turn>\s{0,4}model\b"
    r"|<\|im_start\|>\s{0,4}assistant\b|<\|start_header_id\|>\s{0,4}assistant\b"
    r"|<\|end_header_id\|>|<\|assistant\|>|(?i:assistant):)"
)
_TURN_END = re.compile(
    r"<\|(?:im_end|im_start|eot_id|eom_id|end|return|endoftext|end_of_text|end_of_turn|user|"
    r"start_header_id)\|>|</s>|<end_of_turn>|<eos>|\[INST\]"
    r"|<\uff5cend\u2581of\u2581sentence\uff5c>|\n[ \t]{0,8}(?i:user|human)[ \t]?:"
)
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
# Letters in filled circles and squares, which Unicode does not call compatible with letters.
_ENCLOSED = {
    first + number: chr(ord("A") + number) for first in (0x1F150, 0x1F170) for number in range(26)
}
_INLINE_TAGS = r"(?-i:b|i|u|s|a|q)|strong|em|span|font|mark|code|small|big|sup|sub|tt|ins|center"
_BLOCK_TAGS = r"(?-i:p)|br|div|pre|hr|h[1-6]|ul|ol|li|table|tbody|thead|tr|td|th|html|body"
_MARKUP: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, flags), replacement)
    for pattern, flags, replacement in (
        (rf"</?(?:{_INLINE_TAGS})\b[^<>\n]{{0,80}}>", re.IGNORECASE, ""),
        (rf"</?(?:{_BLOCK_TAGS})\b[^<>\n]{{0,80}}>", re.IGNORECASE, "\n"),
        (r"~~[^~\n]{1,200}~~", 0, " "),  # struck out: taken back
        (r"^[ \t]*(?:-{3,}|={3,}|~{3,})[ \t]*$", re.MULTILINE, ""),
        (r"^([ \t]*)```[ \t]*[A-Za-z]{0,20}[ \t]*$", re.MULTILINE, r"\1"),
        (r"^[ \t]*(?:(?:#{1,6}|>)[ \t]+)+", re.MULTILINE, ""),
        (
            r"\\(?:text[a-z]{0,6}|math[a-z]{0,6}|mbox|rm|bf|it|sf|operatorname|displaystyle|emph|"
            r"underline|ensuremath|boxed|fbox|large|Large|left|right)\b\*?",
            0,
            "",
        ),
        (r"\\(?:[()\[\],;: !]|q?quad\b)", 0, " "),
        (r"\\([*_`~#$&%{}<>|.\-+\"'])", 0, r"\1"),
        (r"\$\$?([^$\n]{1,200})\$\$?", 0, r"\1"),
        (r"(?<![0-9])\*+|\*+(?![0-9])", 0, ""),
        (r"`+", 0, ""),
        (r"(?<![^\W_])_+|_+(?![^\W_])", 0, ""),
    )
)


def own_turn(text: str) -> str:
    """The model's own turn of a text, without its thoughts.

    A thought that was opened before the text (a closing mark without an opening one) ends where it
    is closed; one that is never closed takes the rest of the text.
    """
    start = 0
    while (mark := _TURN_START.match(text, start)) is not None:
        start = mark.end()
    text = text[start:]
    channels = list(_FINAL_CHANNEL.finditer(text))
    if channels:  # a turn of several messages: the final one counts
        text = text[channels[-1].end() :]
    elif _OTHER_CHANNEL.search(text):
        return ""
    # A mark before the first word ends no turn; after one mark, the next comes after a word.
    ends = (end.start() for end in _TURN_END.finditer(text))
    end = next((end for end in ends if text[:end].strip()), -1)
    return without_thoughts(text if end < 0 else text[:end])


def without_markup(text: str) -> str:
    """The text without Markdown, HTML and LaTeX around its words, and without invisible characters.

    Headings, quotes, emphasis, code marks and math signs go; what is struck out goes with its
    words. Signs inside words stay: ``2*3``, ``snake_case``.
    """
    text = _INVISIBLE.sub("", text)
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    return text


def unified(text: str) -> str:
    """The text with compatible characters unified: full-width letters and digits, circled letters.

    Invisible characters go, as in :func:`without_markup`.
    """
    return unicodedata.normalize("NFKC", _INVISIBLE.sub("", text).translate(_ENCLOSED))


def normalise_answer(text: str) -> str:
    """A short answer, or an event, in the form in which it is compared.

    Compatibility characters are unified, case and surrounding punctuation dropped, white space made
    single. Articles and inner punctuation stay, so that answers in the benchmarks' own files
    compare as the official scripts compare them: by exact match.
    """
    text = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(text.split()).strip(" \t.,;:!?\"'`()[]")


def without_thoughts(text: str) -> str:
    """The text without a model's thoughts; empty where they are not closed."""
    kept: list[str] = []
    depth, position, opened = 0, 0, False
    for mark in _THOUGHT_MARK.finditer(text):
        between = text[position : mark.start()]
        position = mark.end()
        if any(mark.group("slash", "bracket", "triangle", "end")):
            if depth == 0:  # opened in the prompt
                kept.clear()
            depth, opened = max(depth - 1, 0), False
        elif not mark[0].endswith("/>"):
            if depth == 0:
                kept.append(between)
            # A model often repeats the mark that its template has opened the turn with.
            depth += not (opened and not between.strip())
            opened = True
        elif depth == 0:
            kept.append(between)
    return "\n".join(kept if depth else [*kept, text[position:]]).strip()
