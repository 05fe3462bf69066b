"""The page that shows a teacher's biases: ``bias.html`` of an instruction set."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from vidreason.evaluation.page.charts import Bar, bars_figure
from vidreason.evaluation.page.elements import header_element, table_element, write_page
from vidreason.evaluation.tables import Table
from vidreason.teacher.bias import BiasCounts, wilson
from vidreason.teacher.bias_tables import (
    ACCEPTED,
    ENDINGS,
    agreement_table,
    confidence_table,
    ending_table,
    length_table,
    scenario_tables,
    word_tables,
)

_TITLE = "Biases of the teacher"
_STYLE = """\
nav { margin: 16px 0; }
.words th, .words td { padding: 6px 8px; }
.words th:first-child { padding-left: 0; }
main p { max-width: 75ch; }
.words { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(480px, 100%), 1fr));
  gap: 0 24px; }
"""
_METHOD = (
    "Verbs are the forms of a list of some 480 English verbs and other words in -ing; objects are "
    "the last words of runs of other content words. No tagger and no dictionary: an adjective may "
    "be taken for an object, and a rare verb may be missed. The same rules are applied to the "
    "teacher's texts and to the annotations.",
    "A word counts once for each text. Log-odds are those of Monroe, Colaresi and Quinn (2008) "
    "with an informative Dirichlet prior of 500 words: above 0, the word takes a larger share of "
    "the teacher's words than of the annotations'. Intervals are for each word by itself; the "
    "lists show the highest scores, so some of their intervals exclude 0 by selection.",
    "Annotations are shorter than explanations and say less about causes: a difference is no error "
    "of the teacher by itself. Intervals of shares (Wilson) treat clips as independent, though "
    "clips of one video are alike. Words and lengths are those of accepted answers.",
)


def write_bias_page(path: Path, counts: BiasCounts, facts: Mapping[str, str]) -> None:
    """Write one HTML file that needs no other file and no network.

    Args:
        path: Where to.
        counts: What is shown.
        facts: Shown below the title; texts, not HTML.
    """
    sections = [
        header_element(_TITLE, facts),
        '<nav aria-label="Contents"><a href="#endings">Refusals and rejections</a> '
        '<a href="#lengths">Lengths</a> <a href="#verbs">Verbs</a> '
        '<a href="#objects">Objects</a> <a href="#confidences">Confidences</a> '
        '<a href="#scenarios">Scenarios</a> <a href="#method">Method</a></nav><main>',
        *_section("endings", "Refusals and rejections", [ending_table(counts)]),
        _ending_bars(counts),
        *_section("lengths", "Lengths", [length_table(counts)]),
        *_section("verbs", "Verbs", [agreement_table(counts)]),
        _beside(word_tables(counts, "verbs")),
        *_section("objects", "Objects"),
        _beside(word_tables(counts, "objects")),
        *_section("confidences", "Confidences", [confidence_table(counts)]),
        _confidence_bars(counts),
        *_section("scenarios", "Scenarios", list(scenario_tables(counts))),
        *_section("method", "Method and limits"),
        *(f"<p>{escape(note)}</p>" for note in _METHOD),
        "</main>",
    ]
    write_page(path, _TITLE, sections, style=_STYLE)


def _section(name: str, title: str, tables: Sequence[Table] = ()) -> list[str]:
    shown = [table_element(table) for table in tables if table.rows]
    return [f'<h2 id="{name}">{escape(title)}</h2>', *shown]


def _beside(tables: Iterable[Table]) -> str:
    """Tables side by side where the window is wide enough."""
    return f'<div class="words">{"".join(map(table_element, tables))}</div>'


def _ending_bars(counts: BiasCounts) -> str:
    """For each cause, a bar a source; without accepted clips, beside which nothing is seen."""
    groups: dict[str, dict[str, Bar]] = {}
    for ending in ENDINGS:
        bars: dict[str, Bar] = {}
        for name, source in sorted(counts.sources.items()):
            share, low, high = wilson(source.endings[ending], source.num_clips)
            bars[name] = (share, low, high)
        if ending != ACCEPTED and any(share for share, _, _ in bars.values()):
            groups[ending.replace("_", " ")] = bars
    return _bars("Clips without a row, by cause and source", groups, counts)


def _confidence_bars(counts: BiasCounts) -> str:
    """Shares of first predictions by confidence, in tenths."""
    groups: dict[str, dict[str, Bar]] = {}
    for tenth in range(10):
        bars: dict[str, Bar] = {}
        for name, source in sorted(counts.sources.items()):
            total = source.confidences.total()
            # 1 belongs to the last tenth.
            count = sum(
                count
                for value, count in source.confidences.items()
                if min(int(round(100 * value) // 10), 9) == tenth
            )
            if total:
                bars[name] = (count / total, None, None)
        if bars:
            groups[f"confidence {tenth / 10:.1f} to {(tenth + 1) / 10:.1f}"] = bars
    return _bars("First predictions by confidence", groups, counts)


def _bars(title: str, groups: Mapping[str, Mapping[str, Bar]], counts: BiasCounts) -> str:
    return bars_figure(title, groups, sorted(counts.sources)) if groups else ""
