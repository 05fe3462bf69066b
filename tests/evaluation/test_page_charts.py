"""Charts of a page: valid SVG, with the numbers where they belong."""

from xml.etree import ElementTree

import pytest

from vidreason.evaluation.confidence.calibration import calibration_error
from vidreason.evaluation.page.charts import (
    grouped_bars,
    line_chart,
    reliability_chart,
)


def test_charts_are_svg_and_say_what_they_show():
    chart = line_chart(
        "loss", [("training", [(1, 4.0), (10, 0.5)]), ("validation", [])], "step <x>"
    )
    root = ElementTree.fromstring(chart)
    assert root.attrib["aria-label"] == "loss: training from 4.00 to 0.50"
    assert "step <x>" in [element.text for element in root]
    path = next(e for e in root if e.attrib.get("class") == "line line0")
    numbers = [float(n) for n in path.attrib["d"][1:].replace("L", " ").split()]
    assert numbers[0] < numbers[2]  # to the right
    assert numbers[1] < numbers[3]  # and down


def test_grouped_bars_keep_the_colour_of_a_run_where_another_is_missing():
    groups = {
        "all": {"a": (0.5, 0.4, 0.6), "b": (0.25, None, None)},
        "why <b> " + "x" * 60: {"b": (1.0, 1.0, 1.0)},
    }
    root = ElementTree.fromstring(grouped_bars("nextqa", groups, names=["a", "b"]))
    bars = [e for e in root.iter("rect")]
    assert [bar.attrib["class"] for bar in bars] == ["bar series0", "bar series1", "bar series1"]
    widths = [float(bar.attrib["width"]) for bar in bars]
    assert widths == pytest.approx([widths[2] / 2, widths[2] / 4, widths[2]], abs=0.1)
    assert [e.text for e in root.iter("title")][1] == "all, a: 50.0% [40.0%, 60.0%]"
    assert root.attrib["aria-label"].startswith("nextqa: all, a: 50.0% [40.0%, 60.0%]; all, b: 25")
    assert sum("whisker" in e.attrib["class"] for e in root.iter("path")) == 2
    shown = [e.text for e in root.iter("text")]
    assert "all" in shown
    assert max(map(len, shown)) <= 51
    assert ElementTree.fromstring(grouped_bars("empty", {}, names=[])).attrib["role"] == "img"


def test_a_reliability_diagram_shows_each_bin():
    error = calibration_error([0.95, 0.92, 0.4, 1.0], [True, False, True, True], num_bins=10)
    root = ElementTree.fromstring(reliability_chart("choices", error))
    assert root.attrib["aria-label"].startswith(
        f"choices: expected calibration error {error.expected:.3f}"
    )
    said = [e.text for e in root.iter("title")]
    assert said == [
        "confidence 30% to 40%: 1 answers, mean confidence 40.0%, 100.0% right",
        "confidence 90% to 100%: 3 answers, mean confidence 95.7%, 66.7% right",
    ]
    bars = [e.attrib for e in root.iter("rect")]
    low, high = (float(bar["height"]) for bar in bars if "series0" in bar["class"])
    assert high == pytest.approx(low * 2 / 3, abs=0.1)
    few, many = (float(bar["height"]) for bar in bars if "count" in bar["class"])
    assert many == pytest.approx(3 * few, abs=0.1)
