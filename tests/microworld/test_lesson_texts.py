"""Texts of lessons: true, of all forms, in conversations, and as the readers give them."""

import random
from collections import Counter, defaultdict

import pytest
from tiny_corpora import examples_in

from vidreason.microworld.corpora import WorldConfig, split_rollouts, write_stills
from vidreason.microworld.instructions import instructions, questions_about
from vidreason.microworld.language import next_sentence, sentence
from vidreason.microworld.lesson_texts import question_rates, texts_about, texts_about_picture
from vidreason.microworld.open_ended import open_questions
from vidreason.microworld.questions import ask, balance, is_kept, kept_shares
from vidreason.microworld.scenes import draw_rollouts
from vidreason.microworld.still_images import QUESTIONS_PER_IMAGE, looks, picture_instructions
from vidreason.reasoning.predictions import parse_predictions
from vidreason.reasoning.prompts import CAPTION_PROMPT, FUTURE_PREDICTION_PROMPT


@pytest.fixture(scope="module")
def rollouts():
    return [rollout for _, rollout in draw_rollouts("train", 40)]


@pytest.fixture(scope="module")
def rates():
    return question_rates(
        [rollout for _, rollout in draw_rollouts("val", 300)], random.Random("rates")
    )


def test_every_video_has_its_prediction_and_other_true_texts(rollouts, rates):
    texts = texts_about(rollouts, 3, random.Random(0), rates)
    assert [text.video for text in texts] == [n for n in range(len(rollouts)) for _ in range(3)]
    for video, prompt, response, earlier_turns in texts[::3]:
        assert (prompt, earlier_turns) == (FUTURE_PREDICTION_PROMPT, ())
        first = parse_predictions(response).items[0].event
        assert first == next_sentence(rollouts[video], rollouts[video].next_event())
    kinds = Counter(text.prompt.split()[0] for text in texts)
    assert len(kinds) >= 5  # questions begin in many ways
    assert kinds[CAPTION_PROMPT.split()[0]] < len(rollouts)
    judged = Counter(text.response for text in texts if "\nIs this right: " in text.prompt)
    assert set(judged) == {"yes", "no"}


def test_some_texts_come_after_others_about_the_same_video_and_all_answers_are_learnt(
    rollouts, rates
):
    told = defaultdict(set)
    for video, prompt, response in instructions(rollouts, random.Random(0)):
        told[video].add((prompt, response))
    texts = texts_about(rollouts, 6, random.Random(0), rates)
    later = [text for text in texts if text.earlier_turns]
    assert 0.35 < len(later) / len(texts) < 0.7
    num_known = num_questions = 0
    for text in later:
        turns = text.earlier_turns
        assert [turn.role for turn in turns] == ["user", "assistant"] * (len(turns) // 2)
        assert [turn.is_target for turn in turns] == [False, True] * (len(turns) // 2)
        said = [turn.text for turn in turns]
        pairs = {*zip(said[::2], said[1::2], strict=True), (text.prompt, text.response)}
        assert len({prompt for prompt, _ in pairs}) == len(turns) // 2 + 1
        answers = dict(pairs)
        for prompt, response in told[text.video]:
            num_questions += prompt in answers
            num_known += answers.get(prompt) == response
    assert {len(text.earlier_turns) for text in later} == {2, 4, 6, 8}
    assert num_known == num_questions > 20


def test_templates_and_answers_come_alike_over_many_small_batches(rollouts, rates):
    """In ten batches of four videos, none of which has all answers to any question."""
    seen = defaultdict(Counter)
    for start in range(0, len(rollouts), 4):
        texts = texts_about(rollouts[start : start + 4] * 5, 20, random.Random(start), rates)
        for _, prompt, response, turns in texts:
            said = [turn.text for turn in turns]
            for question, answer in (*zip(said[::2], said[1::2], strict=True), (prompt, response)):
                seen[" ".join(question.split()[:3])][answer] += 1
    # There are four times as many of the first kind in a video.
    assert sum(seen["what shape was"].values()) < 4 * sum(seen["how many objects"].values())
    assert len(seen["on which side"]) == 4
    # Where things are is asked far more often than where they came from.
    assert seen["where was the"].total() > 3 * seen["where did the"].total() > 0
    moved = seen["did the red"]
    assert 0.25 < moved["yes"] / moved.total() < 0.75


def test_questions_are_kept_at_random_as_often_as_balancing_keeps_them(rollouts):
    generator = random.Random(0)
    every = [
        (str(number), question)
        for number, rollout in enumerate(rollouts)
        for question in open_questions(rollout, generator)
    ]
    balanced = Counter(question.balanced_class for _, question in balance(every, generator))
    shares = kept_shares(question for _, question in every)
    kept = Counter(
        question.balanced_class
        for _ in range(40)
        for _, question in every
        if is_kept(question, shares, generator)
    )
    assert set(kept) == set(balanced)
    for key, number in balanced.items():
        assert kept[key] / 40 == pytest.approx(number, rel=0.5, abs=0.5)


def test_which_of_two_happens_last_is_asked_as_often_as_which_happens_first(rollouts):
    orders = defaultdict(dict)
    for video, question, prompt in questions_about(rollouts, random.Random(0))["test_of_time"]:
        if question.type == "order":
            options = tuple(prompt.splitlines()[1:3])
            which = question.text.split()[-1]
            orders[video, options][which] = question.answer
            times = {sentence(rollouts[video], e): e.time for e in rollouts[video].happened()}
            chosen, other = (times[each] for each in (question.answer, *question.distractors))
            assert (chosen < other) == (which == "first")
    assert len(orders) > 20
    for answers in orders.values():
        assert answers["first"] != answers["last"]


def test_texts_about_pictures_are_those_that_the_reader_gives(tmp_path):
    config = WorldConfig(num_videos={"test": 60}, seed=3)
    rollouts = split_rollouts("test", config)
    write_stills(tmp_path, "test", rollouts, config)
    given = Counter(
        (example.media.split("/")[-1], without_options(example.prompt), example.response)
        for example in examples_in("vcr", tmp_path / "vcr", "test")
    )
    assert len(given) > 20
    # The same questions, drawn by the same generator.
    written = ask(rollouts, looks, QUESTIONS_PER_IMAGE, random.Random("vcr/test/3"))
    told = Counter(
        (f"{video_id}.jpg", without_options(prompt), response)
        for video_id, look in written
        for prompt, response in picture_instructions(rollouts[video_id], [look], random.Random(0))
    )
    assert told == given


def without_options(prompt):
    """All lines but the options, whose order and wrong reasons are drawn."""
    lines = prompt.splitlines()
    assert sum(line.startswith("(") for line in lines) == 4
    return "\n".join(line for line in lines if not line.startswith("("))


def test_of_a_picture_both_answer_and_reason_are_asked(rollouts):
    generator = random.Random(0)
    rollout = next(each for each in rollouts if list(looks(each, random.Random(1))))
    questions = list(looks(rollout, random.Random(1)))
    positions = Counter()
    asks_why = Counter()
    for _ in range(60):
        (text,) = texts_about_picture(7, rollout, questions, 1, generator)
        assert text.video == 7
        options = [line[4:] for line in text.prompt.splitlines() if line.startswith("(")]
        assert len(set(options)) == 4
        positions[options.index(text.response)] += 1
        asks_why["\nWhy?\n" in text.prompt] += 1
    assert min(asks_why[True], asks_why[False]) > 15
    assert min(positions[index] for index in range(4)) > 5
