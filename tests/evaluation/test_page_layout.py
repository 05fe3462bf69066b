"""Pages on a narrow screen, as far as it can be known without a browser."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from test_report_page import RUNS, Pictures, report, table_of

from vidreason.evaluation.page.elements import table_element
from vidreason.evaluation.page.report_page import write_report_page
from vidreason.evaluation.tables import Table

ROOT = Path(__file__).parents[2]
STYLES = [
    *sorted((ROOT / "vidreason").rglob("*.css")),
    *sorted((ROOT / "experiments").rglob("*.css")),
    *(ROOT / "vidreason/teacher/bias_page.py", ROOT / "experiments/data/show.py"),
]
NARROW = 350
"""Pixels between the margins of a page that is 390 wide."""


class Layout(HTMLParser):
    """Tables with the classes around them, and the attributes of charts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.around: list[tuple[str, str]] = []
        self.tables: list[list[str]] = []
        self.charts: list[dict[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag == "table":
            self.tables.append([kind for _, kind in self.around])
        if tag == "svg":
            self.charts.append(attributes)
        if tag not in ("meta", "img", "input"):
            self.around.append((tag, attributes.get("class") or ""))

    def handle_endtag(self, tag):
        while self.around and self.around.pop()[0] != tag:
            pass


def test_tables_scroll_by_themselves_and_charts_shrink(tmp_path):
    path = tmp_path / "report.html"
    tables = [table_of("nextqa"), table_of("activitynet_qa")]
    write_report_page(path, report(RUNS, tables), pictures=Pictures(), num_pictured=1)
    page = path.read_text(encoding="utf-8")
    layout = Layout(page)
    assert len(layout.tables) == len(tables)
    assert all("scroll" in around for around in layout.tables)
    assert len(layout.charts) >= 3
    for chart in layout.charts:
        # A width of its own would not shrink; more units than this, and the letters are too small.
        assert not {"width", "height"} & chart.keys()
        assert float(str(chart["viewbox"]).split()[2]) <= 480
    assert 'name="viewport" content="width=device-width' in page
    # The browser's script makes tables, too.
    script = (ROOT / "vidreason/evaluation/page/browser.js").read_text()
    assert script.count('make("table"') == script.count('{ class: "scroll" }')


@pytest.mark.parametrize("path", STYLES, ids=lambda path: path.name)
def test_no_style_needs_more_than_a_narrow_screen(path):
    text = path.read_text()
    # Wider columns of a grid are alright where a media query or min() takes them away.
    lengths = re.findall(r"(?<!max-)\b(?:min-)?width:\s*(\d+)px", text)
    lengths += re.findall(r"minmax\((\d+)px", text)
    assert [length for length in lengths if int(length) > NARROW] == []


def test_an_interval_stays_in_one_line_but_may_leave_its_number():
    table = Table("t", ("run", "all"), (("a [b c] d", "61.2 [55.0, 67.3]"), ("2 b", "7 (8.1%)")))
    text = table_element(table).replace("\u00a0", "_")
    assert "<td>61.2 [55.0,_67.3]</td>" in text
    assert "<td>7_(8.1%)</td>" in text
    assert "a [b c] d" in text
    assert "2 b" in text
