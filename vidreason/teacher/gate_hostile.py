"""Signs that no sentence about a video holds, and that may harm readers: the gate's fourth step.

Such a text is rejected, not cleaned: whoever wrote it may have written more of it.
"""

import re
import unicodedata

from vidreason.endpoints.messages import CONTROL_TOKEN
from vidreason.json_object import shown
from vidreason.reasoning.plain_text import unified
from vidreason.teacher.draft import Draft

_JOINERS = "\u200c\u200d"
"""Invisible, but letters of some scripts and emoji are joined by them."""
_LINE_ENDS = str.maketrans("", "", "\n\t\r")
# Kind, signs or words of which one must be there, and the pattern; all in lower case.
_PATTERNS = (
    (
        "control token",
        ("<", "["),
        re.compile(r"<\|[^<>|\n]{0,60}\|>|</?s>|\[/?(?:inst|sys|tool_calls?)\]|<</?sys>>"),
    ),
    # No closing sign is needed: browsers show what is never closed. "5 < 6" has none of it.
    ("markup", ("<",), re.compile(r"<[/!?]{0,2}[a-z]|<!--")),
    ("markup", ("&",), re.compile(r"&(?:#x?[0-9a-f]{1,8}|[a-z]{2,8});")),
    ("markup", ("](",), re.compile(r"!?\[[^\[\]\n]{0,200}\]\(")),
    ("markup", ("\\",), re.compile(r"\\(?:begin|input|include|href)\b")),
    ("address", ("://",), re.compile(r"[a-z][a-z0-9+.-]{0,20}://")),
    ("address", (":",), re.compile(r"\b(?:javascript|vbscript|data|file):\S")),
    ("address", ("www",), re.compile(r"\bwww\d{0,2}\.\w")),
    (
        "address",
        (".",),
        re.compile(r"(?<=[a-z0-9])\.(?:com|org|net|io|ai|info|biz|ru|cn|xyz|dev)\b(?!')|\.\.[/\\]"),
    ),
    ("address", ("@",), re.compile(r"\w@[\w-]{1,63}\.\w")),
    (
        "role",
        (":",),
        re.compile(
            r"(?:^|(?<=[.!?] ))[ \t#*>\[-]{0,8}"
            r"(?:system|user|assistant|human|developer|instructions?"
            r"|(?:new |system )?prompt)[ \t\]*]{0,4}:",
            re.MULTILINE,
        ),
    ),
    (
        "role",
        ("instruction", "prompt", "message", "rule"),
        re.compile(
            r"\b(?:ignore|disregard|forget|override)(?: (?:all|any|the|my|your|of)){0,4} "
            r"(?:previous|prior|above|earlier|preceding|system)\b.{0,20}\b"
            r"(?:instruction|prompt|message|rule)"
        ),
    ),
    (
        "role",
        ("you are",),
        re.compile(r"\byou are (?:now )?(?:chatgpt|an? (?:ai|language model))\b"),
    ),
)


def hostile_part(draft: Draft) -> str | None:
    """Describe the first thing in a draft's texts that does not belong there; None for none."""
    texts = [(f"step {number}", step.text) for number, step in enumerate(draft.steps, start=1)]
    for number, item in enumerate(draft.predictions, start=1):
        texts.append((f"prediction {number}", item.event))
        texts.append((f"justification {number}", item.justification))
    if draft.outcome is not None:
        texts.append(("outcome", draft.outcome.text))
    problems = (hostile_sign(text, where) for where, text in texts)
    return next(filter(None, problems), None)


def hostile_sign(text: str, where: str) -> str | None:
    """Describe the first control character, control token, markup, address or role of a text.

    Args:
        text: Line ends and tabs are allowed in it.
        where: Its name in the description.
    """
    if not text.translate(_LINE_ENDS).isprintable():
        hidden = (sign for sign in text if not sign.isprintable() and not _is_harmless(sign))
        sign = next(hidden, None)
        if sign is not None:
            name = unicodedata.name(sign, unicodedata.category(sign))
            return f"control character: {where} has U+{ord(sign):04X} ({name.lower()})"
    if "\ufffd" in text:
        return f"control character: {where} has U+FFFD (a damaged character)"
    # Full-width letters and the like are looked at as what they stand for.
    forms = (text,) if text.isascii() else (text, unified(text))
    for form in forms:
        token = CONTROL_TOKEN.search(form) if "<" in form or "[" in form else None
        if token is not None:
            return f"control token: {where} has {shown(token[0])}"
        lowered = form.lower()
        for kind, signs, pattern in _PATTERNS:
            match = any(map(lowered.__contains__, signs)) and pattern.search(lowered)
            if match:
                return f"{kind}: {where} has {shown(match[0].strip())}"
    return None


def _is_harmless(sign: str) -> bool:
    # Other blanks, such as those that are not broken at the end of a line.
    return sign in "\n\t\r" or sign in _JOINERS or unicodedata.category(sign) == "Zs"
