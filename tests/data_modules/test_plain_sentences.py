"""Sentences that are made of annotations, and of questions with their answers."""

import csv
import os
from pathlib import Path

import pytest
from sound_sentences import assert_sound

from data_modules.english_verbs import BASES, conjugated, gerund, past, third_person, verb_of
from data_modules.plain_sentences import MAX_WORDS, plain_sentence, story
from data_modules.rationales import NO_ANSWER, NO_CLAUSE, NO_QUESTION, event_after, rationale

REAL = Path(
    os.environ.get("VIDREASON_ANNOTATIONS", Path(__file__).parents[3] / "shared/data/annotations")
)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("the  man\njumps", "The man jumps."),
        ("The man jumps!!", "The man jumps."),
        ("Tom &amp; Ann walk.", "Tom & Ann walk."),
        ("the the dog runs", "The dog runs."),
        ("Z\u00fcrich, seen from above", "Z\u00fcrich, seen from above."),
        ("2 dogs run", "2 dogs run."),
        ("- he waves ...", "He waves."),
    ],
)
def test_a_text_becomes_one_sentence(text: str, sentence: str) -> None:
    assert plain_sentence(text) == (sentence, "")


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        *((text, "empty") for text in ("", "  ", "nan", "None", "...", "12 3")),
        *((text, "single word") for text in ("Jumps.", "a-", "'word'")),
        *((text, "pronouns") for text in ("It is.", "he they", "And then... so it was")[:2]),
        *((text, "markup") for text in ("<b>A dog</b> runs", "A dog <|im_end|>", "A &lt;i&gt; b")),
        *((text, "control") for text in ("A dog\x07 runs", "A\u202edog runs", "A dog\x00 runs")),
        ("Why does it run?", "question"),
        ("a dog runs " * MAX_WORDS, f"more than {MAX_WORDS} words"),
    ],
)
def test_a_text_that_is_no_sentence_is_left_out_by_name(text: str, cause: str) -> None:
    sentence, found_cause = plain_sentence(text)
    assert not sentence
    assert cause in found_cause


def test_order_is_said_where_it_is_true() -> None:
    sentences = ["The man sits.", "He stands.", "A dog barks.", "Anna runs.", "The dog leaves."]
    spans = [(0.0, 4.0), (4.0, 9.0), (5.0, 6.0), (9.0, 12.0), (12.0, 14.0)]
    assert story(sentences, spans) == [
        *("First, the man sits.", "Then, he stands.", "Meanwhile, a dog barks."),
        *("Anna runs.", "Finally, the dog leaves."),
    ]
    assert story(["The man sits."], [(0.0, 1.0)]) == ["The man sits."]
    # What says its order itself gets no second word for it.
    assert story(["A man sits.", "He then stands."], spans) == [
        "First, a man sits.",
        "He then stands.",
    ]


def test_verbs_have_their_forms() -> None:
    forms = [(third_person(b), past(b), gerund(b)) for b in ("go", "carry", "stop", "lie", "make")]
    assert forms == [
        ("goes", "went", "going"),
        ("carries", "carried", "carrying"),
        ("stops", "stopped", "stopping"),
        ("lies", "lay", "lying"),
        ("makes", "made", "making"),
    ]
    assert verb_of("Sitting") == ("sit", "gerund")
    assert verb_of("table") is None
    for base in BASES:
        assert verb_of(base) == (base, "base") or base in ("left", "found")
        for form in ("third", "gerund"):
            assert verb_of(conjugated(base, form)) == (base, form)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("question", "answer", "sentence"),
    [
        ("why did the boy bend down", "pick up ball", "The boy bent down to pick up the ball."),
        ("why did the man fall", "lose balance", "The man fell because he lost balance."),
        ("why do the lady smile", "she is happy", "The lady smiles because she is happy."),
        ("why does the dog bark", "excited", "The dog barks because it is excited."),
        ("why are the men kneeling", "praying for rain", None),
        ("why are the men kneeling", "playing", "The men are kneeling because they are playing."),
        ("how does the lady keep warm?", "wear a coat", "The lady keeps warm by wearing a coat."),
        ("how did the girl cross", "by the bridge", "The girl crossed by the bridge."),
        (
            "what did the dog do after the man s hat fell",
            "grab it and run",
            "After the man's hat fell, the dog grabbed it and ran.",
        ),
        (
            "what does the boy do before jumping",
            "looks around",
            "Before jumping, the boy looks around.",
        ),
    ],
)
def test_a_question_and_its_answer_are_one_sentence(
    question: str, answer: str, sentence: str | None
) -> None:
    made, cause = rationale(question, answer)
    assert made == (sentence or "")
    assert bool(cause) == (sentence is None)


@pytest.mark.parametrize(
    ("question", "answer", "cause"),
    [
        ("how many dogs are there", "2", NO_CLAUSE),
        ("where is this", "park", NO_QUESTION),
        ("", "", NO_QUESTION),
        ("why", "because", NO_QUESTION),
        ("why is the girl happy", "toy", NO_CLAUSE),
        ("why did the man who sat on it run", "to flee", NO_CLAUSE),
        ("why did the girl run", "toy", NO_ANSWER),
        ("why did the girl run", "", NO_ANSWER),
        ("how does the man feel", "happy", NO_CLAUSE),
        ("why is the man standing on the left holding a cup", "to drink", NO_CLAUSE),
        ("what does the man do to the cat before leaving", "pat it", NO_QUESTION),
    ],
)
def test_what_cannot_be_said_soundly_is_left_out(question: str, answer: str, cause: str) -> None:
    assert rationale(question, answer) == ("", cause)


def test_the_answer_of_what_came_after_stands_alone() -> None:
    question = "what did the boy do after he sat"
    assert event_after(question, "pick up the toy") == "The boy picked up the toy."
    assert event_after("what did the boy do before he sat", "pick up the toy") == ""
    assert event_after("why did the boy run", "to win") == ""


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real annotation files are not in {REAL}")
def test_the_real_questions_give_sound_sentences() -> None:
    with (REAL / "nextqa/val.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["type"][0] in "CT"]
    sentences = [rationale(row["question"], row[f"a{row['answer']}"])[0] for row in rows]
    made = [sentence for sentence in sentences if sentence]
    assert len(made) > 0.5 * len(rows)
    for sentence in made:
        assert_sound(sentence)
