"""Tables of what a teacher writes, for the bias page and the report."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TypeVar, get_args

from vidreason.evaluation.tables import Table, value_text
from vidreason.teacher.bias import (
    DISTINCT_WORDS,
    BiasCounts,
    SourceCounts,
    TextCounts,
    WordKind,
    quantile,
    wilson,
)
from vidreason.teacher.log_odds import LogOdds, log_odds
from vidreason.teacher.rows import UNWRITABLE
from vidreason.teacher.verdicts import Failure, Rejection

ACCEPTED = "accepted"
ENDINGS = (ACCEPTED, *get_args(Rejection), UNWRITABLE, *get_args(Failure))
"""All ways in which a clip can end, in the order of the tables."""
NUM_WORDS_SHOWN = 12
"""Words at each end of a list."""
NUM_SCENARIOS_SHOWN = 25
ALL_SOURCES = "all"

_Key = TypeVar("_Key", str, float)


def ending_table(counts: BiasCounts) -> Table:
    """How many clips of each source ended how, and in percent of the source's clips."""
    names = sorted(counts.sources)
    total: Counter[str] = Counter()
    for source in counts.sources.values():
        total += source.endings
    columns = [total, *(counts.sources[name].endings for name in names)] if names else []
    return Table(
        "Clips by how they ended, with their share of the source's clips",
        ("ended as", *((ALL_SOURCES, *names) if names else ())),
        (
            *(
                (ending.replace("_", " "), *(_count_and_share(of, ending) for of in columns))
                for ending in ENDINGS
                if total[ending]
            ),
            *([("all clips", *(str(of.total()) for of in columns))] if names else ()),
        ),
    )


def length_table(counts: BiasCounts) -> Table:
    """Lengths and variety of explanations, beside those of the annotations of the same clips."""
    rows = []
    for name, source in sorted(counts.sources.items()):
        rows.append((f"{name}: teacher", *_length_cells(source.answers, source.num_steps)))
        if source.references.num_texts:
            rows.append((f"{name}: annotations", *_length_cells(source.references, None)))
    return Table(
        "Length and variety of explanations: median [10%, 90%]; share of different words and of "
        f"different pairs of words in stretches of {DISTINCT_WORDS} words",
        ("texts", "number", "words", "steps", "different words", "different pairs", "stretch"),
        tuple(rows),
    )


def agreement_table(counts: BiasCounts) -> Table:
    """Share of clips in whose explanation a verb of their annotation occurs."""
    return Table(
        "Clips in whose explanation a verb of the annotation occurs, in % with 95% intervals",
        ("source", "clips with a verb in the annotation", "same verb"),
        tuple(
            (
                name,
                str(source.num_compared),
                value_text(wilson(source.num_agreeing, source.num_compared))
                if source.num_compared
                else "-",
            )
            for name, source in sorted(counts.sources.items())
        ),
    )


def word_tables(counts: BiasCounts, kind: WordKind) -> Iterator[Table]:
    """Yield, for each source, the verbs or objects that stand out against the annotations.

    Of a source without annotations these are the most frequent ones.
    """
    for name, source in sorted(counts.sources.items()):
        of_answers = getattr(source.answers, kind)
        items = log_odds(of_answers, getattr(source.references, kind))
        if items:
            yield _log_odds_table(f"{name}: {kind}, number of texts with them", items)
        elif of_answers:
            yield _frequency_table(
                f"{name}: most frequent {kind}, number of texts with them",
                of_answers,
                source.answers,
            )


def confidence_table(counts: BiasCounts) -> Table:
    """Confidences of the first predictions, and which numbers are written most often."""
    rows = []
    for name, source in sorted(counts.sources.items()):
        total = source.confidences.total()
        # quantile() takes whole numbers: percent, divided by 100 again below.
        percents = Counter({round(100 * key): n for key, n in source.confidences.items()})
        most = ", ".join(
            f"{value:g} ({count / total:.0%})" for value, count in _most(source.confidences, 3)
        )
        spread = _spread(percents, 100.0) if total else "-"
        rows.append((name, str(total), str(source.num_without_confidence), spread, most or "-"))
    return Table(
        "Confidences of the first prediction: median [10%, 90%]",
        ("source", "with", "without", "confidence", "most frequent numbers"),
        tuple(rows),
    )


def scenario_tables(counts: BiasCounts) -> Iterator[Table]:
    """Yield a table of the largest scenarios of each source that has more than one."""
    for name, source in sorted(counts.sources.items()):
        if len(source.scenarios) > 1:
            yield _scenario_table(name, source)


def _scenario_table(name: str, source: SourceCounts) -> Table:
    largest = sorted(source.scenarios.items(), key=lambda item: (-item[1].num_clips, item[0]))
    rows = []
    for scenario, group in largest[:NUM_SCENARIOS_SHOWN]:
        shares = [
            value_text(wilson(count, group.num_clips))
            for count in (group.endings[ACCEPTED], group.endings["refusal"])
        ]
        agreeing = (
            value_text(wilson(group.num_agreeing, group.num_compared))
            if group.num_compared
            else "-"
        )
        # Else two cells of one "-" each.
        cells = (_spread(group.num_words), _spread(group.num_steps)) if group.num_steps else "--"
        rows.append((scenario or "(none)", str(group.num_clips), *shares, *cells, agreeing))
    more = (
        f", the largest {NUM_SCENARIOS_SHOWN} of {len(largest)}" if len(largest) > len(rows) else ""
    )
    return Table(
        f"{name}: scenarios{more}; shares in % with 95% intervals, lengths as median [10%, 90%]",
        ("scenario", "clips", "accepted", "refused", "words", "steps", "same verb"),
        tuple(rows),
    )


def _length_cells(texts: TextCounts, num_steps: Counter[int] | None) -> tuple[str, ...]:
    different, pairs, stretch = texts.distinct.shares()
    return (
        str(texts.num_texts),
        _spread(texts.num_words) if texts.num_words else "-",
        "-" if not num_steps else _spread(num_steps),
        f"{different:.1%}",
        f"{pairs:.1%}",
        str(stretch),
    )


def _log_odds_table(title: str, items: list[LogOdds]) -> Table:
    # They come from the highest score to the lowest: the second list is read from the end.
    more = [item for item in items if item.mean > 0][:NUM_WORDS_SHOWN]
    less = [item for item in items if item.mean < 0][::-1][:NUM_WORDS_SHOWN]
    return Table(
        title,
        ("word", "teacher", "annotations", "log-odds [95%]"),
        tuple(
            (
                item.word,
                str(item.num_texts),
                str(item.num_others),
                f"{item.mean:+.2f} [{item.low:+.2f}, {item.high:+.2f}]",
            )
            for item in (*more, *less)
        ),
    )


def _frequency_table(title: str, counts: Counter[str], texts: TextCounts) -> Table:
    return Table(
        title,
        ("word", "teacher", "share"),
        tuple(
            (word, str(count), f"{count / texts.num_texts:.1%}")
            # As many as the two ends of a list of log-odds.
            for word, count in _most(counts, 2 * NUM_WORDS_SHOWN)
        ),
    )


def _most(counts: Counter[_Key], number: int) -> list[tuple[_Key, int]]:
    """The most frequent keys; those of one frequency in their order."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:number]


def _count_and_share(counts: Mapping[str, int], ending: str) -> str:
    total = sum(counts.values())
    return f"{counts.get(ending, 0)} ({counts.get(ending, 0) / total:.1%})" if total else "0"


def _spread(counts: Mapping[int, int], divisor: float = 1.0) -> str:
    low, middle, high = (quantile(counts, share) / divisor for share in (0.1, 0.5, 0.9))
    return f"{middle:g} [{low:g}, {high:g}]"
