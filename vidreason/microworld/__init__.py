"""The embedded default: a small physics world that writes real videos and real annotation files."""
