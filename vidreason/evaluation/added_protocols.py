"""Protocols of corpora that have none in this project, as ``evaluation.protocols`` names them."""

from collections.abc import Mapping

from vidreason.added_parts import check_part, load_part
from vidreason.evaluation.config import EvaluationConfig
from vidreason.evaluation.protocols import PROTOCOLS, Protocol

PROTOCOL_GROUP = "vidreason.protocols"
"""Group of the entry points by which installed packages add protocols: instances of
:class:`vidreason.evaluation.protocols.Protocol`."""


def corpus_protocols(config: EvaluationConfig) -> Mapping[str, Protocol]:
    """Return ``PROTOCOLS`` and those that are configured for further corpora.

    Raises:
        ValueError: A configured one cannot be imported or is no protocol, or its corpus has one in
            this project, whose numbers would then not be the benchmark's.
    """
    if not config.protocols:
        return PROTOCOLS
    added = {}
    for corpus, name in config.protocols.items():
        field = f"evaluation.protocols.{corpus}"
        if corpus in PROTOCOLS:
            raise ValueError(
                f"{field} is {name!r}, but {corpus!r} is scored as its benchmark is: take it off"
            )
        check_part(field, name, PROTOCOL_GROUP, PROTOCOLS)
        added[corpus] = PROTOCOLS.get(name) or load_part(
            PROTOCOL_GROUP, name, Protocol, "vidreason.evaluation.protocols.Protocol"
        )
    return PROTOCOLS | added
