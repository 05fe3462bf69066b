"""The page of an evaluation in a real browser: filters in its address, keys, and text as text."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_report_page import EVIL, FULL, RUNS, Pictures, explanation, report, table_of

from vidreason.evaluation.page.report_page import write_report_page
from vidreason.teacher.bias import BiasCounts
from vidreason.teacher.bias_page import write_bias_page
from vidreason.teacher.clip import Clip
from vidreason.teacher.draft import Draft, Step

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,  # each look starts a browser
    pytest.mark.skipif(BROWSER is None, reason="there is no chromium"),
]


class Shown(HTMLParser):
    """Texts by the id, class or tag that they are in."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: dict[str, list[str]] = {}
        self.tags: list[str] = []
        self._open: list[tuple[str, list[str]]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        names = [tag, *(dict(attrs).get("class") or "").split(), dict(attrs).get("id") or ""]
        for name in names:
            self.texts.setdefault(name, []).append("")
        if tag not in ("meta", "img", "input"):
            self._open.append((tag, names))

    def handle_endtag(self, tag):
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        for _, names in self._open:
            for name in names:
                self.texts[name][-1] += data


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("browser") / "report.html"
    write_report_page(path, report(RUNS), pictures=Pictures("/videos/a1.mp4"), num_pictured=100)
    return path


def look(page: Path, address: str = "", width: int = 1280) -> Shown:
    """Return the page as the browser has it after a second."""
    assert BROWSER is not None
    done = subprocess.run(
        [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
            *(f"--window-size={width},900", "--virtual-time-budget=2000"),
            f"--user-data-dir={page.parent / 'profile'}",
            f"file://{page}{address}",
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    return Shown(done.stdout)


def with_script(page: Path, script: str) -> Path:
    """A copy that runs one more script, which the page's own policy would forbid."""
    text = re.sub(r"<meta http-equiv[^>]*>", "", page.read_text(encoding="utf-8"))
    path = page.with_name("scripted.html")
    path.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    return path


def test_the_first_question_is_shown_with_frames_options_and_all_runs(page):
    shown = look(page)
    assert shown.texts["found"] == ["1 of 11 questions"]
    assert shown.texts["asked"] == [EVIL]
    assert len(shown.texts["list"][0].split(EVIL)) == 9  # the questions of one corpus
    assert not {"b", "i"} & set(shown.tags[: shown.tags.index("ol")])
    assert shown.texts["choices"] == [
        "(A) it was <i>pushed</i> referenceanswer82% -0.50"
        "(B) it fell 11% -2.50(C) nothing 6.7% -3.00"
    ]
    assert "i" not in shown.tags
    assert len(shown.texts["img"]) == 4
    assert "0.0 s, 0 objects" in shown.texts["figcaption"]
    assert shown.texts["runs"][0].count("right") == 2


ADDRESSES = {
    "#verdict=wrong": "1 of 4 questions: wrong",
    "#verdict=invalid": "1 of 1 question: invalid: names no answer",
    "#verdict=not-right&corpus=activitynet_qa": "1 of 2 questions: wrong",
    "#verdict=unreadable": "1 of 1 question: video unreadable",
    "#type=CW&verdict=right": "1 of 2 questions: right",
    "#compared=better-1": "1 of 3 questions: right",
    "#run=1&compared=better-0": "1 of 1 question: right",
    "#text=A2+RED": "1 of 1 question: video unreadable",
    "#id=nextqa%3Atest%3A5": "6 of 11 questions: wrong",
}


def test_the_address_filters(page):
    script = (
        "const wait = () => new Promise((resolve) => setTimeout(resolve, 50));"
        "(async () => {"
        "const log = document.createElement('pre'); log.id = 'log'; document.body.append(log);"
        f"for (const address of {json.dumps(list(ADDRESSES))}) {{"
        "location.hash = address; await wait();"
        "log.append(document.getElementById('found').textContent + ': ' + "
        "document.querySelector('#question .verdict').textContent.slice(2) + '\\n'); }"
        "})();"
    )
    shown = look(with_script(page, script))
    assert shown.texts["log"][0].splitlines() == list(ADDRESSES.values())
    assert look(page, "#verdict=wrong&type=TN").texts["found"] == ["1 of 2 questions"]


def test_two_runs_stand_side_by_side(page):
    shown = look(page, "#beside=1&id=nextqa%3Atest%3A4")
    (both,) = shown.texts["beside"]
    assert re.sub(r"\s+", " ", both) == (
        "full model\u2717 wrongit fellblind <none>\u2717 wrongit fell"
    )
    assert "beside" not in look(page).texts


def test_a_free_answer_has_its_score_for_a_verdict(tmp_path):
    runs = {
        "ours": [explanation("1. the ball rolls\n2. the ball hits the wall")],
        "rival": [explanation("1. a <b>ball</b> rolls")],
    }
    path = tmp_path / "report.html"
    write_report_page(path, report(runs))
    shown = look(path, "#beside=1")
    assert [text[2:] for text in shown.texts["verdict"]] == [
        *("step F1 100.0", "step F1 100.0", "step F1 66.7"),
        *("step F1 100.0", "step F1 66.7"),
    ]
    assert "1. a <b>ball</b> rolls" in shown.texts["beside"][0]
    assert "the ball hits the wall" in shown.texts["dl"][1]


def test_a_filter_that_nothing_passes_says_so(page):
    shown = look(page, "#text=nowhere")
    assert shown.texts["found"] == ["No question passes the filter."]
    assert shown.texts["question"] == [""]


def test_a_video_that_cannot_be_read_has_a_placeholder(page):
    (told,) = look(page, "#id=activitynet_qa%3Atest%3A1").texts["no-frames"]
    assert told.startswith("No frames: ")
    assert "no such file" in told


def test_arrow_keys_move_but_not_while_typing(page):
    press = "const press = (key, target) => target.dispatchEvent(" + (
        "new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}));"
    )
    keys = "for (const k of ['Right', 'Right', 'Left', 'Right']) press('Arrow' + k, document.body);"
    typed = "press('ArrowRight', document.querySelector('input'));"
    shown = look(with_script(page, press + keys + typed))
    assert shown.texts["found"] == ["3 of 11 questions"]
    before = look(with_script(page, press + "press('ArrowLeft', document.body);"))
    assert before.texts["found"] == ["1 of 11 questions"]


def test_fields_filter_and_the_address_says_so(page):
    change = (
        "const form = document.getElementById('filters');"
        "form.elements.corpus.value = 'activitynet_qa';"
        "form.elements.corpus.dispatchEvent(new Event('input', {bubbles: true}));"
        "form.elements.verdict.value = 'right';"
        "form.elements.verdict.dispatchEvent(new Event('input', {bubbles: true}));"
        "setTimeout(() => { document.title = location.hash; }, 300);"
    )
    shown = look(with_script(page, change))
    assert shown.texts["found"] == ["1 of 1 question"]
    assert shown.texts["title"][0] == (
        "#verdict=right&corpus=activitynet_qa&id=activitynet_qa%3Atest%3A0"
    )
    assert [text for text in shown.texts["select"] if "CW" in text] == [], "types of this corpus"


def in_frame(page: Path, width: int, measure: str) -> list[float]:
    """Numbers that a script gives within a frame so wide: no window is narrower than 500."""
    script = f"addEventListener('load', () => parent.postMessage(JSON.stringify({measure}), '*'));"
    inner = with_script(page, script)
    outer = page.with_name("frame.html")
    outer.write_text(
        "<script>addEventListener('message', (event) => { document.title = event.data; });</script>"
        f'<iframe src="{inner.name}" width="{width}" height="844"></iframe>'
    )
    numbers: list[float] = json.loads(look(outer, width=max(width, 500)).texts["title"][0])
    return numbers


def tables_page(folder: Path) -> Path:
    """With tables of scores, which the other page goes without."""
    path = folder / "report.html"
    tables = [table_of("nextqa"), table_of("activitynet_qa")]
    write_report_page(path, report(RUNS, tables), pictures=Pictures(), num_pictured=1)
    return path


def bias_page(folder: Path) -> Path:
    counts = BiasCounts()
    draft = Draft(steps=(Step("the ball " + "x" * 80 + " hits and rolls"),))
    for number in range(40):
        clip = Clip(
            source=f"a long name of a source {number % 4}",
            video_id=str(number),
            media="a.mp4",
            scenario="y" * 90,
            reference="the ball hits",
        )
        ending = "refusal" if number % 5 == 0 else "accepted"
        counts.add(SimpleNamespace(clip=clip), ending, None if ending == "refusal" else draft)
    path = folder / "bias.html"
    write_bias_page(path, counts, {"teacher": "z" * 300})
    return path


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("make", [tables_page, bias_page])
def test_pages_are_readable_on_a_telephone_and_on_a_desk(tmp_path, width, make):
    """Only tables scroll; beside the names of their rows, there is room for numbers."""
    needed, given, named, written = in_frame(
        make(tmp_path),
        width,
        "(() => { const root = document.documentElement;"
        "const sizes = (query, size) => [...document.querySelectorAll(query)].map(size);"
        "const shown = (one) => one.getBoundingClientRect();"
        "return [root.scrollWidth, root.clientWidth,"
        "Math.max(...sizes('.scroll tbody th', (one) => shown(one).width)),"
        "Math.min(...sizes('svg text', (one) => shown(one).height).filter((h) => h > 0))];})()",
    )
    assert width - 20 <= given <= width  # a bar to scroll by may take some
    assert needed <= given
    assert named <= 0.5 * width
    assert written >= 9  # pixels of height of the smallest letters of a chart


@pytest.mark.parametrize("width", [500, 1280])
def test_nothing_is_wider_than_the_window(page, width):
    """Long options too. 500 is the least width that a headless Chromium has."""
    long = "x" * 300
    rows = [row for row in FULL if row.corpus == "nextqa"]
    text = page.read_text(encoding="utf-8").replace("it fell", long).replace("nextqa:test", long)
    assert text.count(long) >= len(rows)
    wide = page.with_name("wide.html")
    wide.write_text(text, encoding="utf-8")
    measure = "document.title = document.documentElement.scrollWidth + '/' + innerWidth;"
    shown = look(with_script(wide, measure), width=width)
    needed, given = map(int, shown.texts["title"][0].split("/"))
    assert needed <= given
