"""Errors that callers of an endpoint meet."""

from typing_extensions import override

from vidreason.errors import ReportedError


class EndpointUnavailableError(ReportedError, RuntimeError):
    """No output could be had, for reasons that may pass: started again later, it may work."""

    @override
    def lines(self) -> list[str]:
        return [f"{self}; start again to go on from here: the replies so far are kept"]


class BudgetSpentError(ReportedError):
    """As many requests were paid for as the configuration allows; the replies so far are kept."""


class EndpointRefusedError(ValueError):
    """The endpoint refuses the request, the key or the URL; one of them has to be changed."""
