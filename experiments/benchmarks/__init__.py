"""What ``experiments.benchmark`` measures."""
