"""SeViLA: a localizer of key frames and an answerer, on one vision tower and one T5."""

from vidreason.baselines.sevila.system import Sevila

__all__ = ["Sevila"]
