"""Programs: each runs as ``python -m experiments.<name>`` from a checkout."""

from vidreason.cores import wait_passively

# Here, because it has to happen before any program imports torch.
wait_passively()
