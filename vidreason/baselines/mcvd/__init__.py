"""Masked conditional video diffusion (MCVD), and a captioner of the frames that it predicts."""

from vidreason.baselines.mcvd.system import CaptionerOnObserved, Mcvd

__all__ = ["CaptionerOnObserved", "Mcvd"]
