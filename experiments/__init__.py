"""Programs: each runs as ``python -m experiments.<name>`` from a checkout."""
