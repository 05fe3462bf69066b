"""``ReportedError``: what programs say in a line, without a traceback."""


class ReportedError(Exception):
    """Data, files or a training run are at fault, not the program; the message is for the user."""

    def lines(self) -> list[str]:
        """Return the message by lines; one, except for summaries."""
        return [str(self)]
