"""A conversation about one video: questions and answers as turns of the chat template."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from vidreason.answer import Answer
from vidreason.example import Turn
from vidreason.model import DecodingConfig
from vidreason.reasoning.prompts import open_ended_prompt

Generate = Callable[[str, DecodingConfig | None, Sequence[Turn], bool], Answer]
"""Answers a prompt after earlier turns; the last argument says whether evidence is computed."""
CountTokens = Callable[[str, Sequence[Turn]], int]


class Chat:
    """A conversation about one video; each question may refer to those before it.

    The earliest questions are left out, with their answers, where all of them would be longer than
    what the language model reads; the answer then says so among its warnings.

    Args:
        generate: Answers.
        count_tokens: Of a prompt after earlier turns.
        room: Tokens that a prompt may have, by how the answer is decoded; None for any number.

    Attributes:
        turns: Questions and answers so far, those that are left out included.
    """

    def __init__(
        self,
        generate: Generate,
        count_tokens: CountTokens,
        room: Callable[[DecodingConfig | None], int | None],
    ) -> None:
        self._generate = generate
        self._count_tokens = count_tokens
        self._room = room
        self.turns: list[tuple[str, Answer]] = []

    def ask(
        self, question: str, *, decoding: DecodingConfig | None = None, evidence: bool = True
    ) -> Answer:
        """Ask the next question, after what was said before as turns of the chat template.

        A question that is refused is no part of the conversation.

        Raises:
            ValueError: It is empty, no text, or longer than what the language model reads.
        """
        prompt = open_ended_prompt(checked_question(question))
        turns: list[Turn] = []
        # Earlier questions in the form in which they were asked.
        for before, given in self.turns:
            turns += Turn("user", open_ended_prompt(before)), Turn("assistant", given.text)
        room, kept = self._room(decoding), turns
        while kept and room is not None and self._count_tokens(prompt, kept) > room:
            kept = kept[2:]  # a question with its answer
        answer = self._generate(prompt, decoding, kept, evidence)
        if len(kept) < len(turns):
            cut = (
                f"the conversation is longer than the {room} tokens that there is room for: the "
                f"first {(len(turns) - len(kept)) // 2} of {len(turns) // 2} earlier questions "
                "were left out, with their answers"
            )
            answer = replace(answer, warnings=(*answer.warnings, cut))
        self.turns.append((question, answer))
        return answer

    def __str__(self) -> str:
        return "\n".join(f"> {question}\n{answer}" for question, answer in self.turns)


def checked_question(question: str) -> str:
    """Return a question that can be asked.

    Raises:
        ValueError: It is no text, or empty.
    """
    if not isinstance(question, str):
        raise ValueError(f"question: expected a text, found {type(question).__name__}")
    if not question.strip():
        raise ValueError("question: found an empty text; ask something")
    try:
        question.encode()
    except UnicodeEncodeError as error:
        character = ord(question[error.start])
        raise ValueError(
            f"question: the character U+{character:04X} at {error.start} is half of one; give "
            "whole characters"
        ) from error
    return question


def checked_options(options: Sequence[str]) -> Sequence[str]:
    """Return answers that can be chosen from.

    A single text would be taken for a list of its letters.

    Raises:
        ValueError: They are no sequence of texts, or one of them is empty.
    """
    remedy = "give two or more answers in a list, such as ['red', 'blue']"
    if isinstance(options, str | bytes) or not isinstance(options, Sequence):
        raise ValueError(
            f"options: expected a list of texts, found {type(options).__name__}; {remedy}"
        )
    for number, option in enumerate(options):
        if not isinstance(option, str):
            raise ValueError(
                f"options[{number}]: expected a text, found {type(option).__name__}; {remedy}"
            )
        if not option.strip():
            raise ValueError(f"options[{number}]: found an empty text; {remedy}")
    return options
