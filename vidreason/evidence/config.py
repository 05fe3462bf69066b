"""Configuration of the verifier."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class VerifierConfig:
    """The model that looks again, and how sure it has to be."""

    model: str = ""
    """Folder of a reasoner, or ``shipped`` for the one in the package; empty for no verifier."""
