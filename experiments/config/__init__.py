"""Print a configuration, or explain it: its parts, tokens and memory."""
