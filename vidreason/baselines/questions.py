"""Questions without the wording that our reasoner is asked in, for systems with their own."""

import re
import string

from vidreason.example import Example
from vidreason.reasoning.prompts import multiple_choice_prompt, open_ended_prompt

_BRIEF = open_ended_prompt("").rstrip()
_NEXT = re.compile(r"what (?:happens|comes|is|will (?:happen|come)) next\??", re.IGNORECASE)


def bare_question(example: Example) -> str:
    """Return a question's own words; what stands before it, such as a scene's boxes, stays."""
    if example.options:
        # The lettered lines and the closing request, as they follow an empty question.
        ending = multiple_choice_prompt("", example.options)
        return example.prompt.removesuffix(ending).strip()
    return example.prompt.strip().removesuffix(_BRIEF.strip()).strip()


def is_about_next(example: Example) -> bool:
    """Tell whether a question asks what happens after all that is shown.

    Its type names prediction, as CLEVRER's, STAR's and MVBench's do; or it is "What happens next?"
    in these or like words, as in the benchmarks of continuations.
    """
    if "predict" in example.question_type.casefold():
        return True
    return _NEXT.fullmatch(bare_question(example)) is not None


def letter_prompt(example: Example) -> str:
    """Ask for the letter of one of the options."""
    lines = [
        f"{letter}. {option.strip()}"
        for letter, option in zip(string.ascii_uppercase, example.options, strict=False)
    ]
    request = "Answer with the letter of the right option."
    return "\n".join([bare_question(example), *lines, request])


def letters(example: Example) -> str:
    """Return the letters of a question's options."""
    return string.ascii_uppercase[: len(example.options)]
