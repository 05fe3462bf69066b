"""The span of a video that is looked at for a claim."""

from vidreason.evidence.verifier import Claim
from vidreason.example import MediaSpan


def widened(claim: Claim, margin_seconds: float, duration_seconds: float) -> MediaSpan:
    """Return a claim's span with a margin, cut to the video: claims of a short one share it.

    Args:
        claim: The claim.
        margin_seconds: Time before and after it.
        duration_seconds: Length of the video.
    """
    start, end = claim.start_seconds, claim.end_seconds
    if start is not None:
        start = start - margin_seconds
    if end is not None:
        end = end + margin_seconds
    return (
        claim.media,
        start if start is not None and start > 0 else None,
        end if end is not None and end < duration_seconds else None,
    )
