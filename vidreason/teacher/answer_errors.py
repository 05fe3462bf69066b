"""The error of an answer that gives no draft."""

from vidreason.secrets import printable
from vidreason.teacher.verdicts import Rejection

MAX_DETAIL_CHARS = 300
"""Length of a remark on an answer."""


class AnswerError(ValueError):
    """An answer is no draft.

    Args:
        cause: The step of the gate at which it ends.
        detail: Remark for the report, which may quote the answer.

    Attributes:
        cause: As given.
        detail: One line, printable, of at most ``MAX_DETAIL_CHARS`` characters.
    """

    def __init__(self, cause: Rejection, detail: str) -> None:
        self.cause: Rejection = cause
        self.detail = printable(detail, MAX_DETAIL_CHARS)
        super().__init__(f"{cause}: {self.detail}")


def shown(value: object) -> str:
    """A value of an answer in a remark; long ones are cut and nested ones left out."""
    match value:
        case str():
            return repr(value) if len(value) <= 60 else f"{value[:57]!r}..."
        case int() if value.bit_length() > 64:
            return f"a number of {value.bit_length()} bits"
        case None | bool() | int() | float():
            return repr(value)
        case list():
            return f"a list of {len(value)}"
    return "an object"
