"""Video event reasoning and prediction: why something happened, and what happens next.

``vidreason.load()`` gives a reasoner that answers about videos; see :mod:`vidreason.pipeline`.
"""

import importlib
from typing import Any

__all__ = ["VideoPipeline", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever has the name
    # torch and transformers take seconds to import, and --version needs neither.
    if name in __all__:
        return getattr(importlib.import_module("vidreason.pipeline"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
