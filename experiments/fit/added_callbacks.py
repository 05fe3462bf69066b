"""Callbacks from outside of this project, as ``trainer.callbacks`` names them."""

import inspect
from collections.abc import Mapping
from typing import Any

from lightning.pytorch.callbacks import Callback

from experiments.experiment_config import CALLBACK_GROUP
from vidreason.added_parts import check_methods, load_class, part_errors

_PROTOCOL = "lightning.pytorch.callbacks.Callback"
# Of these, those that a callback overrides have to take what Lightning calls them with.
_HOOKS = [name for name in vars(Callback) if callable(getattr(Callback, name)) and name[0] != "_"]


def added_callbacks(configured: Mapping[str, Mapping[str, Any]]) -> list[Callback]:
    """Make the callbacks, in the order of the configuration.

    Args:
        configured: From a name to the arguments that the callback is made with.

    Raises:
        ValueError: One cannot be imported, is no callback, does not take its arguments, or has a
            hook that does not take what Lightning calls it with.
    """
    check_callbacks(configured)
    callbacks = []
    for name, arguments in configured.items():
        with part_errors(CALLBACK_GROUP, name):
            callbacks.append(load_class(CALLBACK_GROUP, name, Callback, _PROTOCOL)(**arguments))
    return callbacks


def check_callbacks(configured: Mapping[str, Mapping[str, Any]]) -> None:
    """Make sure that the callbacks can be made; makes none.

    Raises:
        ValueError: As :func:`added_callbacks`, but for what only making one shows.
    """
    for name, arguments in configured.items():
        callback = load_class(CALLBACK_GROUP, name, Callback, _PROTOCOL)
        check_methods(CALLBACK_GROUP, name, callback, Callback, _HOOKS)
        signature = inspect.signature(callback)
        try:
            signature.bind(**arguments)
        except TypeError as error:
            raise ValueError(
                f"trainer.callbacks.{name} is made with {dict(arguments)}: {error}; it takes "
                f"{signature}"
            ) from error
