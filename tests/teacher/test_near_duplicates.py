"""Near-duplicates found among many texts, in memory that does not depend on the texts' lengths."""

import random

import pytest
from process_memory import linux_only, peak_of

from vidreason.near_texts import TextIndex
from vidreason.teacher import near_duplicates
from vidreason.teacher.near_duplicates import NearDuplicates

WORDS = [f"{first}{second}" for first in "bcdfghjklm" for second in ("ab", "ol", "ud", "en")]
TEXT = "The red ball rolls down the ramp, hits the blue box, and the box falls off the table."


def drawn(draw: random.Random, count: int = 60) -> list[str]:
    return draw.choices(WORDS, k=count)


def test_case_punctuation_and_spaces_make_no_difference():
    texts = NearDuplicates(0.95)
    texts.add("first", TEXT)
    for same in (TEXT, TEXT.upper(), f"  {TEXT.replace(' ', '  ')}!", TEXT.replace(",", " -")):
        match = texts.find(same)
        assert match is not None
        assert match == ("first", 1.0)
    assert texts.find(TEXT.replace("red", "green").replace("table", "shelf")) is None


def test_short_texts_are_near_to_nothing():
    texts = NearDuplicates(0.5)
    for text in ("", "...", "nothing happens", "the ball hits the box and stops"):
        texts.add(text, text)
        assert texts.find(text) is None
    assert len(texts) == 0
    assert texts.find(TEXT) is None


def test_the_first_of_the_most_similar_is_found():
    texts = NearDuplicates(0.5)
    texts.add("other", TEXT.replace("falls off the table", "slides over the edge"))
    texts.add("one", TEXT)
    texts.add("two", TEXT)
    match = texts.find(TEXT)
    assert match is not None
    assert match.name == "one"


def test_the_exact_index_agrees_away_from_the_threshold(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(near_duplicates, "_BLOCK", 64)  # several blocks
    draw = random.Random(0)
    exact, texts = TextIndex(0.01), NearDuplicates(0.8)
    originals = [drawn(draw) for _ in range(300)]
    for number, words in enumerate(originals):
        exact.add(str(number), " ".join(words))
        texts.add(str(number), " ".join(words))
    assert len(texts) == 300
    num_near = 0
    for _ in range(300):
        words = list(draw.choice(originals))
        for _ in range(draw.randint(0, 8)):
            words[draw.randrange(len(words))] = draw.choice(WORDS)
        match, nearest = texts.find(" ".join(words)), exact.find(" ".join(words))
        similarity = nearest.similarity if nearest else 0.0
        if match is not None:
            assert nearest is not None
            assert match.name == nearest.name
            assert abs(match.similarity - similarity) < 0.18  # four standard errors
            num_near += 1
        # Two standard errors beyond the threshold, and none below it.
        assert (match is not None) or similarity < 0.95
        assert (match is None) or similarity > 0.65
    assert 60 < num_near < 240


def test_many_texts_of_one_template_are_told_apart():
    texts = NearDuplicates(0.8)
    start = " ".join(drawn(random.Random(1), 12))
    draw = random.Random(2)
    ends = [" ".join(drawn(draw, 30)) for _ in range(1200)]
    for number, end in enumerate(ends):
        assert texts.find(f"{start} {end}") is None
        texts.add(str(number), f"{start} {end}")
    for number in (0, 700, 1199):
        match = texts.find(f"{start} {ends[number]}".upper())
        assert match is not None
        assert match.name == str(number)


@linux_only
@pytest.mark.slow
def test_a_hundred_thousand_texts_fit_in_a_hundred_megabytes():
    draw = random.Random(0)
    words = [f"w{number}" for number in range(3000)]
    texts: list[NearDuplicates] = []

    def fill() -> None:
        texts.append(NearDuplicates(0.8))
        for number in range(100_000):
            texts[0].add(f"ego4d-{number:016x}", " ".join(draw.choices(words, k=80)))

    assert peak_of(fill) < 100 * 2**20
    assert len(texts[0]) == 100_000
