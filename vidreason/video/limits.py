"""Limits on what reading a video may take: time, memory, pixels."""

DECODE_TIMEOUT_SECONDS = 120.0
"""Default limit of one operation: fifty times what 32 frames of a 720p video take on one core."""

MAX_DECODER_BYTES = 8 * 2**30
"""Memory that a decoder process may allocate. A decoder of the largest pictures that are decoded
holds 17 of them, of 2 to 8 bytes a pixel; a file that makes libav allocate more is refused."""

MAX_PIXELS = 2**26
"""A picture with more pixels (8192 x 8192, twice an 8K picture) is not decoded: a file of a few
kilobytes may declare any size, and a decoder holds up to 17 pictures."""

LARGE_SIDE = 1280
"""Pixels of the longer side that frames are scaled to as they are decoded, where no more is
needed: 32 frames of 720p take 88 MB, and of 8K, unscaled, 3.2 GB."""
