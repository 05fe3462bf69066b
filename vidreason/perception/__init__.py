"""Section 3.1: clip tokens from a video encoder, object tokens from a segmenter's masks."""
