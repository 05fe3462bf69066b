"""Parts of ``experiments.demo``: what it does one after the other, what it found, its report."""
