"""The world as NExT-GQA, VCR and Test of Time: what the readers read is what the simulator did."""

import json
import re
from collections import Counter, defaultdict
from itertools import product
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from PIL import Image
from tiny_corpora import examples_in

from vidreason.example import Example
from vidreason.microworld.corpora import (
    WorldConfig,
    split_rollouts,
    write_annotations,
    write_stills,
    write_world,
)
from vidreason.microworld.language import heading, position_phrase, sentence
from vidreason.microworld.renderer import FRAME_SIZE
from vidreason.microworld.simulation import COLORS, VIDEO_SECONDS, Rollout
from vidreason.video.reader import DIRECT

CONFIG = WorldConfig(num_videos={"test": 120}, seed=5)
WHOLE = 23
"""Pixels that a body is wide and high at least, if all of it is seen."""
RGB = {
    **{"red": (214, 40, 40), "green": (46, 160, 67), "blue": (38, 84, 214)},
    **{"yellow": (240, 208, 30), "purple": (138, 48, 190), "orange": (244, 132, 24)},
}


class World:
    """Annotations alone, of many videos: writing those would take minutes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rollouts: dict[str, Rollout] = {}
        for split in CONFIG.num_videos:
            rollouts = split_rollouts(split, CONFIG)
            write_annotations(root, split, rollouts, CONFIG)
            write_stills(root, split, rollouts, CONFIG)
            self.rollouts |= rollouts

    def rollout(self, example: Example) -> Rollout:
        return self.rollouts[Path(example.media).stem]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("forms"))


def test_a_written_world_has_the_media_of_all_forms(tmp_path: Path) -> None:
    write_world(tmp_path, WorldConfig(num_videos={"val": 12}))
    forms = ("nextgqa", "vcr", "test_of_time", "clevrer")
    of = {name: examples_in(name, tmp_path / name, "val") for name in forms}
    for examples in of.values():
        assert examples
        assert all(Path(example.media).is_file() for example in examples)
        assert len({example.id for example in examples}) == len(examples)
    picture = DIRECT.index(of["vcr"][0].media)
    assert tuple(DIRECT.read_frames(picture, [0]).shape) == (1, 3, FRAME_SIZE, FRAME_SIZE)
    inodes = {Path(example.media).stat().st_ino for example in of["nextgqa"] + of["test_of_time"]}
    assert len(inodes) <= 12


def test_nextgqa_has_nextqas_causal_and_temporal_questions(world: World) -> None:
    examples = examples_in("nextgqa", world.root / "nextgqa", "test")
    answers = [example for example in examples if example.options]
    nextqa = [
        example
        for example in examples_in("nextqa", world.root / "nextqa", "test")
        if not example.question_type.startswith("D")
    ]
    assert len(answers) == len(examples) - len(answers) == len(nextqa) > 350
    for example, original in zip(answers, nextqa, strict=True):
        assert (example.prompt, example.answer_index) == (original.prompt, original.answer_index)


def test_what_is_asked_for_happens_in_the_spans(world: World) -> None:
    checked: Counter[str] = Counter()
    examples = examples_in("nextgqa", world.root / "nextgqa", "test")
    for answer, grounding in zip(examples[::2], examples[1::2], strict=True):
        ((start, end),) = grounding.spans
        assert 0 <= start < end <= VIDEO_SECONDS
        assert end - start >= 0.5
        rollout, question = world.rollout(grounding), grounding.meta["question"]
        match = re.fullmatch(
            r"(?:how|why) did the (\w+) \w+ (enter|leave|start moving|stop)", question
        )
        if match is None:
            assert re.match("what (happened|entered|did)", question)
            told = [e for e in rollout.happened() if start <= e.time <= end]
            assert told, question
            continue
        color, verb = match.groups()
        moves = [
            heading(*rollout.state(color, time)[2:]) is not None
            for time in np.linspace(start, end, 100)
        ]
        if answer.response in ("it was there from the start", "it did not leave"):
            assert all(rollout.present(color, time) for time in (start, end))
        elif verb in ("enter", "leave"):
            # What enters is partly there before, and a screen may be in the way.
            assert rollout.present(color, end if verb == "enter" else start)
            assert verb == "enter" or not rollout.present(color, end) or end == VIDEO_SECONDS
        else:
            assert any(moves)
            assert moves[0 if verb == "start moving" else -1] is False
        checked[verb] += 1
    assert min(checked[verb] for verb in ("enter", "leave", "start moving", "stop")) >= 10


def test_vcr_asks_what_its_boxes_and_pictures_show(world: World) -> None:
    examples = examples_in("vcr", world.root / "vcr", "test")
    assert len(examples) > 100
    pictures: dict[str, np.ndarray] = {}
    checked = 0
    colored = []
    for answer, reason in zip(examples[::2], examples[1::2], strict=True):
        boxes = json.loads(answer.meta["boxes"])
        names = re.findall(r"\[\w+ \w+\]", answer.meta["question"])
        assert set(boxes) == set(names)
        if answer.media not in pictures:
            pictures[answer.media] = np.asarray(Image.open(answer.media)).astype(int)
        centres = []
        for name in names:
            left, top, right, bottom = boxes[name]
            assert 0 <= left < right <= FRAME_SIZE
            assert 0 <= top < bottom <= FRAME_SIZE
            centres.append(((left + right) / 2, (top + bottom) / 2))
            pixel = pictures[answer.media][int(centres[-1][1]), int(centres[-1][0])]
            nearest = min(RGB, key=lambda c, p=pixel: abs(p - np.array(RGB[c])).sum())
            colored.append(name.startswith(f"[{nearest} "))
        sizes = [(right - left, bottom - top) for left, top, right, bottom in map(boxes.get, names)]
        if min(map(min, sizes)) < WHOLE:
            continue  # behind the screen in part, or outside: the centre is not the box's
        checked += 1
        (x, y), (other_x, other_y) = centres
        sides = {"to the left": other_x - x, "to the right": x - other_x}
        sides |= {"above": other_y - y, "below": y - other_y}
        assert answer.response == f"{max(sides, key=lambda side: sides[side])}."
        told = re.fullmatch(r"\[.*?\] is (.*) and \[.*?\] is (.*)\.", reason.response)
        for (x, y), position in zip(centres, told.groups(), strict=True):
            # Two pixels a unit; a triangle's box lies two units above its centre.
            nearby = product((x / 2 - 2.5, x / 2, x / 2 + 2.5), (y / 2 - 2.5, y / 2, y / 2 + 2.5))
            assert position in {position_phrase(*point) for point in nearby}
        told = [f"{name} {' '.join(str(round(100 * e / FRAME_SIZE)) for e in boxes[name])}"
                for name in names]  # fmt: skip
        assert all(one in answer.prompt and one in reason.prompt for one in told)
    assert checked > len(examples) / 4
    # At few centres there is another body or the screen.
    assert fmean(colored) > 0.95


def test_vcrs_answers_are_even_and_its_labels_independent(world: World) -> None:
    examples = examples_in("vcr", world.root / "vcr", "test")
    answers = Counter(example.response for example in examples[::2])
    assert len(answers) == 4
    assert len(set(answers.values())) == 1
    labels = Counter((a.answer_index, r.answer_index)
                     for a, r in zip(examples[::2], examples[1::2], strict=True))  # fmt: skip
    assert len(labels) == 16
    assert max(labels.values()) - min(labels.values()) <= 1


def test_time_questions_are_answered_by_the_event_log(world: World) -> None:
    examples = examples_in("test_of_time", world.root / "test_of_time", "test")
    pairs: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        rollout = world.rollout(example)
        times = {sentence(rollout, event): event.time for event in rollout.happened()}
        question = example.meta["question"]
        if example.question_type == "order":
            pairs[example.group_id].append(example)
            earliest = min(example.options, key=lambda told: times[told])
            assert (example.response == earliest) == question.endswith("first")
        elif example.question_type == "duration":
            first, second = re.fullmatch(r".*from this: (.*) to this: (.*)", question).groups()
            number = ("one", "two", "three").index(example.response.split()[1]) + 1
            assert abs(times[second] - times[first] - number) <= 0.2
        else:
            time = times[question.partition(": ")[2]]
            part = ("first", "second", "last").index(example.response.split()[2])
            assert 2 * part < time < 2 * (part + 1)
    for first, last in pairs.values():
        assert first.options == last.options
        assert {first.answer_index, last.answer_index} == {0, 1}
    kinds = Counter(example.question_type for example in examples)
    assert min(kinds[kind] for kind in ("order", "duration", "localization")) >= 30


def test_every_colour_has_its_words() -> None:
    assert set(RGB) == set(COLORS)
