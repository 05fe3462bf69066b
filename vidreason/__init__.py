"""vidreason: video event reasoning and prediction, why something happened in a video and what happens next."""

__version__ = "0.1.0"
