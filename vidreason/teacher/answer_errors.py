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
