"""Protocols of corpora that have none in this project, as ``evaluation.protocols`` names them."""

from collections.abc import Mapping

from vidreason.added_parts import check_call, check_part, load_part, part_name
from vidreason.evaluation.config import EvaluationConfig
from vidreason.evaluation.protocols import PROTOCOLS, Protocol, accuracy

PROTOCOL_GROUP = "vidreason.protocols"
"""Group of the entry points by which installed packages add protocols: instances of
:class:`vidreason.evaluation.protocols.Protocol`."""


def corpus_protocols(config: EvaluationConfig) -> Mapping[str, Protocol]:
    """Return ``PROTOCOLS`` and those that are configured for further corpora.

    Raises:
        ValueError: A configured one cannot be imported or is no protocol, its measures take
            something else than a row, or its corpus has one in this project, whose numbers would
            then not be the benchmark's.
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
        added[corpus] = PROTOCOLS.get(name) or _added_protocol(name)
    return PROTOCOLS | added


def _added_protocol(name: str) -> Protocol:
    kind = "vidreason.evaluation.protocols.Protocol"
    protocol = load_part(PROTOCOL_GROUP, name, Protocol, kind)
    scores = {"further": protocol.further, "texts": protocol.texts}
    functions = {"measure": protocol.measure, "joint_measure": protocol.joint_measure}
    for field, named in scores.items():
        for score in named:
            functions[f"{field}[{score!r}].measure"] = named[score].measure
            functions[f"{field}[{score!r}].applies"] = named[score].applies
    for field, function in functions.items():
        where = f"{part_name(PROTOCOL_GROUP, name)}: its {field}"
        # A function that takes something else would fail only when the answers are scored.
        check_call(where, function, accuracy, "accuracy")
    return protocol
