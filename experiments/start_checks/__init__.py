"""Checks of a configuration before anything is loaded or written, shared by the programs."""
