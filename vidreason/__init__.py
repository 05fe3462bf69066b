"""Video event reasoning and prediction: why something happened, and what happens next."""

__version__ = "0.1.0"
