"""Results as HTML: one file with tables, charts and pictures, which needs nothing else."""
