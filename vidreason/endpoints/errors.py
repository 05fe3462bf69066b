"""Errors that callers of an endpoint meet."""


class EndpointUnavailableError(RuntimeError):
    """No output could be had, for reasons that may pass: started again later, it may work."""


class EndpointRefusedError(ValueError):
    """The endpoint refuses the request, the key or the URL; one of them has to be changed."""
