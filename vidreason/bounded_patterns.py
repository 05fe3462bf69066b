"""Regular expressions of unknown origin: those that can take exponential time are refused."""

import re

MAX_PATTERN = 20_000
"""Characters."""
_MAX_REPEATS = 1000  # of one part: a pattern of a few characters may else take minutes


def pattern_problem(pattern: str) -> str | None:
    """Say why a pattern cannot be used, or None.

    A backtracking matcher takes exponential time only where a repeated group holds a repetition, as
    in ``(a+)+``, or alternatives, of which several may fit, as in ``(a|a)*``. Patterns of published
    tokenizers have the first nowhere; of the second kind only groups whose alternatives begin
    differently pass. Escapes and character classes of any dialect count as one character.
    """
    if len(pattern) > MAX_PATTERN:
        return f"it has {len(pattern):,} characters"
    groups: list[_Group] = [_Group()]
    position = 0
    while position < len(pattern):
        start = position
        character = pattern[position]
        closed: _Group | None = None
        if character == "\\":
            position = _after_escape(pattern, position)
        elif character == "[":
            position = _after_class(pattern, position)
        elif character == "(":
            groups.append(_Group())
            position = _after_opening(pattern, position)
            # What follows is the group's content, no quantifier.
            continue
        elif character == ")":
            if len(groups) == 1:
                return "a bracket is closed that was not opened"
            closed = groups.pop()
            closed.end_alternative()
            position += 1
        elif character == "|":
            groups[-1].end_alternative()
            position += 1
            continue
        else:
            position += 1
        # After each part: how often it may come, and what that does to the group around it.
        end, repeats, most = _quantifier(pattern, position)
        if most > _MAX_REPEATS:
            return f"it repeats something {most:,} times"
        if closed is not None and repeats:
            if closed.repeats:
                return "a repeated group holds a repetition, which can take exponential time"
            if closed.ambiguous:
                return "a repeated group has alternatives that begin alike or may be empty"
        groups[-1].add(pattern[start:position] if closed is None else None, closed, repeats)
        position = end
    return None if len(groups) == 1 else "a bracket is not closed"


class _Group:
    """State of a group while it is read."""

    def __init__(self) -> None:
        self.repeats = False
        self.alternatives: list[str | None] = []
        self._first: str | None = None
        self._began = False

    def add(self, text: str | None, inner: "_Group | None", repeats: bool) -> None:
        self.repeats |= repeats or (inner is not None and inner.repeats)
        # Of an alternative, only its beginning is compared.
        if not self._began:
            self._began = True
            self._first = text

    def end_alternative(self) -> None:
        self.alternatives.append(self._first if self._began else None)
        self._began = False
        self._first = None

    @property
    def ambiguous(self) -> bool:
        """True if two alternatives may fit the same text; distinct literal characters do not."""
        if len(self.alternatives) < 2:
            return False
        firsts = self.alternatives
        literal = all(first is not None and len(first) == 1 and first != "." for first in firsts)
        return not (literal and len(set(firsts)) == len(firsts))


def _after_escape(pattern: str, position: int) -> int:
    following = pattern[position + 1 : position + 3]
    if following in ("p{", "P{", "x{", "u{"):
        end = pattern.find("}", position)
        return len(pattern) if end < 0 else end + 1
    return position + 2


def _after_class(pattern: str, position: int) -> int:
    depth = 0
    start = position
    while position < len(pattern):
        character = pattern[position]
        if character == "\\":
            position = _after_escape(pattern, position)
            continue
        if character == "[":
            depth += 1
        # A bracket that closes right at the beginning is a member of the class.
        elif character == "]" and position > start + 1 and pattern[start + 1 : position] != "^":
            depth -= 1
            if not depth:
                return position + 1
        position += 1
    return len(pattern)


def _after_opening(pattern: str, position: int) -> int:
    """After ``(``, ``(?:``, ``(?=``, ``(?<name>``, ``(?i:`` and the like."""
    marks = re.match(r"\((\?(<[=!]|P?<\w+>|[a-zA-Z-]*[:)]|[=!>]))?", pattern[position:])
    assert marks is not None
    end = position + marks.end()
    # "(?i)" closes with the bracket that is read next.
    return end - 1 if pattern[end - 1] == ")" else end


def _quantifier(pattern: str, position: int) -> tuple[int, bool, int]:
    """Return the end of a quantifier, whether it is unbounded, and its largest count."""
    match = re.match(r"([*+?]|\{(\d*)(,?)(\d*)\})([?+]?)", pattern[position:])
    if match is None:
        return position, False, 1
    end = position + match.end()
    if match[1] in "*+":
        return end, True, 1
    if match[1] == "?":
        return end, False, 1
    if not (match[2] or match[4]):
        return position, False, 1  # two braces that mean themselves
    counts = [int(digits[:9]) for digits in (match[2], match[4]) if digits]
    unbounded = bool(match[3]) and not match[4]
    # Once or twice is as harmless as the pattern written out.
    return end, unbounded or max(counts) > 2, max(counts)
