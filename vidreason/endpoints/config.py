"""Configuration of an endpoint: its URL, key and time limits."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

_FIXED_FIELDS = frozenset({"model", "messages", "stream", "n"})
"""Fields of a request's body that decide what is answered, and how a reply is to be read."""
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(kw_only=True)
class EndpointConfig:
    """One endpoint of the chat-completions form: OpenAI's, vLLM's, llama.cpp's, ..."""

    base_url: str = "https://api.openai.com/v1"
    """URL that ``/chat/completions`` is appended to, such as ``http://localhost:8000/v1`` of vLLM.
    Redirects to another URL are not followed."""
    api_key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; empty for none."""
    proxy_variable: str = ""
    """Environment variable that holds the URL of a proxy, such as ``HTTPS_PROXY``; empty for none.
    The proxies of the environment are not used unless one is named here: to a plain http endpoint,
    a proxy sees the key."""
    timeout_seconds: float = 60.0
    """Longest time of one try, from connecting to the last byte of the reply."""
    max_attempts: int = 5
    """Tries of one request; waits double from a second on."""

    def __post_init__(self) -> None:
        """Check the endpoint and ranges.

        Raises:
            ValueError: A field is out of range or may hold a secret.
        """
        check_url("base_url", self.base_url)
        for name in ("api_key_variable", "proxy_variable"):
            value = getattr(self, name)
            # The value is not shown: it may be the key itself.
            if value and not _VARIABLE_NAME.fullmatch(value):
                raise ValueError(
                    f"{name} is not the name of an environment variable (letters, digits and _); "
                    "put the secret into a variable and its name here"
                )
        for name in ("timeout_seconds", "max_attempts"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")

    def key(self) -> str:
        """Return the key from the environment; empty for an endpoint without keys.

        Raises:
            ValueError: The variable is not set, or its value is no key.
        """
        if not self.api_key_variable:
            return ""
        key = os.environ.get(self.api_key_variable, "").strip()
        if not key:
            raise ValueError(
                f"the environment variable {_shown(self.api_key_variable)} is not set; put the "
                f"key of {self.base_url} in it, or set api_key_variable='' for an endpoint "
                "without keys"
            )
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise ValueError(
                f"the environment variable {_shown(self.api_key_variable)} holds characters that "
                "no key has (blanks, line ends or non-ASCII ones); set it again"
            )
        return key

    def proxy(self) -> str | None:
        """Return the proxy's URL from the environment, which may hold a password; None for none.

        Raises:
            ValueError: The variable is not set, or is no URL of a proxy.
        """
        if not self.proxy_variable:
            return None
        url = os.environ.get(self.proxy_variable, "").strip()
        if not url:
            raise ValueError(
                f"the environment variable {_shown(self.proxy_variable)} is not set; put the "
                "proxy's URL in it, or set proxy_variable=''"
            )
        if not url.startswith(("http://", "https://")):
            raise ValueError(
                f"the environment variable {_shown(self.proxy_variable)} must hold a URL that "
                "begins with http:// or https://"
            )
        return url


def check_request_fields(section: str, fields: Iterable[str]) -> None:
    """Refuse fields of a request's body that are not to be set.

    Raises:
        ValueError: As said.
    """
    taken = sorted(_FIXED_FIELDS.intersection(fields))
    if taken:
        raise ValueError(
            f"{section}.request_fields sets {taken}, which decide what is answered and how a reply "
            "is read; leave them out"
        )


def check_url(field: str, url: str) -> None:
    """Refuse anything but a plain http URL of a host.

    Raises:
        ValueError: As said; a URL with a user, password or query is not shown.
    """
    try:
        parts = urlsplit(url)
        port = parts.port  # raises where it is no number up to 65535
    except ValueError as error:
        raise ValueError(f"{field} is no valid URL ({error})") from error
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValueError(
            f"{field} has a user, a password, a query or a fragment in it, which would be written "
            "into records; give the plain URL, and the key by api_key_variable"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError(f"{field} is {url!r}; it begins with http:// or https:// and a host")
    if not (url.isascii() and url.isprintable()) or " " in url:
        raise ValueError(f"{field} is {url!r}; it has characters that no URL has")


def _shown(variable: str) -> str:
    """Return the variable's name; in lower case it may be a misplaced key, and is not shown."""
    return variable if variable.isupper() else "that the configuration names"
