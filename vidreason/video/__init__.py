"""From a file to frames: which frames (pure arithmetic), decoding, transforms."""
