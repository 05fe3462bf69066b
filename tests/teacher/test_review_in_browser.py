"""The review page in a real browser: decisions, edits, reviewers, and the file that is saved."""

import json

import pytest
from devtools import BROWSER, Browser
from reviewed_set import HOSTILE, accepted_row, rejected_row
from test_review_page import page_row, two_frames, unreadable, write

from vidreason.teacher.reviews import Reviews, read_reviews, row_sha

pytestmark = [
    pytest.mark.slow,  # it starts a browser
    pytest.mark.skipif(BROWSER is None, reason="there is no chromium"),
]

EVIL = accepted_row(
    0,
    causal_explanation=[HOSTILE, "It hits the wall."],
    instruction=HOSTILE,
    source=HOSTILE,
    teacher=HOSTILE,
    **{HOSTILE: HOSTILE},
)
SINGLE = accepted_row(4, predictions=[], prediction="It stops.", step_times=[])
ROWS = [EVIL, accepted_row(1), accepted_row(2), accepted_row(3), SINGLE]
REJECTED = rejected_row(9)


@pytest.fixture
def browser(tmp_path):
    browser = Browser(tmp_path / "browser")
    yield browser
    browser.close()


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "review.html"
    shown = [*map(page_row, ROWS), page_row(REJECTED, "temporal", unreadable)]
    write(path, shown)
    return path


def filter_by(browser, **values):
    """Set fields of the filter, as a person does."""
    for name, value in values.items():
        browser.value(
            f"(() => {{ const form = document.getElementById('filters');"
            f" form.elements[{json.dumps(name)}].value = {json.dumps(value)};"
            " form.elements.text.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )


def is_disabled(browser, name):
    return browser.value(f"document.getElementById('{name}').disabled")


def test_a_review_from_the_first_look_to_the_loader(browser, page, tmp_path):
    browser.open(page)
    assert browser.text("#found") == "1 of 6 rows"
    assert browser.text("#counts").startswith("Enter your name")
    assert [is_disabled(browser, name) for name in ("accept", "reject", "edit", "save")] == (
        [True] * 4
    )
    browser.type("#reviewer", "Ann B/..")
    browser.value("document.activeElement.blur()")
    browser.press("a")
    assert browser.text("#found") == "2 of 6 rows"
    browser.press("r")
    browser.press("4")
    assert browser.text("#counts") == "2 of 6 decided: 1 accepted, 1 rejected, 0 edited"
    # Row 3: two texts are changed by typing, a step is removed, one is added.
    browser.press("e")
    assert browser.value("document.querySelectorAll('#step-fields li').length") == 2
    browser.press("a")
    assert browser.text("#row h3") == "Edit row 3"  # a letter typed is no command
    browser.type("#step-fields li:nth-child(1) textarea", " Somebody\nkicked\u202e it. ")
    browser.click("#step-fields li:nth-child(2) .small button")
    browser.type("#prediction-fields li:nth-child(2) [name=confidence]", "1.5")
    browser.click("#save-edit")
    assert browser.text("#problem") == "a confidence is not from 0 to 1"
    browser.type("#prediction-fields li:nth-child(2) [name=confidence]", "0,25")
    browser.press("Enter", modifiers=2)
    assert browser.text("#found") == "4 of 6 rows"
    # Row 4 is decided twice; row 5 has one prediction without a confidence.
    browser.click("#accept")
    browser.click("#previous")
    browser.press("u")
    assert browser.text("#counts") == "3 of 6 decided: 1 accepted, 1 rejected, 1 edited"
    browser.press("ArrowRight")
    browser.press("e")
    browser.type("#step-fields li:nth-child(1) [name=start]", "0.5")
    browser.click("#save-edit")
    browser.click("#accept")  # the rejected answer
    browser.click("#save")
    path = browser.downloaded()
    assert path.name == "review-Ann_B_.jsonl"
    assert not browser.problems

    reviews = {review.id: review for review in read_reviews(path)}
    assert {name: one.decision for name, one in reviews.items()} == {
        **{"world-0000": "accept", "world-0001": "reject", "world-0002": "edit"},
        **{"world-0004": "edit", REJECTED["id"]: "accept"},
    }
    assert reviews["world-0001"].reason == "wrong_cause"
    assert all(review.reviewer == "Ann B/.." for review in reviews.values())
    assert reviews["world-0000"].row_sha == row_sha(EVIL)
    changed = Reviews(reviews.values()).apply(ROWS[2]).row
    assert changed is not None
    assert changed["causal_explanation"] == ["Somebody kicked it."]
    assert [one["confidence"] for one in changed["predictions"]] == [0.7, 0.25]
    single = Reviews(reviews.values()).apply(SINGLE).row
    assert single == SINGLE | {
        "step_times": [{"start": 0.5, "end": None}, {"start": None, "end": None}]
    }


def test_decisions_stay_and_belong_to_a_reviewer_and_a_version(browser, page):
    browser.open(page)
    browser.type("#reviewer", "ann")
    browser.click("#accept")
    browser.click("#accept")
    browser.type("#reviewer", "bob")
    assert browser.text("#counts") == "0 of 6 decided: 0 accepted, 0 rejected, 0 edited"
    browser.click("#reject")
    browser.click("[data-reason=harmful]")
    browser.open(page)  # again
    assert browser.value("document.getElementById('reviewer').value") == "bob"
    assert browser.text("#counts") == "1 of 6 decided: 0 accepted, 1 rejected, 0 edited"
    browser.type("#reviewer", "ann")
    assert browser.text("#counts") == "2 of 6 decided: 2 accepted, 0 rejected, 0 edited"
    # Another sample of the same set: what was decided on this one is still there afterwards.
    write(page, [page_row(ROWS[3]), page_row(ROWS[4])])
    browser.open(page)
    assert browser.text("#counts").startswith("0 of 2 decided")
    browser.click("#accept")
    write(page, [*map(page_row, ROWS)])
    browser.open(page)
    assert browser.text("#counts") == "3 of 5 decided: 3 accepted, 0 rejected, 0 edited"
    # Another version of the first row, in the same set: its decision does not count.
    changed = [EVIL | {"instruction": "Other."}, *ROWS[1:]]
    write(page, [*map(page_row, changed)])
    browser.open(page)
    assert browser.text("#counts") == "2 of 5 decided: 2 accepted, 0 rejected, 0 edited"
    write(page, [*map(page_row, changed)], set_sha="f" * 64)
    browser.open(page)
    assert browser.text("#counts").startswith("Enter your name")
    # What another page may have left in the storage harms nothing.
    for stored in ("{", "[1]", "null", '{"world-0001": {"decision": "edit", "steps": 1}}'):
        browser.value(f"Object.keys(localStorage).forEach((k) => localStorage[k] = {stored!r})")
        browser.open(page)
        browser.type("#reviewer", "ann")
        assert browser.text("#counts").startswith("0 of 5 decided")
    assert not browser.problems


def test_filters_and_hidden_verdicts(browser, page):
    browser.open(page)
    browser.type("#reviewer", "ann")
    browser.click("#accept")
    counts = []
    for values in (
        {"verdict": "rejected"},
        {"verdict": "cause:temporal"},
        {"verdict": "accepted"},
        {"verdict": "", "decision": "undecided"},
        {"decision": "accept"},
        {"decision": "", "source": HOSTILE},
        {"source": "world"},
        {"source": "", "text": "BALL 2"},
        {"text": "nowhere"},
    ):
        filter_by(browser, **values)
        counts.append(browser.text("#found"))
    assert [text.partition(" of ")[2] or text for text in counts] == [
        *("1 row", "1 row", "5 rows", "5 rows", "1 row", "1 row", "3 rows", "1 row"),
        "No row passes the filter.",
    ]
    # With a filter for undecided rows, a decided one makes room for the next.
    filter_by(browser, text="", decision="undecided")
    before = browser.text("#row .facts")
    browser.click("#accept")
    assert browser.text("#found").endswith("of 4 rows")
    assert browser.text("#row .facts") != before
    shown = [page_row(ROWS[3]), page_row(ROWS[1])]
    write(page, shown, hides_verdicts=True, set_sha="e" * 64)
    browser.open(page)
    browser.type("#reviewer", "ann")
    assert browser.value("document.getElementById('gate')") is None
    assert "unsupported step 2" not in browser.text("#row")
    browser.click("#accept")
    browser.click("#previous")
    assert browser.text("#gate") == "accepted"
    assert "unsupported step 2" in browser.text("#row")


def test_hostile_texts_are_only_shown(browser, page):
    browser.open(page)
    browser.type("#reviewer", HOSTILE)
    browser.click("#accept")
    browser.click("#previous")
    title, images, bold = browser.value(
        "[document.title, document.querySelectorAll('#row img').length,"
        " document.querySelectorAll('#row b, #row script, #list b').length]"
    )
    assert (title, images, bold) == ("Review", 2, 0)
    shown = browser.text("#steps li")
    assert shown.startswith("</script><script>document.title = 'broken'</script><img src=x")
    assert "\\u202egnp.exe" in shown
    assert "\u202e" not in browser.text("#row")
    browser.press("e")
    browser.click("#save-edit")
    browser.click("#save")
    reviews = read_reviews(browser.downloaded())
    assert [review.decision for review in reviews] == ["edit"]
    assert reviews[0].draft is not None
    assert "gnp.exe" in reviews[0].draft.steps[0].text
    assert not browser.problems


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(browser, tmp_path, width):
    long = "x" * 300
    row = accepted_row(1, causal_explanation=[long], teacher=long, source=long, instruction=long)
    page = tmp_path / "wide.html"
    write(page, [page_row(row, frames=two_frames), page_row(rejected_row(2), long)])
    browser.open(page, width=width)
    browser.type("#reviewer", long)

    def needed():
        return browser.value("document.documentElement.scrollWidth")

    widths = [needed()]
    browser.click("#reject")
    widths.append(needed())
    browser.click("[data-reason=other]")
    browser.click("#edit")
    widths.append(needed())
    assert widths == [width] * 3
