"""SeViLA's texts and tokens.

Texts are those of the released weights (Yui010206/SeViLA@419e728:
lavis/datasets/datasets/mc_video_vqa_datasets.py, lavis/models/sevila_models/sevila.py).
"""

import string
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from vidreason.baselines.questions import bare_question
from vidreason.baselines.sevila.model import SevilaTokens
from vidreason.example import Example
from vidreason.perception.model_folder import (
    TOKENIZER_FILE,
    check_tokenizer_folder,
    foreign_errors,
)
from vidreason.reasoning.control_tokens import Markup, encode_markup

MAX_TEXT_TOKENS = 77
"""Longest text with its end token; longer ones are cut (sevila.py: max_txt_len)."""

_LOCALIZER_REQUEST = (
    "Does the information within the frame provide the necessary details to accurately answer the "
    "given question?"
)
_ANSWERER_REQUEST = (
    "Considering the information presented in the frame, select the correct answer from the "
    "options."
)
_YES_ID = 4273  # of T5's tokenizer, by which the official code knows the word
_LETTER_IDS = (71, 272, 205, 309, 262)
"""Tokens of A to E, and above of "yes", in T5's vocabulary (sevila.py: answer_id, yes_id)."""
_T5_VOCABULARY = 32_100
"""Tokens of T5, those for missing spans included."""


@dataclass(frozen=True)
class SevilaTexts:
    """T5's tokenizer with SeViLA's texts."""

    tokenizer: PreTrainedTokenizerBase

    def localizer_ids(self, example: Example) -> list[int]:
        """Return the text that asks whether a frame helps to answer a question."""
        opening = ["Question: "]
        contents = [_ended(bare_question(example), "?")]
        if example.options:
            contents += [_ended(option, ".") for option in example.options]
            # One bracket around all options, a blank between them.
            opening += [" Options: (", *[" "] * (len(example.options) - 1)]
            closing = f" ) {_LOCALIZER_REQUEST}"
        else:
            closing = f" {_LOCALIZER_REQUEST}"
        return self._text(Markup((*opening, closing), tuple(contents)), MAX_TEXT_TOKENS)

    def choice_ids(self, example: Example) -> list[int]:
        """Return the text that asks for one of the options."""
        contents = [_ended(bare_question(example), "?")]
        contents += [_ended(option, ".") for option in example.options]
        letters = string.ascii_uppercase[: len(example.options)]
        opening = ["Question: ", *(f" Option {letter}: " for letter in letters)]
        markup = Markup((*opening, f" {_ANSWERER_REQUEST}"), tuple(contents))
        return self._text(markup, MAX_TEXT_TOKENS)

    def open_ids(self, prompt: str) -> list[int]:
        """Return a prompt as the answerer's text, whole; officially there are no open questions."""
        return self._text(Markup(("", ""), (prompt,)), None)

    def tokens(self, num_key_frames: int, num_options: int) -> SevilaTokens:
        """Return the ids around frames, and those of answers.

        Raises:
            ValueError: The vocabulary writes ``Option A`` or ``yes`` otherwise than SeViLA needs.
        """
        return SevilaTokens(
            frame=self._plain("Frame: "),
            key_frames=[
                self._plain(f"Frame {number}: ") for number in range(1, num_key_frames + 1)
            ],
            yes=self._last("yes", 1),
            letters=[
                self._last(f"Option {letter}", 2) for letter in string.ascii_uppercase[:num_options]
            ],
        )

    def _text(self, markup: Markup, most: int | None) -> list[int]:
        end = self.tokenizer.eos_token_id
        assert isinstance(end, int)  # load_texts
        ids = encode_markup(self.tokenizer, markup)
        # A text that is cut has its end token all the same.
        return [*(ids if most is None else ids[: most - 1]), end]

    def _plain(self, text: str) -> list[int]:
        return encode_markup(self.tokenizer, Markup((text,), ()))

    def _last(self, text: str, count: int) -> int:
        ids = self._plain(text)
        if len(ids) != count:
            raise ValueError(
                f"weights.blip2: its tokenizer writes {text!r} as {len(ids)} tokens; SeViLA reads "
                f"answers of {count}, as T5's writes them"
            )
        return ids[-1]


def load_texts(folder: Path) -> SevilaTexts:
    """Load T5's tokenizer.

    Only transformers' class for any ``tokenizer.json`` gives the official ids: the T5 tokenizer of
    transformers 5 drops the blank behind ``Frame 1:``.

    Raises:
        ValueError: The folder has no ``tokenizer.json``, or it is damaged, or its ids are not T5's
            although it has T5's number of tokens.
    """
    where = f"weights.blip2 {str(folder)!r}"
    if not (folder / TOKENIZER_FILE).is_file():
        raise ValueError(
            f"{where} has no {TOKENIZER_FILE}, without which the official token ids cannot be had; "
            "take that of Salesforce/blip2-flan-t5-xl"
        )
    check_tokenizer_folder(folder)
    with foreign_errors(f"{where}: {TOKENIZER_FILE}"):
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    if not isinstance(tokenizer.eos_token_id, int):
        raise ValueError(f"{where}: its tokenizer names no eos_token; name </s>")
    texts = SevilaTexts(tokenizer)
    tokens = texts.tokens(1, len(_LETTER_IDS))
    if tokenizer.vocab_size >= _T5_VOCABULARY:
        _check_official(where, tokens)
    return texts


def _check_official(where: str, tokens: SevilaTokens) -> None:
    if tokens.yes != _YES_ID or tuple(tokens.letters) != _LETTER_IDS:
        raise ValueError(
            f"{where}: its tokenizer has T5's number of tokens, but writes yes and A to E as "
            f"{tokens.yes} and {tokens.letters} instead of {_YES_ID} and {list(_LETTER_IDS)}; take "
            "the tokenizer of Salesforce/blip2-flan-t5-xl"
        )


def _ended(text: str, mark: str) -> str:
    """End a text with a mark, as the prepared annotations of NExT-QA do."""
    text = text.strip()
    return text if text.endswith((".", "?", "!")) else text + mark
