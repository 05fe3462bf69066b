"""Pictures of the demo's report as text inside HTML: key frames with masks, curves, bars."""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter
from segment_anything.utils.amg import rle_to_mask

from vidreason.perception.visual_tokens import OBJECT_TOKEN, VisualTokens
from vidreason.video.reader import index_video, read_frames
from vidreason.video.sampling import SamplingConfig, clip_frame_indices, key_frame_positions

MASK_COLORS = ("#00c8ff", "#ff2fd0", "#9be600", "#ffffff", "#ff9100", "#7c4dff")
"""Of the first, second, ... object of a video; an object has one at all key frames."""
_PICTURE_SIDE = 256


@dataclass(frozen=True, kw_only=True)
class KeyFrame:
    """A key frame with its masks drawn in."""

    seconds: float
    num_objects: int
    data_uri: str


def key_frames(media: str, tokens: VisualTokens, sampling: SamplingConfig) -> list[KeyFrame]:
    """The key frames of a whole video, each with the objects that became visual tokens."""
    index = index_video(media)
    indices = clip_frame_indices(index.timestamps, index.duration_seconds, sampling)
    chosen = [int(indices[place]) for place in key_frame_positions(sampling)]
    pictures = []
    for frame, number in zip(read_frames(index, chosen), chosen, strict=True):
        seconds = float(index.timestamps[number])
        shown = (tokens.kinds == OBJECT_TOKEN) & ((tokens.spans[:, 0] - seconds).abs() < 1e-3)
        masks = [
            (int(tokens.track_ids[place]), rle_to_mask(tokens.masks[place]))
            for place in shown.nonzero()[:, 0].tolist()
        ]
        picture = draw_masks(frame.permute(1, 2, 0).numpy(), masks)
        pictures.append(
            KeyFrame(seconds=seconds, num_objects=len(masks), data_uri=data_uri(picture))
        )
    return pictures


def draw_masks(
    frame: NDArray[np.uint8], masks: Sequence[tuple[int, NDArray[np.bool_]]]
) -> Image.Image:
    """A frame ``(H, W, 3)`` with ``(h, w)`` masks laid over it, outlined, in their tracks' colours.

    Args:
        frame: The picture.
        masks: Track id and mask of each object.
    """
    picture = Image.fromarray(frame)
    scale = max(_PICTURE_SIDE / max(picture.size), 1)
    size = (round(picture.width * scale), round(picture.height * scale))
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    for number, mask in masks:
        color = Image.new("RGB", size, MASK_COLORS[number % len(MASK_COLORS)])
        smooth = Image.fromarray(mask.astype(np.uint8) * 255).resize(size)
        inside = smooth.point([255 * (value > 127) for value in range(256)])
        outline = ImageChops.difference(inside, inside.filter(ImageFilter.MinFilter(5)))
        border = ImageChops.difference(inside.filter(ImageFilter.MaxFilter(3)), inside)
        picture = Image.composite(Image.blend(picture, color, 0.25), picture, inside)
        picture.paste(color, mask=outline)
        picture.paste("#101010", mask=border)
    return picture


def data_uri(picture: Image.Image) -> str:
    """The picture as a JPEG inside a ``data:`` address."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def line_chart(
    title: str, series: Sequence[tuple[str, Sequence[tuple[float, float]]]], x_label: str
) -> str:
    """An SVG with one line a series; a legend names them.

    Args:
        title: What is shown; also the text for those who cannot see it, with each series' ends.
        series: Name and points of each line; at least one point in all.
        x_label: What x counts.
    """
    points = [point for _, line in series for point in line]
    width, height, left, bottom, top, right = 480, 280, 48, 44, 14, 14
    x_ticks = _ticks(0.0, max(x for x, _ in points))
    y_ticks = _ticks(0.0, max(y for _, y in points))

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            left + x / x_ticks[-1] * (width - left - right),
            height - bottom - y / y_ticks[-1] * (height - bottom - top),
        )

    parts = []
    for tick in y_ticks:
        x, y = at(0, tick)
        parts.append(f'<path class="grid" d="M{x:.1f} {y:.1f}H{width - right}"/>')
        parts.append(f'<text x="{x - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in x_ticks:
        x, y = at(tick, 0)
        parts.append(f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">{tick:g}</text>')
    parts.append(
        f'<text x="{(left + width - right) / 2}" y="{height - 6}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
    )
    described = []
    for number, (name, line) in enumerate(series):
        if not line:
            continue
        path = "L".join("{:.1f} {:.1f}".format(*at(x, y)) for x, y in line)
        parts.append(f'<path class="line line{number}" d="M{path}"/>')
        if len(line) < 20:
            for x, y in line:
                parts.append(
                    '<circle class="dot{}" cx="{:.1f}" cy="{:.1f}" r="3.5"/>'.format(
                        number, *at(x, y)
                    )
                )
        legend_y = top + 12 + 18 * number
        parts.append(f'<path class="line line{number}" d="M{width - 150} {legend_y}h24"/>')
        parts.append(f'<text x="{width - 120}" y="{legend_y + 4}">{escape(name)}</text>')
        described.append(f"{name} from {line[0][1]:.2f} to {line[-1][1]:.2f}")
    return _svg(width, height, f"{title}: {', '.join(described)}", parts)


def bar_chart(title: str, bars: Sequence[tuple[str, float, float | None, float | None]]) -> str:
    """An SVG with a horizontal bar for each ``(name, share, low, high)``; shares from 0 to 1."""
    row, left, width, right = 30, 190, 960, 70
    height = row * len(bars) + 26

    def at(share: float) -> float:
        return left + share * (width - left - right)

    parts = []
    for tick in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        parts.append(f'<path class="grid" d="M{at(tick):.1f} 0V{height - 22}"/>')
        parts.append(
            f'<text x="{at(tick):.1f}" y="{height - 6}" text-anchor="middle">{tick:.0%}</text>'
        )
    for number, (name, share, low, high) in enumerate(bars):
        y = row * number + 5
        parts.append(f'<text x="{left - 10}" y="{y + 15}" text-anchor="end">{escape(name)}</text>')
        kind = "bar first" if number == 0 else "bar"
        parts.append(
            f'<rect class="{kind}" x="{left}" y="{y}" width="{at(share) - left:.1f}" height="20"/>'
        )
        end = share
        if low is not None and high is not None:
            parts.append(f'<path class="whisker" d="M{at(low):.1f} {y + 10}H{at(high):.1f}"/>')
            end = max(share, high)
        parts.append(f'<text x="{at(end) + 8:.1f}" y="{y + 15}">{share:.1%}</text>')
    described = ", ".join(f"{name} {share:.1%}" for name, share, _, _ in bars)
    return _svg(width, height, f"{title}: {described}", parts)


def _svg(width: int, height: int, description: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(description)}">'
        f"{''.join(parts)}</svg>"
    )


def _ticks(low: float, high: float) -> list[float]:
    """Four to six round values from ``low`` to at least ``high``."""
    step = 10 ** math.floor(math.log10(max(high - low, 1e-6) / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (factor * step) <= 5)
    count = max(math.ceil((high - low) / step - 1e-9), 1)
    return [low + step * number for number in range(count + 1)]
