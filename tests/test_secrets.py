"""Secrets are replaced in texts, whatever form they come in; text of others is made printable."""

import base64
import html
import json
from urllib.parse import quote

import pytest

from vidreason.secrets import (
    SecretFilter,
    environment_secrets,
    printable,
    refuse_secrets,
    without_controls,
    without_secrets,
)

SECRET = 'tok"<&>/+ 9fQx7Lm2Rz'


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        SECRET.upper(),
        SECRET[3:12],
        quote(SECRET, safe=""),
        html.escape(SECRET),
        json.dumps(SECRET)[1:-1],
        SECRET.encode().hex(),
        SECRET.encode().hex()[4:-4],
        "".join(f"%{byte:02X}" for byte in SECRET.encode()),
        *(base64.b64encode(f"{'u' * n}:{SECRET}".encode()).decode() for n in range(3)),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
    ],
)
def test_every_form_of_a_secret_is_replaced(form):
    cleaned = SecretFilter([SECRET]).clean(f"before {form} after {form}")
    assert cleaned.startswith("before ")
    assert " after " in cleaned
    assert cleaned.count("[secret]") == 2
    lowered = cleaned.lower()
    assert not any(form.lower()[start : start + 16] in lowered for start in range(len(form) - 15))


def test_other_text_stays():
    text = "The ball, tok, hits a wall;(9fQx7Lm) is a part of seven characters. \u0130 \U0001f600"
    assert SecretFilter([SECRET]).clean(text) == text
    assert SecretFilter(["", "EMPTY", "x"]).clean("x EMPTY") == "x EMPTY"
    # Parts of a short secret are words.
    assert SecretFilter(["password123"]).clean("a password") == "a password"
    assert SecretFilter(["password123"]).clean("(password123)") == "([secret])"


def test_stretches_that_meet_are_one():
    assert SecretFilter(["abcdefgh", "efghijkl"]).clean("-abcdefghijkl-") == "-[secret]-"
    assert SecretFilter(["abcdefgh"]).clean("abcdefghabcdefgh") == "[secret]"
    assert SecretFilter(["abcdefgh"]).clean("abcdefgh abcdefgh") == "[secret] [secret]"


def test_a_chain_of_exceptions_is_cleaned():
    inner = ValueError(f"\x1b[31m{SECRET}", 5)
    inner.__context__ = outer = RuntimeError(SECRET)
    outer.__cause__ = inner  # a circle, which ends all the same
    SecretFilter([SECRET]).clean_exception(outer)
    assert inner.args == ("\\x1b[31m[secret]", 5)
    assert outer.args == ("[secret]",)


def test_secrets_of_the_environment():
    environment = {
        "HF_TOKEN": "secret-a",
        "WANDB_API_KEY": "secret-b",
        "AWS_SECRET_ACCESS_KEY": "secret-c",
        "aws_session_token": "secret-d",
        "DB_PASSWORD": "secret-e",
        "OPENAI_KEY": "secret-f",
        "GITHUB_PAT": "secret-g",
        "HOME": "no-secret",
        "KEYBOARD": "no-secret",
        "MONKEY": "no-secret",
        "TOKENIZERS_PARALLELISM": "no-secret",
        "MAX_TOKENS": "no-secret",
        "HF_TOKEN_PATH": "no-secret",
        "GOOGLE_APPLICATION_CREDENTIALS": "/home/user/key.json",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
        "SECRET_SEED": "1234567890",
    }
    hidden = list(environment_secrets(environment).values())
    assert hidden == [f"secret-{name}" for name in "abcdefg"]


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"data": {"corpora": [{"root": "s3://key:pass@bucket"}]}}, r"data\.corpora\[0\]\.root"),
        ({"name": "model-hf_0123456789abcdef"}, "name"),
        ({"fields": {"key": ("a", "hf_0123456789abcdef")}}, r"fields\.key\[1\]"),
    ],
)
def test_secrets_in_a_configuration_are_refused(monkeypatch, values, where):
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789abcdef")
    with pytest.raises(
        ValueError, match=f"^{where} holds (the value of HF_TOKEN|a URL's user)"
    ) as caught:
        refuse_secrets(values)
    assert "0123" not in str(caught.value)
    refuse_secrets({"root": "https://h:80/a@b", "n": 1, "none": None, "repo": "git@h:a/b"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fit data.root=s3://k:hunter2@h/b x=1", "fit data.root=s3://[secret]@h/b x=1"),
        ("https://h/a?X-Amz-Signature=ab12&n=3", "https://h/a?X-Amz-Signature=[secret]&n=3"),
        ("https://h/a?token=ab#b", "https://h/a?token=[secret]#b"),
        ("git@h:a/b.git 5@3", "git@h:a/b.git 5@3"),
        ("python -m fit 'hf_0123456789abcdef'", "python -m fit '[secret]'"),
    ],
)
def test_commands_without_secrets(monkeypatch, text, expected):
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789abcdef")
    assert without_secrets(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("two\r\n\tlines", "two lines"),
        ("\x1b]0;title\x07\x1b[2J", r"\x1b]0;title\x07\x1b[2J"),
        ("\x9b31m \u202eright \ud800", r"\x9b31m \u202eright \ud800"),
        ("\u00e4\u00f6 \U0001f600", "\u00e4\u00f6 \U0001f600"),
        ("a" * 400, "a" * 297 + "..."),
        ("\x00" * 400, ("\\x00" * 100)[:297] + "..."),
    ],
)
def test_text_of_others_is_one_printable_line(text, expected):
    assert printable(text) == expected


def test_lines_and_tabs_may_be_printed():
    assert without_controls("a\n\tb\x1b[1m\r\u202e") == "a\n\tb\\x1b[1m\\r\\u202e"
