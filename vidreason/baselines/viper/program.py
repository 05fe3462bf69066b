"""The program in a language model's reply, which may be wrapped in anything."""

import re
from itertools import takewhile

from vidreason.baselines.viper.sandbox import ENTRY_POINT, MAX_SOURCE, PARAMETERS
from vidreason.reasoning.plain_text import own_turn

_FENCE = re.compile(r"^[ \t]{0,12}```[^\n`]{0,40}$", re.MULTILINE)
_DEFINITION = re.compile(rf"^def[ \t]+{ENTRY_POINT}\b", re.MULTILINE)
_TOP_LEVEL = ("def ", "import ", "from ", "@", "#", ")", "]", "}")
"""Beginnings of lines that belong to a program without being indented."""
_INDENT = "    "


def extract_program(reply: str) -> str | None:
    """Return the program of a reply; None if it has none.

    Read are, in this order: a block between fences that defines ``execute_command``; such a
    definition without fences, from the first function or import on to the first line of prose; and
    the body of that function alone, since the prompt ends with its first line.

    Args:
        reply: The text that the model has generated.
    """
    # Room for a program and what is wrapped around it; patterns never see more.
    text = own_turn(reply).replace("\r\n", "\n")[: 4 * MAX_SOURCE]
    blocks = _FENCE.split(text)[1::2]  # what is between fences, also after one that never closes
    for block in blocks:
        if _DEFINITION.search(block):
            return _short(block.strip("\n"))
    if _DEFINITION.search(text):
        return _short(_code_lines(text))
    body = _body(next((block for block in blocks if block.strip()), text))
    return None if body is None else _short(f"def {ENTRY_POINT}({PARAMETERS}):\n{body}")


def _short(program: str) -> str | None:
    return program if len(program) <= MAX_SOURCE else None


def _code_lines(text: str) -> str:
    """The lines of functions and imports, up to the first line of prose after the entry point."""
    kept: list[str] = []
    defined = False
    for line in text.split("\n"):
        # Blank and indented lines belong to the code above them.
        is_code = line.startswith(_TOP_LEVEL) or (bool(kept) and line[:1] in ("", " ", "\t"))
        # Before any code, a line with # is as likely a heading in Markdown.
        if is_code and (kept or not line.startswith("#")):
            kept.append(line)
            defined = defined or _DEFINITION.match(line) is not None
        elif defined:
            break
        else:
            # Prose before the entry point: code above it was no part of the program.
            kept.clear()
    return "\n".join(kept).strip("\n")


def _body(text: str) -> str | None:
    """The body of a function, indented; None if the text is none."""
    first, *rest = text.strip().split("\n")
    second = next((line for line in rest if line.strip()), "")
    depth = len(second) - len(second.lstrip(" "))
    opens = first.rstrip().endswith(":")
    if depth > (len(_INDENT) if opens else 0):
        # It goes on from the prompt: its first indentation is lost, and prose is not indented.
        indented = takewhile(lambda line: not line.strip() or line[0] == " ", rest)
        lines = [(_INDENT if opens else " " * depth) + first, *indented]
    else:
        lines = [_INDENT + line for line in (first, *rest)]
    if not any(line.lstrip().startswith("return") for line in lines):
        return None
    return "\n".join(lines).rstrip()
