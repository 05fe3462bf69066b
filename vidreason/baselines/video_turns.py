"""A question about a video and its answer in a model's chat markup, with contents marked as such.

A template of a video model gets messages whose content is a list: the video, then the text. It is
rendered with stand-ins for the texts, so that a question never reads as markup; what a processor
puts in the place of the video is added before the texts are put in.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from vidreason.reasoning.bounded_templates import render_template
from vidreason.reasoning.chat_markup import TEMPLATE_DATE
from vidreason.reasoning.control_tokens import Markup, template_control_ids

RELEASED_WITHOUT_TEMPLATE = {
    "video_llava": (
        "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
        "{% for part in message['content'] %}"
        "{{ '<video>\n' if part['type'] == 'video' else part['text'] + ' ' }}"
        "{% endfor %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    )
}
"""Chat templates by type of model, for released models whose repository has none: Video-LLaVA's
``USER: <video>\\n{question} ASSISTANT:`` (its page in the documentation of transformers;
LanguageBind/Video-LLaVA-7B-hf@68ecfc2 has no template)."""

_SECRET = "".join(str(secrets.randbelow(10)) for _ in range(24))
# Digits, which no filter on letter case changes, between characters that belong to no word.
_QUESTION, _RESPONSE = (f"~{_SECRET}{index}~" for index in range(2))


@dataclass(frozen=True)
class TurnForm:
    """Form of one turn: a template's text with stand-ins for the question and the response."""

    prompt: str
    """Up to the response, with the video's token where one is shown."""
    blank: str
    """Written before the response; a tokenizer joins it to the first word."""
    after: str
    """Written after the response."""

    def prompt_markup(self, question: str, expanded: str | None = None) -> Markup:
        """Put a question into the prompt.

        Args:
            question: Without markup.
            expanded: The prompt with the video's token replaced; None for the prompt itself.
        """
        pieces = (self.prompt if expanded is None else expanded).split(_QUESTION)
        return Markup(tuple(pieces), (question,) * (len(pieces) - 1))

    def response_markup(self, response: str) -> Markup:
        """Put a response after the blank; what ends the turn is not in it."""
        return Markup((self.blank, ""), (response,))


class ChatForm(NamedTuple):
    """The two forms of a turn that a video model's template has."""

    with_video: TurnForm
    text_only: TurnForm


def chat_form(template: str, tokenizer: PreTrainedTokenizerBase, where: str) -> ChatForm:
    """Return the forms of a turn that a template writes.

    Args:
        template: A chat template for messages whose content is a list.
        tokenizer: With the special tokens that the template may name.
        where: Field and value that the template comes from, for messages.

    Raises:
        ValueError: The template fails, or leaves out the question, the response or the video.
    """
    turns = [_turn_form(template, tokenizer, where, shows_video=shows) for shows in (True, False)]
    if turns[0].prompt == turns[1].prompt:
        raise ValueError(
            f"{where}: its chat template writes nothing for a video; take the template of a model "
            "that answers questions about videos"
        )
    return ChatForm(*turns)


def end_of_turn_id(form: TurnForm, tokenizer: PreTrainedTokenizerBase, where: str) -> int:
    """Return the token that ends a response: the template's first control token, or end of text.

    Raises:
        ValueError: There is neither.
    """
    ids = template_control_ids(tokenizer, ("", form.after))
    ids += [tokenizer.eos_token_id] if isinstance(tokenizer.eos_token_id, int) else []
    if not ids:
        raise ValueError(
            f"{where}: neither its chat template nor its tokenizer has a token that ends an "
            "answer; give the tokenizer an eos_token"
        )
    return ids[0]


def _turn_form(
    template: str, tokenizer: PreTrainedTokenizerBase, where: str, *, shows_video: bool
) -> TurnForm:
    question: list[dict[str, Any]] = [{"role": "user", "content": _parts(_QUESTION, shows_video)}]
    response = {"role": "assistant", "content": _parts(_RESPONSE, False)}
    prompt = _render(template, tokenizer, where, question, add_generation_prompt=True)
    finished = _render(
        template, tokenizer, where, [*question, response], add_generation_prompt=False
    )
    for text, stand_in, what in ((prompt, _QUESTION, "question"), (finished, _RESPONSE, "answer")):
        if stand_in not in text:
            raise ValueError(
                f"{where}: its chat template leaves out the {what}: it writes {text!r:.400}; give "
                "it a template that writes the contents of user and assistant messages"
            )
    before, _, after = finished.partition(_RESPONSE)
    blank = ""
    if before.startswith(prompt) and before[len(prompt) :].strip():
        # More than blanks, such as an empty block of thoughts, is not the model's to write.
        prompt, before = before.rstrip(" "), before
        blank = before[len(prompt) :]
    elif before.startswith(prompt):
        # A tokenizer joins one blank to the word after it ("ASSISTANT: A"); some templates write
        # a new line that they leave out where they ask for an answer, as their models expect.
        blank = " " if before[len(prompt) :] == " " else ""
    elif prompt.startswith(before):
        prompt = before  # some prompts open a block of thoughts: a finished turn has none
    return TurnForm(prompt, blank, after)


def _parts(text: str, shows_video: bool) -> list[dict[str, str]]:
    return [*([{"type": "video"}] if shows_video else []), {"type": "text", "text": text}]


def _render(
    template: str,
    tokenizer: PreTrainedTokenizerBase,
    where: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    add_generation_prompt: bool,
) -> str:
    variables = {
        **tokenizer.special_tokens_map,
        "messages": list(messages),
        "tools": None,
        "documents": None,
        "add_generation_prompt": add_generation_prompt,
        "date_string": TEMPLATE_DATE.strftime("%d %b %Y"),
        "strftime_now": TEMPLATE_DATE.strftime,
    }
    try:
        return render_template(template, variables)
    except ValueError as error:
        raise ValueError(
            f"{where}: its chat template fails on a question about a video ({error}); give it one "
            "for messages whose content is a list of parts"
        ) from error
