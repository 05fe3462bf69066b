"""No form of question is answered by its words: guessing from them is no better than the prior."""

from collections import defaultdict
from pathlib import Path
from statistics import fmean

import pytest
from text_only import by_form, form, guess, text_only_accuracy
from tiny_corpora import examples_in

from vidreason.example import Example
from vidreason.microworld.corpora import (
    WorldConfig,
    split_rollouts,
    write_annotations,
    write_stills,
)
from vidreason.microworld.language import sentence
from vidreason.microworld.simulation import VIDEO_SECONDS, Rollout

CONFIG = WorldConfig(num_videos={"train": 500, "test": 240}, seed=5)
FORMS = ("nextqa", "activitynet_qa", "clevrer", "test_of_time", "vcr")
FEW = 30

pytestmark = pytest.mark.slow


class World:
    """Annotations alone."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rollouts: dict[str, dict[str, Rollout]] = {}
        for split in CONFIG.num_videos:
            self.rollouts[split] = split_rollouts(split, CONFIG)
            write_annotations(root, split, self.rollouts[split], CONFIG)
            write_stills(root, split, self.rollouts[split], CONFIG)

    def examples(self, corpus: str) -> tuple[list[Example], list[Example]]:
        """Return the examples of train, and of test."""
        train, test = (
            examples_in(corpus, self.root / corpus, split) for split in ("train", "test")
        )
        return train, test


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("text"))


@pytest.mark.parametrize("corpus", FORMS)
def test_words_do_not_tell_the_answer(world: World, corpus: str) -> None:
    told = {}
    train, test = (defaultdict(list), defaultdict(list))
    for examples, by_type in zip(world.examples(corpus), (train, test), strict=True):
        for example in examples:
            by_type[example.question_type].append(example)
    for kind, of_kind in test.items():
        if len(of_kind) >= FEW:
            told[kind] = guess(train[kind], of_kind)
    print(told)
    assert len(told) >= {"nextqa": 7, "activitynet_qa": 8}.get(corpus, 2)
    assert {kind: each for kind, each in told.items() if each.accuracy > each.limit} == {}


@pytest.mark.parametrize("corpus", ["nextqa", "activitynet_qa", "test_of_time"])
def test_words_do_not_tell_the_answer_to_any_form_of_question(world: World, corpus: str) -> None:
    train, test = map(by_form, world.examples(corpus))
    told = {
        name: guess(train[name], examples)
        for name, examples in test.items()
        if len(examples) >= FEW
    }
    # Among so many forms one or two exceed three standard errors by the shape of small samples.
    assert [name for name, each in told.items() if each.accuracy > each.limit + 0.03] == []


def test_words_do_not_tell_when_the_answer_is_seen(world: World) -> None:
    """The mean span of each form of question covers little more of the true one than any does."""
    train, test = (
        [example for example in examples if example.spans] for examples in world.examples("nextgqa")
    )
    spans = {
        name: tuple(fmean(example.spans[0][end] for example in examples) for end in (0, 1))
        for name, examples in by_form(train).items()
    }

    def covered(start: float, end: float, example: Example) -> float:
        first, last = example.spans[0]
        return max(0.0, min(end, last) - max(start, first)) / (end - start)

    of_form = fmean(covered(*spans[form(example)], example) for example in test)
    whole = fmean(covered(0.0, VIDEO_SECONDS, example) for example in test)
    print({"mean span of the form": of_form, "whole video": whole})
    assert whole < 0.25
    assert of_form < 0.35


def test_the_words_would_tell_if_answers_were_not_balanced(world: World) -> None:
    """The tests above see it when what happens first is asked of any two events."""

    def told(split: str) -> list[Example]:
        examples = []
        for video_id, rollout in world.rollouts[split].items():
            events = [sentence(rollout, event) for event in rollout.happened()]
            for number in range(1, len(events)):
                options = tuple(sorted((events[number - 1], events[number])))
                examples.append(
                    Example(
                        id=f"{video_id}/{number}",
                        corpus="test_of_time",
                        media="",
                        video_id=video_id,
                        prompt="",
                        response="",
                        options=options,
                        answer_index=options.index(events[number - 1]),
                        meta={"question": "which of the two happens first"},
                    )
                )
        return examples

    assert text_only_accuracy(told("train"), told("test")) > 0.6
