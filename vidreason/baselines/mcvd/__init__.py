"""Masked conditional video diffusion (MCVD), and a captioner of the frames that it predicts."""
