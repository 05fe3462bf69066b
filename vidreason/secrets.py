"""Secrets in text: keys, tokens and passwords are replaced before a text is shown or written.

A service may echo the key that it was sent, whole, in part or encoded; a command line and an error
message may hold a token. Everything that is printed, logged or kept goes through a
:class:`SecretFilter` first, then, where it was written by others, through :func:`printable`.
"""

import base64
import html
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote

from typing_extensions import override

REPLACEMENT = "[secret]"
MIN_SECRET_CHARS = 6
"""Shorter values, such as the EMPTY of keyless servers, are no secrets: words would be replaced."""

_PARTIAL_FROM_CHARS = 16
"""From this length on, echoes of a part are replaced as well; parts of short ones are words."""
_PART_CHARS = 8  # characters in a row of a secret that give it away
_FOLD = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_SECRET_NAME = re.compile(
    # Not TOKENIZERS_PARALLELISM or MAX_TOKENS.
    r"TOKEN(?!IZ|S)|API_?KEY|ACCESS_?KEY|SECRET|PASSW|CREDENTIAL|PRIVATE_?KEY|CONNECTION_STRING"
    r"|_KEY$|_PAT$"
)
_NAME_OF_NO_SECRET = re.compile(r"_(?:PATH|FILE|DIR|URL|ID)$")
_URL_CREDENTIALS = re.compile(r"(?<=://)[^\s/@'\"]+(?=@)")
_USER_AND_PASSWORD = re.compile(r"://[^\s/@:]+:[^\s/@]+@")
_QUERY_SECRET = re.compile(
    r"(?i)([?&][\w.-]*(?:token|key|secret|sig|signature|passw(?:or)?d|credential)[\w.-]*=)[^&\s'\"#]+"
)


class SecretFilter:
    """Replaces secrets in texts, also base64, URL, HTML, JSON and hex encoded, in any case.

    Of secrets of at least 16 characters, echoes of 8 characters or more are replaced.

    Args:
        secrets: Values; those of fewer than 6 characters are left out.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        windows: set[str] = set()
        for secret in secrets:
            if len(secret) >= MIN_SECRET_CHARS:
                windows.update(_windows(secret))
        self._windows = sorted(window.translate(_FOLD) for window in windows)

    def clean(self, text: str) -> str:
        """``text`` with ``[secret]`` for each stretch that tells of a secret."""
        # As long as the text, so that places in one are those in the other.
        folded = text.translate(_FOLD)
        spans: list[tuple[int, int]] = []
        for window in self._windows:
            start = folded.find(window)
            while start >= 0:
                spans.append((start, start + len(window)))
                start = folded.find(window, start + 1)
        cleaned: list[str] = []
        end = 0
        # Stretches that overlap or touch become one.
        for start, stop in sorted(spans):
            if start > end or not cleaned:
                cleaned += [text[end:start], REPLACEMENT]
            end = max(end, stop)
        return "".join([*cleaned, text[end:]])

    def clean_exception(self, error: BaseException, max_chars: int = 300) -> None:
        """Clean the texts of ``error`` and of all that caused it, which a traceback would show."""
        seen: set[int] = set()
        pending: list[BaseException | None] = [error]
        while pending:
            one = pending.pop()
            if one is None or id(one) in seen:
                continue
            seen.add(id(one))
            pending += [one.__cause__, one.__context__]
            one.args = tuple(
                printable(self.clean(value[: 8 * max_chars]), max_chars)
                if isinstance(value, str)
                else value
                for value in one.args
            )


class SecretLogFilter(logging.Filter):
    """Cleans the records of the logger that it is added to."""

    def __init__(self, secrets: SecretFilter) -> None:
        super().__init__()
        self._secrets = secrets

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        # The message has its arguments in it by now.
        record.msg, record.args = self._secrets.clean(record.getMessage()), ()
        return True


class PrintableLogFilter(logging.Filter):
    """Takes secrets, and escapes of the terminal, out of what a handler is to print."""

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = without_controls(without_secrets(record.getMessage())), ()
        return True


def environment_secrets(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment's variables whose names speak of a key, token or password."""
    variables = os.environ if environment is None else environment
    return {
        name: value
        for name, value in variables.items()
        if _SECRET_NAME.search(name.upper())
        and not _NAME_OF_NO_SECRET.search(name.upper())
        # A switch, a count, or the path of a file that holds the secret.
        and len(value) >= _PART_CHARS
        and not value.isdecimal()
        and not value.startswith(("/", "~", "."))
    }


def without_secrets(text: str) -> str:
    """``text`` without what the environment keeps secret and without credentials in URLs."""
    return without_url_credentials(SecretFilter(environment_secrets().values()).clean(text))


def without_url_credentials(text: str) -> str:
    """``text`` without users, passwords, tokens and signatures in URLs."""
    if "://" not in text:
        return text
    cleaned = _URL_CREDENTIALS.sub(REPLACEMENT, text)
    return _QUERY_SECRET.sub(rf"\1{REPLACEMENT}", cleaned)


def first_line(error: BaseException) -> str:
    """First line of an exception's message, which a server may have had a hand in, to be shown."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return printable(without_secrets(lines[0]))


def refuse_secrets(values: object, where: str = "") -> None:
    """Refuse a secret among nested values that will be written down, such as a configuration's.

    Args:
        values: Dictionaries, lists and texts; anything else is no secret.
        where: Name of ``values`` in messages.

    Raises:
        ValueError: A text holds a secret of the environment, or a URL a user and a password. The
            message names where, not what.
    """
    # Shorter ones may be words of a path.
    secrets = {
        name: value
        for name, value in environment_secrets().items()
        if len(value) >= _PARTIAL_FROM_CHARS
    }
    for field, text in _texts(values, where):
        held = [f"the value of {name}" for name, value in secrets.items() if value in text]
        if _USER_AND_PASSWORD.search(text):
            held.append("a URL's user and password")
        if held:
            raise ValueError(
                f"{field} holds {held[0]}, which would be written into run folders and "
                "checkpoints; leave it out: secrets belong into environment variables or the "
                "store's own file of credentials"
            )


def _texts(values: object, where: str) -> Iterator[tuple[str, str]]:
    """Each text in nested values, with the name of its field."""
    match values:
        case str():
            yield where, values
        case Mapping():
            for name, value in values.items():
                yield from _texts(value, f"{where}.{name}" if where else str(name))
        case list() | tuple():
            for index, value in enumerate(values):
                yield from _texts(value, f"{where}[{index}]")


def printable(text: str, max_chars: int = 300) -> str:
    """``text`` of others as one line without control characters, cut to ``max_chars``."""
    shown = without_controls(" ".join(text[: 4 * max_chars].split()))
    return shown if len(shown) <= max_chars else f"{shown[: max_chars - 3]}..."


def without_controls(text: str) -> str:
    """``text`` of others in several lines, as it may be printed.

    Terminal escapes, other control characters but line ends and tabs, and marks that turn the
    direction of writing are written as escapes of Python.
    """
    return "".join(
        sign if sign.isprintable() or sign in "\n\t" else sign.encode("unicode_escape").decode()
        for sign in text
    )


def _windows(secret: str) -> set[str]:
    """Texts of which each one betrays the secret."""
    raw = secret.encode("utf-8", "surrogatepass")
    written = {secret, quote(secret, safe=""), html.escape(secret), json.dumps(secret)[1:-1]}
    encoded = {raw.hex(), "".join(f"%{byte:02x}" for byte in raw)}
    # A secret may begin at any of the three bytes that base64 writes as four signs.
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
        # What depends on the neighbours in a longer text is left out.
        text = text[-(-shift * 8 // 6) : (shift + len(raw)) * 8 // 6]
        encoded |= {text, text.translate({ord("+"): "-", ord("/"): "_"})}
    if len(secret) < _PARTIAL_FROM_CHARS:
        return written | encoded
    parts = {
        text[start : start + _PART_CHARS]
        for text in written
        for start in range(len(text) - _PART_CHARS + 1)
    }
    # Eight characters are eleven of base64 and sixteen of hex.
    return parts | {
        text[start : start + 2 * _PART_CHARS]
        for text in encoded
        for start in range(0, len(text) - 2 * _PART_CHARS + 1, 4)
    }
