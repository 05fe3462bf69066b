"""Parts of ``python -m experiments.gpu_check``: what can only be proven on a GPU, in minutes."""
