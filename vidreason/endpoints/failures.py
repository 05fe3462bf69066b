"""Failures of an endpoint: every exception below the client is translated here."""

import datetime
import email.utils
import math
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import httpx2
import openai

from vidreason.endpoints.config import EndpointConfig
from vidreason.endpoints.replies import REFUSED, BadReplyError, read_error

_PASSING_STATUS = frozenset({408, 409, 425, 429})
_NO_CREDIT = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")

_CONTENT_CODES = (
    *("content_filter", "content_policy_violation", "invalid_prompt"),
    *("context_length_exceeded", "string_above_max_length"),
    "data_inspection_failed",  # of DashScope, which serves Qwen's models
)
_TOO_LONG = re.compile(
    r"context (?:length|window|size)|(?:prompt|input) is too long"
    r"|maximum (?:model|prompt|input|allowed input) length"
    r"|token count \(\d+\) exceeds|range of input length|`inputs` (?:tokens|must have less)",
    re.I,
)
"""Messages of vLLM, SGLang, llama.cpp, Gemini, DashScope, TGI and others, which give no code."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A try that failed."""

    message: str
    """Cause, in the endpoint's words if it gave any; not cleaned."""
    passing: bool = True
    """Another try may succeed."""
    refused: bool = False
    """The request, the key or the configuration has to be changed first."""
    about_content: bool = False
    """The texts of this request are refused, as too long or not allowed."""
    unpaid: bool = False
    """No model has worked on the request, for which services charge nothing."""
    retry_after: float = 0.0
    """Seconds that the endpoint requested to wait."""


def failure_of(error: Exception, config: EndpointConfig, now: datetime.datetime) -> Failure:
    """Return what an exception of a try means."""
    match error:
        case BadReplyError():
            return Failure(message=str(error))
        # Before OSError, of which it is a kind.
        case TimeoutError():
            return Failure(
                message=f"no whole reply within timeout_seconds={config.timeout_seconds:g}"
            )
        case openai.APIStatusError():
            return replace(_status_failure(error, config, now), unpaid=True)
        case openai.APIConnectionError() | httpx2.HTTPError() | OSError():
            causes = _causes(error)
            certificate = any(isinstance(one, ssl.SSLCertVerificationError) for one in causes)
            # Never even connected.
            unconnected = any(isinstance(one, httpx2.ConnectError) for one in causes)
            hint = ""
            if certificate:
                hint = "; set SSL_CERT_FILE to the certificates of an authority of your own"
            elif unconnected and (variable := _unused_proxy(config)):
                hint = f"; the proxy of {variable} is used where proxy_variable={variable} says so"
            # The package says "Connection error"; its cause is two or three steps below.
            return Failure(
                message=f"{_named(causes[-1])}{hint}", passing=not certificate, unpaid=unconnected
            )
    return Failure(message=f"the openai package failed with {_named(error)}", passing=False)


def _status_failure(
    error: openai.APIStatusError, config: EndpointConfig, now: datetime.datetime
) -> Failure:
    status, body, headers = error.status_code, error.response.text, error.response.headers
    reason = read_error(body)
    # No credit may have the status of a rate limit, but no waiting helps.
    if status == 402 or error.code in _NO_CREDIT:
        return Failure(
            message=f"the account has no credit (status {status}): {reason}", passing=False
        )
    # Server errors, and statuses of no known kind, may pass.
    if status in _PASSING_STATUS or not 300 <= status < 500:
        return Failure(
            message=f"status {status}: {reason}", retry_after=retry_after_seconds(headers, now)
        )
    if 300 <= status < 400:
        target = headers.get("Location", "another URL")
        return Failure(
            message=f"answers with a redirect (status {status}), which is not followed; set "
            f"base_url to {target} if you trust it with the key",
            passing=False,
            refused=True,
        )
    # Refused for what this request holds: the next one may be answered.
    if status in (400, 413, 422) and (error.code in _CONTENT_CODES or _TOO_LONG.search(reason)):
        return Failure(
            message=f"{REFUSED} (status {status}): {reason}",
            passing=False,
            about_content=True,
        )
    # Refused for what all requests have in common: the run ends.
    remedies = {
        401: f"put a valid key into {config.api_key_variable or 'a variable for api_key_variable'}",
        403: "the key may not use this model or endpoint",
        404: "check the name of the model, and base_url, which usually ends in /v1",
        413: "fewer or smaller frames, or a shorter text, make the request smaller",
    }
    remedy = remedies.get(status, "fields of the request can be set or left out by request_fields")
    return Failure(
        message=f"refuses the request (status {status}; {remedy}): {reason}",
        passing=False,
        refused=True,
    )


def retry_after_seconds(headers: Mapping[str, str], now: datetime.datetime) -> float:
    """Return the seconds of ``Retry-After``, given as a number or a date; 0 without any."""
    text = headers.get("Retry-After", "").strip()[:64]
    try:
        # Not a standard header, in milliseconds: it comes first, as the finer one.
        seconds = float(headers.get("Retry-After-Ms", "x").strip()[:64]) / 1000
    except ValueError:
        try:
            seconds = float(text)
        except ValueError:
            try:
                date = email.utils.parsedate_to_datetime(text)
                # A date without a zone is taken for UTC.
                seconds = (date.replace(tzinfo=date.tzinfo or datetime.UTC) - now).total_seconds()
            except (ValueError, TypeError, IndexError, OverflowError):
                return 0.0
    return max(0.0, seconds) if not math.isnan(seconds) else 0.0


def _unused_proxy(config: EndpointConfig) -> str:
    """Return the variable of the environment that names a proxy for the endpoint; empty if none."""
    name = f"{urlsplit(config.base_url).scheme}_proxy"
    names = (name.upper(), name, "ALL_PROXY", "all_proxy")
    is_set = (one for one in names if os.environ.get(one))
    return "" if config.proxy_variable else next(is_set, "")


def _causes(error: BaseException) -> list[BaseException]:
    """Return an exception and its causes, outermost first."""
    causes = [error]
    # At most ten: causes may lead back to each other.
    while len(causes) < 10 and (deeper := causes[-1].__cause__ or causes[-1].__context__):
        causes.append(deeper)
    return causes


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
