"""Video event reasoning and prediction: why something happened, and what happens next.

``vidreason.load()`` gives a reasoner that answers about videos; see :mod:`vidreason.pipeline`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidreason.pipeline import VideoPipeline, load

__all__ = ["VideoPipeline", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever has the name
    # torch and transformers take seconds to import, and --version needs neither.
    if name in __all__:
        from vidreason import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
