"""Which option of a multiple-choice question an answer names."""

from collections.abc import Sequence

from vidreason.evaluation.answers.conclusion import conclusion
from vidreason.evaluation.answers.mentions import (
    Mention,
    Strength,
    letter_mentions,
    text_mentions,
)
from vidreason.evaluation.answers.reading import NOWHERE, Reading
from vidreason.evaluation.answers.texts import without_label
from vidreason.evaluation.answers.yes_no import is_yes_no, leading_yes_no, named_yes_no
from vidreason.reasoning.plain_text import normalise_answer


def parse_choice(text: str, options: Sequence[str]) -> int | None:
    r"""Index of the option that ``text`` commits to, or None when it is none or more than one.

    Left out are thoughts and markup; ``<answer>``, ``\boxed`` or a JSON key "answer" say where the
    answer is (:func:`~vidreason.evaluation.answers.conclusion.conclusion`). Then, in this order:

    1. the text of one option, and nothing else;
    2. for the options yes and no: the word that the answer begins with;
    3. the last letter or text that is said to be the answer: "the answer is B", "so (b)", "B is
       correct", "No wait, B";
    4. the last letter at the start of a line or alone in a clause: "B", "B. the text", "Hm, B.";
    5. the only letter in brackets or after "option";
    6. the only option whose text is there.

    Letters of a list of options ("A. a dog B. a cat") and options that are taken back ("not B", "C
    is wrong") do not count, nor does the article "A" or the word "I". All letters are treated
    alike. Several at once ("A or B"), a letter beyond the options, or a letter before the text of
    another option name none. Of options with the same text, the text names the first.

    Args:
        text: What was generated.
        options: The options' texts, in the order of their letters; at most 26.

    Raises:
        ValueError: There is no option, or more than 26.
    """
    if not options or len(options) > 26:
        raise ValueError(f"expected 1 to 26 options, found {len(options)}")
    # In the order of the list above; the first rule that finds something decides.
    said = conclusion(text)
    exact = _exact(said, options)
    if exact is not None:
        return exact
    reading = Reading(said, options)
    if is_yes_no(options):
        leading = leading_yes_no(reading)
        if leading is not None:
            return _only(leading, reading)
    letters, texts = list(letter_mentions(reading)), text_mentions(reading)
    said_to_be = [one for one in (*letters, *texts) if one.strength is Strength.SAID]
    if said_to_be:
        return _chosen(max(said_to_be, key=lambda one: one.start), reading)
    if letters:
        return _by_letter(letters, reading)
    if is_yes_no(options):
        return _only(named_yes_no(reading), reading)
    return _by_text(texts, reading)


def _exact(said: str, options: Sequence[str]) -> int | None:
    """The option whose text is all that is said; a single capital letter is a letter."""
    stripped = said.strip()
    if stripped in options:
        return options.index(stripped)
    if len(stripped) == 1 and stripped.isupper():
        return None
    wanted = normalise_answer(without_label(stripped))
    normalised = [normalise_answer(option) for option in options]
    return normalised.index(wanted) if wanted and wanted in normalised else None


def _by_letter(mentions: Sequence[Mention], reading: Reading) -> int | None:
    listed = set(_listed(mentions))
    mentioned = [one for number, one in enumerate(mentions) if number not in listed]
    alone = [one for one in mentioned if one.strength is Strength.ALONE]
    if alone:
        return _chosen(alone[-1], reading)
    casual = [one for one in mentioned if one.strength is Strength.CASUAL]
    named = frozenset[int]().union(*(one.choices for one in casual))
    if casual:
        return _only(named, reading)
    # Only letters of a list, or none that may be one: what else is there decides.
    return None if listed else _by_text(text_mentions(reading), reading)


def _listed(mentions: Sequence[Mention]) -> list[int]:
    """Places of the mentions that are a list of options: letters of one form in rising order."""
    listed: list[int] = []
    for style in {one.style for one in mentions if one.style.strip()}:
        run: list[int] = []
        for number, one in enumerate(mentions):
            if one.style != style:
                continue
            # A letter that is not beyond the last one begins another list.
            if run and one.choices <= {NOWHERE} | _up_to(mentions[run[-1]]):
                listed += run if len(run) > 1 else []  # one alone is none
                run = []
            run.append(number)
        listed += run if len(run) > 1 else []
    return listed


def _up_to(mention: Mention) -> set[int]:
    return set(range(max(mention.choices) + 1))


def _chosen(mention: Mention, reading: Reading) -> int | None:
    """The option of a mention, unless the text after its letter is that of another one."""
    index = _only(mention.choices, reading)
    if index is None or not reading.tokens[mention.start].is_letter:
        return index
    rest = reading.rest_of_line(mention.start + 1)
    wanted = reading.option_words[index]
    return None if rest != wanted and rest in set(filter(None, reading.option_words)) else index


def _by_text(mentions: Sequence[Mention], reading: Reading) -> int | None:
    """The only option that is named, or the one that the answer begins with as a clause of its own.

    Of the second, no other may stand as a clause of its own: "The ball. It does not hit the cube."
    """
    named = frozenset[int]().union(*(one.choices for one in mentions))
    if len(named) > 1:
        alone = [one for one in mentions if one.strength is Strength.ALONE]
        first = mentions[0]
        if len(alone) == 1 and alone[0] is first and reading.starts_line(first.start):
            named = first.choices
    return _only(named, reading)


def _only(choices: frozenset[int], reading: Reading) -> int | None:
    """The one option of a set, or the first of several with the same text."""
    texts = {reading.option_words[index] if index != NOWHERE else None for index in choices}
    if len(choices) == 1 or (len(texts) == 1 and texts != {()}):
        index = min(choices)
        return index if index != NOWHERE else None
    return None
