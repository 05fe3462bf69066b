"""Programs: each runs as ``python -m experiments.<name>`` from a checkout."""

import sys

from experiments.first_seconds import end_quietly_while_importing
from vidreason.cores import wait_passively

# Here, because it has to happen before any program imports torch.
wait_passively()
if sys.argv[:1] == ["-m"]:  # Python is looking for a program of this package, to start it
    end_quietly_while_importing()
