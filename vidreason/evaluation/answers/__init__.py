"""From generated text to an answer: which option, span or short answer a model has committed to.

A text that names none, or more than one, is invalid: it counts as wrong, stays in the denominator
and is reported. Nothing is ever guessed at random, and no letter is preferred to another.
"""

from vidreason.evaluation.answers.choices import parse_choice
from vidreason.evaluation.answers.spans import parse_span
from vidreason.evaluation.answers.texts import short_answer
from vidreason.reasoning.plain_text import normalise_answer

__all__ = ["PARSER_VERSION", "normalise_answer", "parse_choice", "parse_span", "short_answer"]

PARSER_VERSION = 2
"""Version of the rules by which outputs become answers and are scored. To be raised with any change
after which some output has another value: numbers of before and after are then not comparable."""
