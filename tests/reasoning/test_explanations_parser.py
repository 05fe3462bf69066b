"""Steps and links of explanations as language models write them."""

from itertools import chain

import pytest

from vidreason.reasoning.explanations import (
    Link,
    Step,
    format_explanation,
    parse_explanation,
)

MICROWORLD = """1. a red circle enters from the left and moves on
2. the red circle hits the blue square, so the blue square starts moving
3. the wall blocks the blue square, so it stops
4. the red circle leaves on the right because nothing stops it"""
HITS, BLOCKS = "the red circle hits the blue square", "the wall blocks the blue square"
LEAVES = "the red circle leaves on the right"
EVENTS = ["a red circle enters from the left and moves on", HITS, BLOCKS, LEAVES]
LINKS = [
    (HITS, "the blue square starts moving"),
    (BLOCKS, "it stops"),
    ("nothing stops it", LEAVES),
]


def events(text: str) -> list[str]:
    return [step.event for step in parse_explanation(text)]


def links(text: str) -> list[tuple[str, str]]:
    return [tuple(link) for link in chain(*(step.links for step in parse_explanation(text)))]


def test_a_step_has_an_event_and_what_it_says_of_causes():
    steps = parse_explanation(MICROWORLD)
    assert [step.event for step in steps] == EVENTS
    assert links(MICROWORLD) == LINKS
    assert steps[2] == Step(
        "the wall blocks the blue square, so it stops", BLOCKS, (Link(BLOCKS, "it stops"),)
    )
    assert format_explanation(steps) == MICROWORLD
    assert format_explanation(()) == ""


LINES = MICROWORLD.splitlines()
BARE = [line.partition(" ")[2] for line in LINES]


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(BARE),
        "\n\n".join(BARE),
        ". ".join(BARE) + ".",
        "; ".join(BARE),
        "\n".join(f"- {line}." for line in BARE),
        "\n".join(f"* {line}" for line in BARE),
        "\n".join(f"\u2022  {line}" for line in BARE),
        "\n\n".join(f"**Step {n}:** {line}" for n, line in enumerate(BARE, 1)),
        "\n".join(f"  ({n}) {line};" for n, line in enumerate(BARE, 1)),
        "\n".join(f"{sign}) {line}" for sign, line in zip("abcd", BARE, strict=True)),
        "\n".join(f"- {n}.{n}.1 {line}" for n, line in enumerate(BARE, 1)),
        f"Here is why:\n\n{MICROWORLD}\n\nIn short, one thing led to another.",
        f"<think>1. it rains</think>### Explanation:\n{MICROWORLD}<|eot_id|>user: 5. what?",
        "\r\n".join(LINES),
        "\n".join(("", *(f"{line}  \t" for line in LINES), "")),
        "\n".join(LINES).replace(", so", "; so,").replace(" because", " (because"),
        f"{LINES[0]}\n{LINES[1]}\nThen {BARE[2]}.\nFinally, {BARE[3]}.",
    ],
)
def test_steps_are_lines_items_or_sentences(text):
    assert events(text) == EVENTS
    assert links(text) == LINKS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A hits B, so C.", [("A hits B", "C")]),
        ("A hits B, and so C.", [("A hits B", "C")]),
        ("A hits B, therefore C.", [("A hits B", "C")]),
        ("A hits B; as a result, C.", [("A hits B", "C")]),
        ("A hits B. Thus C.", [("A hits B", "C")]),
        ("A hits B. Because of this, C.", [("A hits B", "C")]),
        ("1. A hits B\n2. Consequently C", [("A hits B", "C")]),
        ("A hits B, which makes C.", [("A hits B", "C")]),
        ("A hits B which in turn causes C.", [("A hits B", "C")]),
        ("A hits B. This makes C.", [("A hits B", "C")]),
        ("A hits B, causing C.", [("A hits B", "C")]),
        ("A hits B, thereby leading to C.", [("A hits B", "C")]),
        ("A hits B \u2192 C", [("A hits B", "C")]),
        ("C because A hits B.", [("A hits B", "C")]),
        ("C, as a result of A.", [("A", "C")]),
        ("C due to A.", [("A", "C")]),
        ("C, since A hits B.", [("A hits B", "C")]),
        ("Because A hits B, C.", [("A hits B", "C")]),
        ("Due to A, C.", [("A", "C")]),
        ("C. This is because A hits B.", [("A hits B", "C")]),
        ("C. Because A hits B.", [("A hits B", "C")]),
        ("Because A, B, so C.", [("A", "B"), ("B", "C")]),
        ("A, so B, which makes C.", [("A", "B"), ("B", "C")]),
        # No effect: a degree, a time, nothing before or nothing after.
        ("A is so fast that B.", []),
        ("A moves. Since then, B moves.", []),
        ("So A moves.", []),
        ("A moves, so.", []),
        ("A moves, so far.", []),
        ("Because.", []),
        ("A moves as B moves.", []),
    ],
)
def test_links_are_read_from_words_of_cause_and_effect(text, expected):
    assert links(text) == expected


def test_numbers_that_are_no_marks_stay():
    for text in ("3 balls roll. 1.5 s later they stop", "3 balls roll\n1.5 s later they stop"):
        assert events(text) == ["3 balls roll", "1.5 s later they stop"]
    assert events("\u7403\u6eda\u52a8\u3002\u5b83\u505c\u4e86\u3002") == [
        "\u7403\u6eda\u52a8",
        "\u5b83\u505c\u4e86",
    ]


@pytest.mark.parametrize("text", ["", " \n", "...", "1. 2. 3.", "Explanation:", "- -", "<think>a"])
def test_an_answer_may_have_no_step(text):
    assert parse_explanation(text) == ()


@pytest.mark.parametrize(
    "part",
    ["1. ", "1.1.1.1.", "- ", "((", "and ", "then, ", ", so", " so that", "because ", ". ", "; ",
     "1. a hits b, so it stops because c\n", ", which then", "step 1 ", "9", "\n", "\x00", "\ud800",
     "this is because ", "\u2022", "<think>", "**", "Because a, "],
)  # fmt: skip
def test_loops_are_read_up_to_a_limit(part):
    """Hundred thousand repetitions: what is read of them does not grow any more."""
    steps = parse_explanation(part * 100_000)
    assert steps == parse_explanation(part * 100_000 + part)
    assert len(steps) <= 20_000
    assert sum(len(step.text) for step in steps) <= 20_000
