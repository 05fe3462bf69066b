"""Parts of ``experiments.ablate``: the study's jobs, its numbers and its tables."""
