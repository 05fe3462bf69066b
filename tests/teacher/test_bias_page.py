"""A teacher's biases: words by plain rules, log-odds beside the annotations, and a page of text."""

import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from instruction_samples import Ending, accepted, clip, failed, rejected
from process_memory import linux_only, peak_of

from vidreason.reasoning.predictions import Prediction
from vidreason.teacher.bias import (
    DISTINCT_WORDS,
    MAX_SCENARIOS,
    OTHER_SCENARIOS,
    BiasCounts,
    DistinctNGrams,
    quantile,
    wilson,
)
from vidreason.teacher.bias_page import write_bias_page
from vidreason.teacher.bias_tables import (
    agreement_table,
    confidence_table,
    ending_table,
    length_table,
    scenario_tables,
    word_tables,
)
from vidreason.teacher.draft import Draft, Step
from vidreason.teacher.log_odds import PRIOR_WORDS, log_odds
from vidreason.teacher.words import singular, tokens, verbs_and_objects, words


@pytest.mark.parametrize(
    ("text", "verbs", "objects"),
    [
        ("#C C picks up the cup from the table", ["pick"], ["cup", "table"]),
        ("holding potato next to vicks vaporub bottle", ["hold"], ["potato", "bottle"]),
        ("The yellow circle hits block two.", ["hit"], ["circle", "block"]),
        ("She poured water, then hit the drum", ["pour", "hit"], ["water", "drum"]),
        ("He is unscrewing the lids of two jars", ["unscrew"], ["lid", "jar"]),
        ("the falling ball stops", ["stop"], ["ball"]),
        (
            "starts running, tied knots and has cut bread",
            ["start", "run", "tie", "cut"],
            ["knot", "bread"],
        ),
        ("Something is on the ceiling", [], ["ceiling"]),
        ("", [], []),
        ("\u00fc\u00df \u4e2d\u6587 \x00 123 ???", [], ["\u4e2d\u6587"]),
    ],
)  # fmt: skip
def test_verbs_and_objects_of_plain_sentences(
    text: str, verbs: list[str], objects: list[str]
) -> None:
    assert verbs_and_objects(text) == (verbs, objects)


def test_words_are_cut_plainly() -> None:
    assert words("The person's 2 hands, don't!") == ["the", "person's", "2", "hands", "don't"]
    assert tokens("x" * 31 + " a") == ["a"]
    plurals = {"boxes": "box", "knives": "knife", "glass": "glass", "buses": "buse", "axes": "ax",
               "people": "person", "houses": "house", "brushes": "brush", "berries": "berry",
               "matches": "match", "bus": "bus", "gas": "gas"}  # fmt: skip
    del plurals["buses"], plurals["axes"]  # known mistakes of the rules
    assert {word: singular(word) for word in plurals} == plurals


def test_log_odds_follow_the_formula_and_draw_rare_words_together() -> None:
    counts, others = {"move": 60, "hit": 40, "once": 1}, {"move": 20, "hit": 80}
    items = {item.word: item for item in log_odds(counts, others)}
    prior = PRIOR_WORDS * 80 / 201
    expected = math.log((60 + prior) / (101 + PRIOR_WORDS - 60 - prior)) - math.log(
        (20 + prior) / (100 + PRIOR_WORDS - 20 - prior)
    )
    assert items["move"].mean == pytest.approx(expected, abs=1e-9)
    half = 1.96 * math.sqrt(1 / (60 + prior) + 1 / (20 + prior))
    assert items["move"].high - items["move"].mean == pytest.approx(half)
    assert items["hit"].mean < 0 < items["move"].mean
    # Counts of one and none say little: less than what is seen often.
    assert items["once"].low < 0 < items["once"].high
    assert [item.word for item in log_odds(counts, others)] == ["move", "once", "hit"]
    assert log_odds(counts, {}) == log_odds({}, others) == []
    assert math.isfinite(log_odds({"only": 3}, {"only": 5})[0].mean)


def test_shares_of_different_words_do_not_depend_on_the_number_of_texts() -> None:
    text = [f"w{number % 500}" for number in range(1000)]
    short, long = DistinctNGrams(), DistinctNGrams()
    for _ in range(5):
        short.add(text)
    for _ in range(40):
        long.add(text)
    assert short.shares() == pytest.approx(long.shares())
    assert short.shares() == (500 / 5000, 500 / 4999, DISTINCT_WORDS)
    assert DistinctNGrams().shares() == (0.0, 0.0, 0)
    assert quantile({3: 1, 5: 8, 9: 1}, 0.5) == 5
    assert quantile({}, 0.5) == 0
    share, low, high = wilson(9, 10)
    assert (share, low, high) == pytest.approx((0.9, 0.5958, 0.9821), abs=1e-4)
    assert math.isnan(wilson(0, 0).mean)


EVIL = '"><img src=x onerror=alert(1)><script>alert(1)</script>&lt;'


def endings() -> list[tuple[Ending, str]]:
    """Two sources: one whose teacher agrees with its annotations, and one that refuses."""
    agreeing = Draft(
        steps=(Step("The person rolls the ball."), Step("It hits the wall.")),
        predictions=(Prediction("a", "", 0.8),),
    )
    other = Draft(
        steps=(Step("A person carefully lifts a knife."),),
        predictions=(Prediction("a", "", math.nan),),
    )
    return [
        *((accepted(clip(number), agreeing), "accepted") for number in range(6)),
        (accepted(clip(6, scenario=EVIL), other), "accepted"),
        (rejected(clip(7), "refusal"), "refusal"),
        *((accepted(clip(n, source="ssv2", reference=""), other), "accepted") for n in range(2)),
        (failed(clip(2, source="ssv2"), "endpoint"), "endpoint"),
    ]


def counted(items: list[tuple[Ending, str]]) -> BiasCounts:
    counts = BiasCounts()
    for one, ending in items:
        is_row = ending == "accepted"
        counts.add(one, ending, one.verdict.draft if is_row and one.verdict else None)
    return counts


def test_tables_count_by_source_and_scenario() -> None:
    counts = counted(endings())
    assert ending_table(counts).rows == (
        ("accepted", "9 (81.8%)", "7 (87.5%)", "2 (66.7%)"),
        ("refusal", "1 (9.1%)", "1 (12.5%)", "0 (0.0%)"),
        ("endpoint", "1 (9.1%)", "0 (0.0%)", "1 (33.3%)"),
        ("all clips", "11", "8", "3"),
    )
    assert [row[:3] for row in agreement_table(counts).rows] == [
        ("ego4d", "7", f"{600 / 7:.1f} [48.7, 97.4]"),
        ("ssv2", "0", "-"),
    ]
    assert [row[0] for row in length_table(counts).rows] == [
        *("ego4d: teacher", "ego4d: annotations", "ssv2: teacher"),
    ]
    assert length_table(counts).rows[0][1:4] == ("7", "9 [6, 9]", "2 [1, 2]")
    assert confidence_table(counts).rows == (
        ("ego4d", "6", "1", "0.8 [0.8, 0.8]", "0.8 (100%)"),
        ("ssv2", "0", "2", "-", "-"),
    )
    against, frequent = word_tables(counts, "verbs")
    by_word = {row[0]: row[1:] for row in against.rows}
    assert by_word["roll"][:2] == ("6", "7")
    assert by_word["hit"][2].startswith("+")
    assert by_word["roll"][2].startswith("-")
    assert frequent.rows == (("lift", "2", "100.0%"),)
    (scenarios,) = scenario_tables(counts)
    assert [row[0] for row in scenarios.rows] == ["Cooking", EVIL]


class Tags(HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names |= {tag, *(name for name, _ in attrs)}


def test_the_page_shows_hostile_texts_as_text(tmp_path: Path) -> None:
    hostile = Draft(steps=(Step(EVIL + " rolls the \u202eball \x1b[31m"),))
    items = [*endings(), (accepted(clip(9, reference=EVIL), hostile), "accepted")]
    path = tmp_path / "bias.html"
    write_bias_page(path, counted(items), {"teacher": EVIL, EVIL: "\ud800"})
    page = path.read_text(encoding="utf-8")
    names = Tags(page).names
    assert not names & {"img", "script", "onerror", "iframe"}
    assert "&lt;img src=x" in page
    assert "script-src 'none'" in page
    assert all(address.startswith("#") for address in re.findall(r'(?:src|href)="([^"]*)', page))
    write_bias_page(path, BiasCounts(), {})
    assert "Method and limits" in path.read_text()


@linux_only
def test_memory_does_not_grow_with_texts_and_scenarios() -> None:
    counts = BiasCounts()

    def add(first: int, last: int) -> None:
        for number in range(first, last):
            text = f"the w{'abcdefghij'[number % 10] * 3} rolls over number {number}"
            counts.add(
                accepted(clip(number, scenario=f"s{number}"), Draft(steps=(Step(text),))),
                "accepted",
                Draft(steps=(Step(text),)),
            )

    add(0, 1000)
    assert peak_of(lambda: add(1000, 6000)) < 8 * 2**20
    source = counts.sources["ego4d"]
    assert len(source.scenarios) == MAX_SCENARIOS + 1
    assert source.scenarios[OTHER_SCENARIOS].num_clips == 6000 - MAX_SCENARIOS
