"""Charts as SVG inside HTML: curves, bars, reliability diagrams. Style: ``style.css``.

Each says in a label, for those who cannot see it, what it shows.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape

from vidreason.evaluation.confidence.calibration import CalibrationError

NUM_SERIES = 8
"""Number of colours in ``style.css``; then they repeat."""

Bar = tuple[float, float | None, float | None]
"""A share from 0 to 1 and its interval, if there is one."""


def line_chart(
    title: str, series: Sequence[tuple[str, Sequence[tuple[float, float]]]], x_label: str
) -> str:
    """An SVG with one line a series; a legend names several.

    Args:
        title: What is shown; also the text for those who cannot see it, with each series' ends.
        series: Name and points of each line; at least one point in all.
        x_label: What x counts.
    """
    points = [point for _, line in series for point in line]
    # All sizes in units of the SVG's view box, whose origin is at the top left.
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
        # Dots only while there are few points: more would hide the line.
        if len(line) < 20:
            for x, y in line:
                parts.append(
                    '<circle class="dot{}" cx="{:.1f}" cy="{:.1f}" r="3.5"/>'.format(
                        number, *at(x, y)
                    )
                )
        if len(series) > 1:
            legend_y = top + 12 + 18 * number
            parts.append(f'<path class="line line{number}" d="M{width - 150} {legend_y}h24"/>')
            parts.append(f'<text x="{width - 120}" y="{legend_y + 4}">{escape(name)}</text>')
        described.append(f"{name} from {line[0][1]:.2f} to {line[-1][1]:.2f}")
    return _svg(width, height, f"{title}: {', '.join(described)}", parts)


def grouped_bars(title: str, groups: Mapping[str, Mapping[str, Bar]], names: Sequence[str]) -> str:
    """An SVG with horizontal bars: for each group, one a series, in the series' colours.

    Args:
        title: What is shown; also the text for those who cannot see it.
        groups: Label of a group -> name of a series -> its bar. A series may be missing in a group.
        names: Of all series, in the order of their colours.
    """
    # A row a bar, below the group's label, shares in digits to the right: as narrow as a telephone,
    # where labels beside the bars would leave no room for them.
    row, head, gap, left, width, right = 18, 20, 12, 14, 480, 74
    height = sum(head + row * len(bars) + gap for bars in groups.values()) + 26
    parts = _share_grid(left, width - right, height)
    described = []
    # From the top: of each group its label, its bars and a gap.
    y = 0
    for label, bars in groups.items():
        shown = label if len(label) <= 50 else f"{label[:48]}..."
        parts.append(
            f'<text x="{left}" y="{y + 15}">{escape(shown)}<title>{escape(label)}</title></text>'
        )
        y += head
        for name, (share, low, high) in bars.items():
            kind = f"bar series{names.index(name) % NUM_SERIES}"
            bounds = "" if low is None or high is None else f" [{low:.1%}, {high:.1%}]"
            description = f"{label}, {name}: {share:.1%}{bounds}"
            parts.append(f"<g><title>{escape(description)}</title>")
            parts += _bar(kind, (left, width - right), y, row - 2, (share, low, high))
            parts.append("</g>")
            described.append(description)
            y += row
        y += gap
    return _svg(width, height, f"{title}: {'; '.join(described)}", parts)


def bars_figure(
    title: str,
    groups: Mapping[str, Mapping[str, Bar]],
    names: Sequence[str],
    caption: str = "",
) -> str:
    """A heading, the legend and :func:`grouped_bars` in a figure, with a caption below it."""
    legend = "".join(
        f'<li><span class="swatch series{number % NUM_SERIES}"></span>{escape(name)}</li>'
        for number, name in enumerate(names)
    )
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return (
        f'<h3>{escape(title)}</h3><ul class="legend">{legend}</ul>'
        f'<figure class="wide">{grouped_bars(title, groups, names)}{below}</figure>'
    )


def reliability_chart(title: str, error: CalibrationError) -> str:
    """An SVG: accuracy by confidence, beside the diagonal where both agree; below, how many.

    Args:
        title: What the confidences are of.
        error: Whose bins are shown.
    """
    # Above, a square of shares; below, a strip with the number of answers of each bin.
    width, height, left, top, side, strip = 480, 400, 56, 12, 300, 36
    right, bottom = left + 400, top + side
    base = bottom + 12 + strip
    parts = []
    for tick in _SHARES:
        x, y = left + tick * (right - left), bottom - tick * side
        parts.append(f'<path class="grid" d="M{left} {y:.1f}H{right}"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:.0%}</text>')
        parts.append(f'<text x="{x:.1f}" y="{base + 16}" text-anchor="middle">{tick:.0%}</text>')
    largest = max(of_bin.num_answers for of_bin in error.bins)
    described = []
    for of_bin in error.bins:
        x = left + of_bin.low * (right - left)
        # A gap between bars; bins of equal bounds are still seen.
        across = max((of_bin.high - of_bin.low) * (right - left) - 1.5, 3)
        description = (
            f"confidence {of_bin.low:.0%} to {of_bin.high:.0%}: {of_bin.num_answers} answers, "
            f"mean confidence {of_bin.confidence:.1%}, {of_bin.accuracy:.1%} right"
        )
        tall, many = of_bin.accuracy * side, of_bin.num_answers / largest * strip
        parts.append(
            f"<g><title>{escape(description)}</title>"
            f'<rect class="bar series0" x="{x:.1f}" y="{bottom - tall:.1f}" width="{across:.1f}" '
            f'height="{tall:.1f}"/>'
            f'<rect class="bar count" x="{x:.1f}" y="{base - many:.1f}" width="{across:.1f}" '
            f'height="{many:.1f}"/>'
            f'<circle class="dot1" cx="{left + of_bin.confidence * (right - left):.1f}" '
            f'cy="{bottom - of_bin.accuracy * side:.1f}" r="3.5"/></g>'
        )
        described.append(description)
    parts.append(f'<path class="diagonal" d="M{left} {bottom}L{right} {top}"/>')
    parts.append(f'<path class="grid" d="M{left} {base}H{right}"/>')
    parts.append(f'<text x="{left - 8}" y="{base}" text-anchor="end">0</text>')
    parts.append(f'<text x="{left - 8}" y="{base - strip + 8}" text-anchor="end">{largest}</text>')
    parts.append(
        f'<text x="{(left + right) / 2}" y="{height - 6}" text-anchor="middle">confidence</text>'
        f'<text transform="translate(12 {top + side / 2}) rotate(-90)" text-anchor="middle">'
        "share of right answers</text>"
    )
    label = f"{title}: expected calibration error {error.expected:.3f}; {'; '.join(described)}"
    return _svg(width, height, label, parts)


_SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # ticks


def _share_grid(left: int, right: int, height: int) -> list[str]:
    """Vertical lines at shares, named below."""
    parts = []
    for tick in _SHARES:
        x = left + tick * (right - left)
        parts.append(f'<path class="grid" d="M{x:.1f} 0V{height - 22}"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - 6}" text-anchor="middle">{tick:.0%}</text>')
    return parts


def _bar(kind: str, across: tuple[int, int], y: int, tall: int, bar: Bar) -> list[str]:
    """A horizontal bar between the places of 0 and 1, its interval, and its share in digits."""
    (left, right), (share, low, high) = across, bar
    middle = y + tall / 2

    def at(value: float) -> float:
        return left + value * (right - left)

    parts = [
        f'<rect class="{kind}" x="{left}" y="{y}" width="{at(share) - left:.1f}" height="{tall}"/>'
    ]
    end = share
    if low is not None and high is not None:
        parts.append(f'<path class="whisker" d="M{at(low):.1f} {middle:g}H{at(high):.1f}"/>')
        end = max(share, high)
    parts.append(f'<text x="{at(end) + 8:.1f}" y="{middle + 4.5:g}">{share:.1%}</text>')
    return parts


def _svg(width: int, height: int, description: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(description)}">'
        f"{''.join(parts)}</svg>"
    )


def _ticks(low: float, high: float) -> list[float]:
    """Four to six round values from ``low`` to at least ``high``."""
    # Steps of 1, 2 or 5 times a power of ten.
    step = 10 ** math.floor(math.log10(max(high - low, 1e-6) / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (factor * step) <= 5)
    count = max(math.ceil((high - low) / step - 1e-9), 1)
    return [low + step * number for number in range(count + 1)]
