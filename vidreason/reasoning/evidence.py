"""Visual tokens that an answer rests on: parts of a video, each left out once.

A part is a clip, or an object with all of its tokens. How much less likely an answer is without it
says how much the answer rests on it. Two parts that tell the same thing hide each other: without
either one, the answer stays likely.
"""

from typing import Literal, NamedTuple

from vidreason.perception.visual_tokens import CLIP_TOKEN, VisualTokens


class Evidence(NamedTuple):
    """One part of a video, and the answer's log-likelihood with it less that without it."""

    kind: Literal["clip", "track"]
    track_id: int | None
    """Track of an object; None for a clip."""
    start_seconds: float
    """From the start of the perceived span; an object's is its first key frame."""
    end_seconds: float
    """An object's is its last key frame."""
    support: float
    """In nats; below 0 where the answer is likelier without this part."""


def parts_left_out(tokens: VisualTokens) -> tuple[list[Evidence], list[VisualTokens]]:
    """Return the parts of a video, their support not yet known, and the video without each.

    Clips come first, then objects by their track ids: as many as there are clips and objects.
    """
    # Rows by part: clips are parts of their own.
    rows: dict[tuple[bool, int], list[int]] = {}
    kinds, tracks = tokens.kinds.tolist(), tokens.track_ids.tolist()
    for row, (kind, track) in enumerate(zip(kinds, tracks, strict=True)):
        is_clip = kind == CLIP_TOKEN
        rows.setdefault((not is_clip, row if is_clip else track), []).append(row)
    parts, videos = [], []
    for (is_object, number), of_part in sorted(rows.items()):
        spans = tokens.spans[of_part]
        parts.append(
            Evidence(
                kind="track" if is_object else "clip",
                track_id=number if is_object else None,
                start_seconds=float(spans[:, 0].min()),
                end_seconds=float(spans[:, 1].max()),
                support=0.0,
            )
        )
        videos.append(tokens.select([row for row in range(len(tokens)) if row not in of_part]))
    return parts, videos
