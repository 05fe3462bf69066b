"""The report of a benchmark: its numbers as JSON, and as Markdown."""

import json
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vidreason.atomic_file import write_atomically
from vidreason.markdown import code, escaped


def write_report(
    folder: Path, name: str, measured: Mapping[str, Any], tables: Iterable[str]
) -> None:
    """Write ``<name>.json`` and ``<name>.md`` to ``folder``, which is made if need be, each whole.

    Args:
        folder: Where to.
        name: The benchmark's.
        measured: Its numbers, with ``command``, ``machine``, and whether they are ``complete``.
        tables: Its numbers as pieces of Markdown.

    Raises:
        ValueError: The folder cannot be written to.
    """
    pieces = [f"# {name}", _circumstances(measured), *tables]
    if not measured["complete"]:
        pieces.append("The benchmark was still running, or was killed: more was to come.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / f"{name}.json", json.dumps(measured, indent=2) + "\n")
        write_atomically(folder / f"{name}.md", "\n\n".join(pieces) + "\n")
    except OSError as error:
        raise ValueError(
            f"--output-dir is {str(folder)!r}, which cannot be written to ({error}); name a folder "
            "of yours"
        ) from error


def _circumstances(measured: Mapping[str, Any]) -> str:
    """Command, machine and revision of the measurement."""
    machine = measured["machine"]
    devices = ", ".join(machine["devices"]) or "no GPU"
    versions = ", ".join(
        f"{package} {version}"
        for package, version in machine["versions"].items()
        if package in ("torch", "transformers", "lightning")
    )
    lines = [_model(measured["model"]), ""] if "model" in measured else []
    return "\n".join(
        [
            *lines,
            f"*Measured* with {code(shlex.join(measured['command']))} at revision "
            f"{code(str(machine['git']))}.",
            "",
            f"{escaped(machine['processor'])}, {machine['cores']} cores, "
            f"{machine['threads']} threads of torch; {escaped(devices)}; "
            f"Python {machine['python']}, {escaped(versions)}.",
        ]
    )


def _model(model: Mapping[str, Any]) -> str:
    """The reasoner in a sentence."""
    millions = {
        name: f"{model[name] / 1e6:.1f}"
        for name in ("parameters", "word_embeddings", "fusion_parameters")
    }
    weights = "random weights" if model["random_weights"] else "its own weights"
    quantization = "" if model["quantization"] == "none" else f", {model['quantization']}"
    return (
        f"{escaped(model['language_model'])}: {model['class']}, {millions['parameters']} million "
        f"parameters ({millions['word_embeddings']} of them word embeddings), "
        f"{model['dtype']}{quantization}, {weights}; a fusion core of "
        f"{millions['fusion_parameters']} million."
    )
