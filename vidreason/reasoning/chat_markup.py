"""Prompts and responses in the language model's chat markup, with what is not markup marked.

The chat template is rendered with stand-ins for the contents (prompt, response, system prompt), and
the contents are put in afterwards: what a content says cannot change what the template writes, and
it stays known which part of the text is whose.
"""

import re
import secrets
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

import jinja2
from transformers import PreTrainedTokenizerBase

from vidreason.reasoning.bounded_templates import render_template
from vidreason.reasoning.control_tokens import (
    Markup,
    has_control_token,
    template_control_ids,
)

PLAIN_CHAT_TEMPLATE = (
    "{{ bos_token or '' }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}User: {{ message['content'] }}\n"
    "{% elif message['role'] == 'system' %}{{ message['content'] }}\n"
    "{% else %}Assistant: {{ message['content'] }}{{ eos_token }}\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""For tokenizers that bring no template of their own: ``User: ...``, a new line, ``Assistant:``."""

TEMPLATE_DATE = datetime(2024, 7, 26)
"""Some templates write today's date into the system message. This one is there every day, so that
the prompts of training and of later use are the same; Llama 3.1's own template falls back to it."""

_SECRET = "".join(str(secrets.randbelow(10)) for _ in range(24))
# Digits, which no filter on letter case changes, between characters that belong to no word.
_USER, _RESPONSE, _SYSTEM = (f"~{_SECRET}{index}~" for index in range(3))
_STAND_IN = re.compile(f"(~{_SECRET}[0-2]~)")
_MARKUP_CHARACTER = re.compile(r"[<>\[\]{}|]")


class Turn(NamedTuple):
    """A prompt and its response in chat markup."""

    prompt: Markup
    """Up to the response: with all that the template writes before it (a header, an empty block of
    thoughts), but for blanks that it does not write when it asks for an answer. Tokenizers join
    these to the word after them."""
    response: Markup
    """The response, and what the template writes after it."""


@dataclass(frozen=True)
class _Content:
    """A text from outside, with its white space apart: templates may trim it."""

    before: str
    core: str
    after: str

    @classmethod
    def of(cls, text: str) -> "_Content":
        core = text.strip()
        start = text.index(core)
        return cls(text[:start], core, text[start + len(core) :])

    @property
    def text(self) -> str:
        return self.before + self.core + self.after


_ANY_RESPONSE = _Content("", _RESPONSE, "")


def chat_turn(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    response: str | None = None,
    system_prompt: str | None = None,
) -> Turn:
    """Put a prompt, and the response if there is one, into chat markup.

    Args:
        tokenizer: With its chat template; without one, :data:`PLAIN_CHAT_TEMPLATE` is used.
        prompt: What the user says, without markup.
        response: What the assistant says, without markup; None leaves the response's half empty.
            The prompt's half does not depend on it.
        system_prompt: What the system says, without markup; None for the template's own default.

    Raises:
        ValueError: The template fails, leaves out a content, or renders a finished turn differently
            from the prompt for one.
    """
    template = PLAIN_CHAT_TEMPLATE
    if tokenizer.chat_template:
        template = tokenizer.get_chat_template()  # of several, the one without tools
    chat = _chat(tokenizer, template, system_prompt)
    user = _Content.of(prompt)
    before = _prompt(chat, user)
    if response is None:
        return Turn(before, Markup(("",), ()))
    return Turn(before, chat.response(user, _Content.of(response), before.text))


@dataclass(frozen=True, eq=False)
class _Chat:
    """A tokenizer's template with a system prompt."""

    tokenizer: PreTrainedTokenizerBase
    template: str
    system: _Content | None
    system_is_read: bool = False
    """The template acts on the system prompt (switches thoughts off, say), as its user wishes."""

    def prompt(self, user: _Content) -> Markup:
        """Up to the response."""
        blanks = _joined_blanks(self)
        quoted = self.quoted(user, _ANY_RESPONSE)
        quoted = quoted.before(quoted.text.index(_RESPONSE) - blanks)
        rendered = self.render(user, _ANY_RESPONSE).partition(_RESPONSE)[0]
        return self._choose(rendered[: len(rendered) - blanks], quoted, user)

    def response(self, user: _Content, answer: _Content, prompt: str) -> Markup:
        """From the response on; ``prompt`` is the text before it."""
        quoted = self.quoted(user, _ANY_RESPONSE).text
        start = quoted.index(_RESPONSE) - _joined_blanks(self)
        after = self.quoted(user, answer).after(start)
        rendered = self.render(user, answer)
        if not rendered.startswith(prompt):
            return after
        return self._choose(rendered[len(prompt) :], after, answer)

    def quoted(self, user: _Content, answer: _Content) -> Markup:
        """Return the template's text with the contents put in for their stand-ins."""
        system = self.system
        if system is not None and not self.system_is_read:
            system = replace(system, core=_SYSTEM)
        pieces = _rendered_pieces(
            self, replace(user, core=_USER), replace(answer, core=_RESPONSE), system
        )
        cores = {_USER: user.core, _RESPONSE: answer.core}
        cores[_SYSTEM] = "" if self.system is None else self.system.core
        return Markup(pieces[::2], tuple(cores[stand_in] for stand_in in pieces[1::2]))

    def render(
        self, user: _Content, answer: _Content | None, system: _Content | None = None
    ) -> str:
        """Render the contents by the template itself."""
        system = system or self.system
        messages = [] if system is None else [{"role": "system", "content": system.text}]
        messages.append({"role": "user", "content": user.text})
        if answer is not None:
            messages.append({"role": "assistant", "content": answer.text})
        variables = {
            **self.tokenizer.special_tokens_map,
            "messages": messages,
            "tools": None,
            "documents": None,
            "add_generation_prompt": answer is None,
            "date_string": TEMPLATE_DATE.strftime("%d %b %Y"),
            "strftime_now": TEMPLATE_DATE.strftime,
        }
        try:
            return render_template(self.template, variables)
        except ValueError as error:
            if system is not None:
                raise ValueError(self.no_system_role(f"fails ({error})")) from error
            raise ValueError(
                f"the chat template of {self.tokenizer.name_or_path!r} fails on a prompt and its "
                f"response ({error}); give the tokenizer another chat_template"
            ) from error

    def no_system_role(self, what: str) -> str:
        """The message for a template without one."""
        return (
            f"reasoner.system_prompt is given, and the chat template of "
            f"{self.tokenizer.name_or_path!r} {what}; leave reasoner.system_prompt out, and say in "
            "the prompts what it says"
        )

    def _choose(self, rendered: str, quoted: Markup, content: _Content) -> Markup:
        """The content as it is, or what the template makes of one that it does more to than trim.

        Some templates change any content (leave out empty lines, for one), and their models are
        used to it. Only a content with control tokens, or with markup that the template looks for,
        is not for the template to read.
        """
        if rendered == quoted.text:
            return quoted
        if has_control_token(self.tokenizer, content.text):
            return quoted
        if any(mark in content.text for mark in _marks(self.template)):
            return quoted
        changed = Markup((rendered,), ())
        ids = template_control_ids(self.tokenizer, changed.template)
        return changed if ids == template_control_ids(self.tokenizer, quoted.template) else quoted


@lru_cache(maxsize=8)
def _chat(tokenizer: PreTrainedTokenizerBase, template: str, system_prompt: str | None) -> _Chat:
    if system_prompt is None:
        return _Chat(tokenizer, template, None)
    chat = _Chat(tokenizer, template, _Content.of(system_prompt))
    probe = _Content.of("probe")
    read = chat.quoted(probe, probe).text != chat.render(probe, probe)
    return replace(chat, system_is_read=read and not has_control_token(tokenizer, system_prompt))


@lru_cache(maxsize=256)
def _prompt(chat: _Chat, user: _Content) -> Markup:
    """Stage 1 has one prompt for all, and the options of a question have theirs in common."""
    return chat.prompt(user)


@lru_cache(maxsize=64)
def _rendered_pieces(
    chat: _Chat, user: _Content, answer: _Content, system: _Content | None
) -> tuple[str, ...]:
    """The template's own text in pieces, with a stand-in between one and the next."""
    rendered = chat.render(user, answer, system)
    pieces = tuple(_STAND_IN.split(rendered))
    for stand_in, what in ((_USER, "prompt"), (_RESPONSE, "response")):
        if stand_in not in pieces:
            raise ValueError(
                f"the chat template of {chat.tokenizer.name_or_path!r} leaves out the {what}: it "
                f"writes {rendered!r}; give the tokenizer a chat_template that writes the contents "
                "of user and assistant messages"
            )
    if system is not None and system.core == _SYSTEM and _SYSTEM not in pieces:
        raise ValueError(chat.no_system_role(f"leaves it out: it writes {rendered!r}"))
    return pieces


@lru_cache(maxsize=8)
def _joined_blanks(chat: _Chat) -> int:
    """Blanks before a response that are not written where the model is to answer.

    Raises:
        ValueError: The template renders a finished turn differently from the prompt for one.
    """
    probe = _Content.of("probe")
    finished = chat.render(probe, _ANY_RESPONSE).partition(_RESPONSE)[0]
    prompt = chat.render(probe, None)
    # Some prompts open a block of thoughts: a finished turn has none.
    if not (finished.startswith(prompt) or prompt.startswith(finished)):
        raise ValueError(
            f"the chat template of {chat.tokenizer.name_or_path!r} renders a finished turn "
            f"differently from the prompt for one: {finished!r} does not begin with {prompt!r}; "
            "give the tokenizer a chat_template in which it does"
        )
    more = finished[len(prompt) :]
    return len(more) - len(more.rstrip(" "))


@lru_cache(maxsize=8)
def _marks(template: str) -> tuple[str, ...]:
    """Strings of the template's code that look like markup: it may search contents for them."""
    strings = {
        text[1:-1].strip()
        for _, kind, text in jinja2.Environment().lex(template)
        if kind == "string"
    }
    return tuple(sorted(s for s in strings if len(s) > 2 and _MARKUP_CHARACTER.search(s)))
