"""Video-LLaMA's chat forms, as token ids around a slot for the video.

The texts between the pieces of markup are those that the released weights were trained with
(DAMO-NLP-SG/Video-LLaMA@64888c0: demo_video.py, video_llama/conversation/conversation_video.py).
The pieces before and after the slot are tokenized by themselves, BOS before the first only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from transformers import LlamaTokenizer, PreTrainedTokenizerBase

from vidreason.json_object import read_json_object
from vidreason.perception.model_folder import (
    TOKENIZER_CONFIG_FILE,
    check_tokenizer_folder,
    foreign_errors,
)
from vidreason.reasoning.control_tokens import Markup, encode_markup
from vidreason.reasoning.language_model import load_tokenizer
from vidreason.reasoning.reasoner_config import LanguageModelConfig
from vidreason.reasoning.tokenization import answer_text

Form = Literal["llama-2", "vicuna"]
"""The chat form that the language model was tuned for: Llama-2-chat's, or Vicuna v0's."""

SYSTEM_PROMPT = (
    "You are able to understand the visual content that the user provides. Follow the "
    "instructions carefully and explain your answers in detail."
)
"""demo_video.py: upload_imgorvideo."""
_STOP = "###"
_SPEAKER: dict[Form, str] = {"llama-2": "ASSISTANT:", "vicuna": "Assistant:"}
"""Names that the answer may begin with again; what stands up to the last of them is dropped."""
_OFFICIAL_STOPS = ([835], [2277, 29937])
"""Ids of :data:`_STOP` in Llama's vocabulary, behind a blank and without one
(conversation_video.py: Chat.answer)."""
_LLAMA_VOCABULARY = 32_000  # tokens of the first LLaMA, whose stop sequences are known
_MARKS: dict[Form, tuple[str, ...]] = {
    "llama-2": ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"),
    "vicuna": (_STOP,),
}
"""Marks that end or begin a turn. A question that holds one gets a blank into it."""


class Prompt(NamedTuple):
    """Token ids of a prompt."""

    ids: list[int]
    """Without any for the video."""
    slot: int | None
    """Number of ids before the video's tokens; None without a video."""
    ending: Markup
    """The last piece, behind which the answer is tokenized."""


@dataclass(frozen=True)
class ChatForm:
    """A tokenizer with a chat form."""

    tokenizer: PreTrainedTokenizerBase
    form: Form

    def prompt(self, question: str, message: str | None) -> Prompt:
        """Return the ids of a question up to where its answer begins.

        Args:
            question: What the user says.
            message: When the frames were taken, from :func:`frames_message`; None for a prompt
                without a video.
        """
        opening, closing = self._turn()
        plain = _without_marks(question, _MARKS[self.form])
        bos = self.tokenizer.bos_token_id
        ids = [bos] if isinstance(bos, int) else []
        if message is None:
            ending = Markup((opening, closing), (plain,))
            return Prompt(ids + encode_markup(self.tokenizer, ending), None, ending)
        ids += encode_markup(self.tokenizer, Markup((f"{opening}<Video>",), ()))
        # The message ends in a blank, and another one joins it with the question.
        ending = Markup((f"</Video> {message} ", closing), (plain,))
        return Prompt(ids + encode_markup(self.tokenizer, ending), len(ids), ending)

    def answer_ids(self, prompt: Prompt, answer: str) -> list[int]:
        """Return the ids of an answer behind a prompt, which a blank separates from it."""
        before = encode_markup(self.tokenizer, prompt.ending)
        plain = _without_marks(answer.strip(), _MARKS[self.form])
        joined = encode_markup(self.tokenizer, prompt.ending + Markup((" ", ""), (plain,)))
        # A tokenizer that joins the prompt's end with the answer leaves nothing to cut off.
        if joined[: len(before)] == before and len(joined) > len(before):
            return joined[len(before) :]
        return encode_markup(self.tokenizer, Markup(("", ""), (plain,)))

    @property
    def ending_ids(self) -> list[int]:
        """Ids that end an answer, in the text that options are scored by."""
        if self.form == "vicuna":
            return self.stop_sequences[1]  # behind the answer, without a blank
        return self.stop_ids

    @property
    def stop_ids(self) -> list[int]:
        """The token that ends an answer; Llama's is 2."""
        assert isinstance(self.tokenizer.eos_token_id, int)  # load_chat_form
        return [self.tokenizer.eos_token_id]

    @property
    def stop_sequences(self) -> list[list[int]]:
        """Tokens that end an answer together: those of ``###`` behind a blank, or behind none."""
        if self.form == "llama-2":
            return []
        return [
            _ids_behind(self.tokenizer, "a", f" {_STOP}"),
            _ids_behind(self.tokenizer, "\n", _STOP),
        ]

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of a generated answer.

        One token for unknown letters and one BOS before it are dropped (Chat.answer).
        """
        answer = list(ids)
        for token in (self.tokenizer.unk_token_id, self.tokenizer.bos_token_id):
            if answer and answer[0] == token:
                answer = answer[1:]
        text = answer_text(self.tokenizer, answer)
        if self.form == "vicuna":
            text = text.split(_STOP)[0]
        return text.split(_SPEAKER[self.form])[-1].strip()

    def _turn(self) -> tuple[str, str]:
        if self.form == "vicuna":
            return f"{SYSTEM_PROMPT}{_STOP}Human: ", f"{_STOP}Assistant:"
        return f"[INST] <<SYS>>\n{SYSTEM_PROMPT}\n<</SYS>>\n\n", " [/INST]"


def frames_message(indices: Sequence[int], rate: float) -> str:
    """Return the sentence about the frames' times (video_processor.py: load_video).

    Args:
        indices: Numbers of the frames.
        rate: Frames per second.
    """
    seconds = ", ".join(str(round(index / rate, 1)) for index in indices)
    return f"The video contains {len(indices)} frames sampled at {seconds} seconds. "


def load_chat_form(folder: Path, form: Form) -> ChatForm:
    """Load the tokenizer of the language model.

    Officially it is Llama's slow one of transformers 4.28. Its ids are those of the Llama tokenizer
    of transformers 5, and not those of a ``tokenizer.json`` of that time.

    Args:
        folder: Of the language model.
        form: Chat form.

    Raises:
        ValueError: The tokenizer is missing or damaged, has no end token, or has Llama's number of
            tokens with other ids.
    """
    check_tokenizer_folder(folder)
    where = f"weights: the tokenizer of {str(folder)!r}"
    if _is_llama(folder):
        remedy = "tokenizer.model needs pip install 'vidreason[baselines]'"
        with foreign_errors(f"{where} cannot be loaded; {remedy}"):
            tokenizer: PreTrainedTokenizerBase = LlamaTokenizer.from_pretrained(folder)
    else:
        tokenizer = load_tokenizer(LanguageModelConfig(name_or_path=str(folder)))
    if not isinstance(tokenizer.eos_token_id, int):
        raise ValueError(f"{where} names no eos_token; name it in tokenizer_config.json")
    chat = ChatForm(tokenizer, form)
    is_llama = tokenizer.vocab_size == _LLAMA_VOCABULARY
    if form == "vicuna" and is_llama and chat.stop_sequences != list(_OFFICIAL_STOPS):
        raise ValueError(
            f"{where} has the number of tokens of Llama's, but {_STOP!r} is {chat.stop_sequences} "
            f"instead of {list(_OFFICIAL_STOPS)}; take the tokenizer that came with the language "
            "model"
        )
    return chat


def _is_llama(folder: Path) -> bool:
    path = folder / TOKENIZER_CONFIG_FILE
    named = read_json_object(path).get("tokenizer_class") if path.is_file() else None
    if named is None:
        return (folder / "tokenizer.model").is_file()
    return named in ("LlamaTokenizer", "LlamaTokenizerFast")


def _ids_behind(tokenizer: PreTrainedTokenizerBase, text: str, more: str) -> list[int]:
    before = encode_markup(tokenizer, Markup((text,), ()))
    return encode_markup(tokenizer, Markup((text + more,), ()))[len(before) :]


def _without_marks(text: str, marks: Sequence[str]) -> str:
    for mark in marks:
        # Again and again: in "####" the first blank leaves "# ###".
        while mark in text:
            text = text.replace(mark, f"{mark[0]} {mark[1:]}")
    return text
