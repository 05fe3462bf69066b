"""Report on the health of the corpora."""
