"""Conversations in the language model's chat markup, with what is not markup marked.

The chat template is rendered with stand-ins for the contents (prompt, response, the turns before
them, system prompt), and the contents are put in afterwards: what a content says cannot change what
the template writes, and it stays known which part of the text is whose.
"""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

import jinja2
from transformers import PreTrainedTokenizerBase

from vidreason.example import Turn, split_system
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


def _stand_in(number: int) -> str:
    # Digits, which no filter on letter case changes, between characters that belong to no word.
    return f"~{_SECRET}{number}~"


_RESPONSE, _SYSTEM = map(_stand_in, range(2))
_FIRST_TURN = 2
"""Number of the first turn's stand-in."""
_STAND_IN = re.compile(f"(~{_SECRET}[0-9]+~)")
_MARKUP_CHARACTER = re.compile(r"[<>\[\]{}|]")


class ChatText(NamedTuple):
    """A prompt and its response in chat markup."""

    prompt: Markup
    """Up to the response: with all that the template writes before it (the earlier turns, a header,
    an empty block of thoughts), but for blanks that it does not write when it asks for an answer.
    Tokenizers join these to the word after them."""
    response: Markup
    """The response, and what the template writes after it."""
    after_answers: tuple[str, ...] = ()
    """Markup between each earlier answer and the next question."""


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


_Contents = tuple[_Content, ...]
"""Contents of questions and answers in turn."""
_ANY_RESPONSE = _Content("", _RESPONSE, "")
_PROBE = _Content.of("probe")


def chat_text(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    response: str | None = None,
    system_prompt: str | None = None,
    earlier_turns: Sequence[Turn] = (),
) -> ChatText:
    """Put a prompt, and the response if there is one, into chat markup.

    Args:
        tokenizer: With its chat template; without one, :data:`PLAIN_CHAT_TEMPLATE` is used.
        prompt: What the user says, without markup.
        response: What the assistant says, without markup; None leaves the response's half empty.
            The prompt's half does not depend on it.
        system_prompt: What the system says, without markup; None for the template's own default.
        earlier_turns: The conversation before the prompt. What the system says there replaces
            ``system_prompt``; a template without a system role has it in front of the first
            question, with a blank line between.

    Raises:
        ValueError: The template fails, leaves out a content, or renders a finished turn differently
            from the prompt for one; or the earlier turns do not alternate.
    """
    template = PLAIN_CHAT_TEMPLATE
    if tokenizer.chat_template:
        template = tokenizer.get_chat_template()  # of several, the one without tools
    system, turns = split_system(earlier_turns)
    texts = [*(turn.text for turn in turns), prompt]
    if system is None:
        chat = _chat(tokenizer, template, system_prompt)
    elif _has_system_role(tokenizer, template):
        chat = _chat_of_row(tokenizer, template, system)
    else:
        chat = _chat(tokenizer, template, None)
        texts[0] = f"{system}\n\n{texts[0]}"
    contents = tuple(map(_Content.of, texts))
    before = _prompt(chat, contents)
    after_answers = chat.after_answers(contents) if turns else ()
    if response is None:
        return ChatText(before, Markup(("",), ()), after_answers)
    answer = chat.response(contents, _Content.of(response), before.text)
    return ChatText(before, answer, after_answers)


@dataclass(frozen=True, eq=False)
class _Chat:
    """A tokenizer's template with a system prompt."""

    tokenizer: PreTrainedTokenizerBase
    template: str
    system: _Content | None
    system_is_read: bool = False
    """The template acts on the system prompt (switches thoughts off, say), as its user wishes."""
    is_of_row: bool = False
    """The system prompt is a row's, not the configuration's."""

    def prompt(self, turns: _Contents) -> Markup:
        """Up to the response."""
        blanks = _joined_blanks(self, len(turns))
        quoted = self.quoted((*turns, _ANY_RESPONSE))
        quoted = quoted.before(quoted.text.index(_RESPONSE) - blanks)
        rendered = self.render((*turns, _ANY_RESPONSE)).partition(_RESPONSE)[0]
        contents = (*turns, self.system) if self.is_of_row and self.system else turns
        return self._choose(rendered[: len(rendered) - blanks], quoted, contents)

    def response(self, turns: _Contents, answer: _Content, prompt: str) -> Markup:
        """From the response on; ``prompt`` is the text before it."""
        quoted = self.quoted((*turns, _ANY_RESPONSE)).text
        start = quoted.index(_RESPONSE) - _joined_blanks(self, len(turns))
        after = self.quoted((*turns, answer)).after(start)
        rendered = self.render((*turns, answer))
        if not rendered.startswith(prompt):
            return after
        return self._choose(rendered[len(prompt) :], after, (answer,))

    def after_answers(self, turns: _Contents) -> tuple[str, ...]:
        """Return what the template writes between each answer and the next question."""
        pieces = self._pieces((*turns, _ANY_RESPONSE))
        stand_ins = [_stand_in(_FIRST_TURN + number) for number in range(1, len(turns), 2)]
        return tuple(pieces[pieces.index(one) + 1] for one in stand_ins)

    def quoted(self, turns: _Contents) -> Markup:
        """Return the template's text with the contents put in for their stand-ins."""
        pieces = self._pieces(turns)
        cores = {_stand_in(_FIRST_TURN + i): turn.core for i, turn in enumerate(turns)}
        cores[_SYSTEM] = "" if self.system is None else self.system.core
        return Markup(pieces[::2], tuple(cores[stand_in] for stand_in in pieces[1::2]))

    def _pieces(self, turns: _Contents) -> tuple[str, ...]:
        system = self.system
        if system is not None and not self.system_is_read:
            system = replace(system, core=_SYSTEM)
        numbered = enumerate(turns, _FIRST_TURN)
        replaced = tuple(replace(turn, core=_stand_in(number)) for number, turn in numbered)
        return _rendered_pieces(self, replaced, system)

    def render(self, turns: _Contents, system: _Content | None = None) -> str:
        """Render the contents by the template itself; an answer is asked for after a question."""
        system = system or self.system
        messages = [] if system is None else [{"role": "system", "content": system.text}]
        for number, turn in enumerate(turns):
            role = "assistant" if number % 2 else "user"
            messages.append({"role": role, "content": turn.text})
        # What templates of released models read; dates are fixed, so that a prompt is the same
        # every day.
        variables = {
            **self.tokenizer.special_tokens_map,
            "messages": messages,
            "tools": None,
            "documents": None,
            "add_generation_prompt": len(turns) % 2 == 1,
            "date_string": TEMPLATE_DATE.strftime("%d %b %Y"),
            "strftime_now": TEMPLATE_DATE.strftime,
        }
        try:
            return render_template(self.template, variables)
        except ValueError as error:
            if system is not None and not self.is_of_row:
                raise ValueError(self.no_system_role(f"fails ({error})")) from error
            what = "a prompt and its response"
            if len(turns) > 2:
                what = f"a conversation of {len(turns)} turns"
            raise ValueError(
                f"the chat template of {self.tokenizer.name_or_path!r} fails on {what} ({error}); "
                "give the tokenizer another chat_template"
            ) from error

    def no_system_role(self, what: str) -> str:
        """The message for a template without one."""
        return (
            f"reasoner.system_prompt is given, and the chat template of "
            f"{self.tokenizer.name_or_path!r} {what}; leave reasoner.system_prompt out, and say in "
            "the prompts what it says"
        )

    def _choose(self, rendered: str, quoted: Markup, contents: _Contents) -> Markup:
        """The contents as they are, or what the template makes of them if more than to trim them.

        Some templates change any content (leave out empty lines, for one), and their models are
        used to it. Only a content with control tokens, or with markup that the template looks for,
        is not for the template to read.
        """
        if rendered == quoted.text:
            return quoted
        if any(has_control_token(self.tokenizer, content.text) for content in contents):
            return quoted
        if any(mark in content.text for mark in _marks(self.template) for content in contents):
            return quoted
        changed = Markup((rendered,), ())
        ids = template_control_ids(self.tokenizer, changed.template)
        return changed if ids == template_control_ids(self.tokenizer, quoted.template) else quoted


@lru_cache(maxsize=8)
def _chat(tokenizer: PreTrainedTokenizerBase, template: str, system_prompt: str | None) -> _Chat:
    if system_prompt is None:
        return _Chat(tokenizer, template, None)
    chat = _Chat(tokenizer, template, _Content.of(system_prompt))
    read = chat.quoted((_PROBE, _PROBE)).text != chat.render((_PROBE, _PROBE))
    return replace(chat, system_is_read=read and not has_control_token(tokenizer, system_prompt))


@lru_cache(maxsize=64)
def _chat_of_row(tokenizer: PreTrainedTokenizerBase, template: str, system: str) -> _Chat:
    return _Chat(tokenizer, template, _Content.of(system), is_of_row=True)


@lru_cache(maxsize=8)
def _has_system_role(tokenizer: PreTrainedTokenizerBase, template: str) -> bool:
    """Some templates refuse what the system says, or leave it out."""
    try:
        _Chat(tokenizer, template, _PROBE)._pieces((_PROBE, _PROBE))
    except ValueError:
        return False
    return True


@lru_cache(maxsize=256)
def _prompt(chat: _Chat, turns: _Contents) -> Markup:
    """Stage 1 has one prompt for all, and the options of a question have theirs in common."""
    return chat.prompt(turns)


@lru_cache(maxsize=64)
def _rendered_pieces(chat: _Chat, turns: _Contents, system: _Content | None) -> tuple[str, ...]:
    """The template's own text in pieces, with a stand-in between one and the next."""
    rendered = chat.render(turns, system)
    pieces = tuple(_STAND_IN.split(rendered))
    names = ["prompt", "response"]
    if len(turns) > 2:
        names = [*["earlier turns"] * (len(turns) - 2), *names]
    for turn, what in zip(turns, names, strict=True):
        if turn.core not in pieces:
            raise ValueError(
                f"the chat template of {chat.tokenizer.name_or_path!r} leaves out the {what}: it "
                f"writes {rendered!r}; give the tokenizer a chat_template that writes the contents "
                "of user and assistant messages"
            )
    if system is not None and system.core == _SYSTEM and _SYSTEM not in pieces:
        raise ValueError(chat.no_system_role(f"leaves it out: it writes {rendered!r}"))
    return pieces


@lru_cache(maxsize=64)
def _joined_blanks(chat: _Chat, num_turns: int) -> int:
    """Blanks before a response that are not written where the model is to answer.

    Raises:
        ValueError: The template renders a finished turn differently from the prompt for one.
    """
    turns = (_PROBE,) * num_turns
    finished = chat.render((*turns, _ANY_RESPONSE)).partition(_RESPONSE)[0]
    prompt = chat.render(turns)
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
