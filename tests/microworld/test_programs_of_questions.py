"""Every kind of question that the world writes has a program, which answers it from frames."""

import random
import re
from dataclasses import replace

import pytest
from scripted_world import ScriptedModules, numbered_frames

from data_modules.corpora import CorpusConfig
from data_modules.readers import read_corpus
from vidreason.baselines.questions import bare_question
from vidreason.baselines.viper.program_api import ProgramApi
from vidreason.baselines.viper.sandbox import ProgramRun, run_program
from vidreason.example import Example
from vidreason.microworld.corpora import WorldConfig, write_annotations, write_stills
from vidreason.microworld.multiple_choice import multiple_choice_questions
from vidreason.microworld.program_functions import FUNCTIONS
from vidreason.microworld.program_language_model import program_pairs
from vidreason.microworld.program_templates import write_program
from vidreason.microworld.questions import arrange
from vidreason.microworld.simulation import COLORS, SHAPES, Body, Rollout, Scene, simulate
from vidreason.reasoning.predictions import parse_predictions
from vidreason.reasoning.prompts import FUTURE_FRAMES_PROMPT, grounding_prompt

CORPORA = (
    *("nextqa", "activitynet_qa", "nextgqa", "clevrer", "vcr", "test_of_time"),
    "causal_vid_instruct",
)


def run(rollout: Rollout, question: str, options: tuple[str, ...]) -> ProgramRun:
    frames, times = numbered_frames(24)
    host = ProgramApi(frames, ScriptedModules(rollout, times))
    program = write_program(question)
    assert program is not None, question
    return run_program(program, host.inputs(question, options), host)


@pytest.fixture(scope="module")
def examples(rollouts: list[Rollout], tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    """The examples of all corpora that 16 rollouts give."""
    root = tmp_path_factory.mktemp("world")
    config = WorldConfig(num_videos={"train": 16})
    named = {f"1{number:010d}": rollout for number, rollout in enumerate(rollouts[:16])}
    write_annotations(root, "train", named, config)
    # Of every fourth video there is a picture: more of them, so that there are some questions.
    pictured = {f"1{number:010d}": rollout for number, rollout in enumerate(rollouts[:64])}
    write_stills(root, "train", pictured, config)
    return [
        example
        for name in CORPORA
        for example in read_corpus(CorpusConfig(reader=name, root=str(root / name), split="train"))
    ]


def kind(question: str) -> str:
    """A question without names, numbers and sides."""
    text = re.sub(rf"\b({'|'.join((*COLORS, *SHAPES))})\b", "", question)
    return re.sub(r"\d+|\b(left|right|top|bottom|hit|hits|push|pushed|pushes|an?)\b", "", text)


def test_every_question_has_a_program_that_tells_no_answer(examples: list[Example]) -> None:
    questions = [bare_question(example) for example in examples]
    pairs = dict(program_pairs(questions))
    assert set(pairs) == set(questions)
    assert len({kind(question) for question in questions}) > 35
    # Whatever a program names, the question names: of the video's other objects it knows nothing.
    nouns = re.compile(rf"(?:{'|'.join(COLORS)}) (?:{'|'.join(SHAPES)})")
    for question, program in pairs.items():
        assert set(nouns.findall(program)) <= set(nouns.findall(question)), question
    # The same question about videos with different answers is one pair.
    answers: dict[str, set[str]] = {}
    for example, question in zip(examples, questions, strict=True):
        answers.setdefault(question, set()).update(example.answers)
    assert sum(len(several) > 1 for several in answers.values()) > 10


def test_a_question_of_another_world_has_none() -> None:
    others = ["why did the dog bark", "why did the pink circle stop", "", "how many objects"]
    assert [write_program(question) for question in others] == [None] * len(others)


def test_a_program_defines_what_it_calls_and_no_more(examples: list[Example]) -> None:
    for question in {kind(bare_question(e)): bare_question(e) for e in examples}.values():
        program = write_program(question)
        assert program is not None
        defined = re.findall(r"^def (\w+)\(", program, re.MULTILINE)
        called = {name for name in FUNCTIONS if re.search(rf"(?<!def )\b{name}\b", program)}
        assert set(defined[:-1]) <= called
        assert {name for name in FUNCTIONS if re.search(rf"(?<!def )\b{name}\(", program)} <= set(
            defined
        )


SCENE = Scene(
    # Red comes in at once and hits blue, which leaves; green comes in later and pushes yellow into
    # the wall; purple rests.
    bodies=(
        Body(color="blue", shape="circle", x=32.0, y=12.0),
        Body(color="red", shape="circle", x=-16.0, y=12.0, velocity_x=20.0),
        Body(color="yellow", shape="triangle", x=40.0, y=46.0),
        Body(color="green", shape="square", x=-62.0, y=46.0, velocity_x=24.0),
        Body(color="purple", shape="square", x=12.0, y=30.0),
    ),
    wall=None,
    background=220,
)
KNOWN = {
    "why did the blue circle start moving": "the red circle hit it",
    "why did the red circle stop": "it hit the blue circle",
    "how did the red circle enter": "from the left",
    "how did the purple square enter": "it was there from the start",
    "how did the blue circle leave": "on the right",
    "what happened to the blue circle after the red circle hit it": "it left on the right",
    "what did the purple square do when the red circle hit the blue circle": "it was resting",
    "what entered after the red circle": "the green square",
    "where was the purple square at the start": "on the left",
    "what did the green square push": "the yellow triangle",
    "how many objects are there": "five",
    "what became of the red circle": "it stopped",
    "did the green square push the yellow triangle": "yes",
    "did the purple square move": "no",
    "what color was the object that pushed the yellow triangle": "green",
    "what shape was the yellow object": "triangle",
    "what entered first": "red circle",
    "on which side of the purple square was the blue circle at the start": "right",
}


def test_programs_answer_a_scene_whose_truth_is_known() -> None:
    rollout = simulate(SCENE)
    options = {
        choice.question.text: choice.options
        for _, choice in arrange(
            [("1", q) for q in multiple_choice_questions(rollout, random.Random(0))],
            random.Random(0),
        )
    }
    runs = {text: run(rollout, text, options.get(text, ())) for text in KNOWN}
    wrong = {
        text: (one.result, one.failure) for text, one in runs.items() if one.result != KNOWN[text]
    }
    assert not wrong


@pytest.mark.slow
def test_the_program_of_every_kind_runs_and_most_are_right(
    examples: list[Example], rollouts: list[Rollout]
) -> None:
    # Two questions of each kind; VCR's pictures show one moment, which a test of its own has.
    by_kind: dict[tuple[str, str], list[Example]] = {}
    for example in examples:
        if example.corpus != "vcr":
            by_kind.setdefault((example.corpus, kind(bare_question(example))), []).append(example)
    right = []
    for (corpus, _), several in by_kind.items():
        for example in several[:2]:
            name = re.findall(r"\d{5,}", example.media)[-1]
            outcome = run(rollouts[int(name[-10:])], bare_question(example), example.options)
            assert outcome.failure is None, (example.prompt, outcome.failure)
            if corpus != "causal_vid_instruct" and example.question_type != "grounding":
                right.append(outcome.result in example.answers)
    assert len(right) > 50
    assert sum(right) > 0.85 * len(right)


def test_a_picture_is_asked_about_its_first_and_only_frame() -> None:
    rollout = simulate(SCENE)
    boxes = "Boxes (left, top, right, bottom in percent of the picture): "
    boxes += "[yellow triangle3] 50 60 70 80; [purple square5] 10 40 30 60"
    question = f"{boxes}\nWhere is [purple square5] seen from [yellow triangle3]?"
    options = ("to the right.", "above.", "to the left.", "below.")
    assert run(rollout, question, options).result == "to the left."
    reasons = (
        "[purple square5] is in the middle and [yellow triangle3] is at the bottom.",
        "[purple square5] is on the left and [yellow triangle3] is at the bottom.",
    )
    why = f"{question}\nThe answer is: to the left.\nWhy?"
    assert run(rollout, why, reasons).result == reasons[1]


def test_times_are_told_from_frames() -> None:
    rollout = simulate(SCENE)
    hit, push = (
        next(event.time for event in rollout.events if event.kind == name)
        for name in ("hit", "push")
    )
    assert 1.8 < push - hit < 2.2
    events = "the red circle hits the blue circle", "the green square pushes the yellow triangle"
    first = run(rollout, "which of the two happens first", events)
    last = run(rollout, "which of the two happens last", events)
    assert (first.result, last.result) == events
    text = f"how long does it take from this: {events[0]} to this: {events[1]}"
    words = {1: "about one second", 2: "about two seconds", 3: "about three seconds"}
    assert run(rollout, text, tuple(words.values())).result == words[round(push - hit)]
    grounded = run(rollout, grounding_prompt("why did the blue circle start moving"), ())
    assert grounded.result is not None
    start, end = map(float, grounded.result.split(" to "))
    assert abs((start + end) / 2 - hit) < 0.3


@pytest.mark.parametrize(
    ("bodies", "event"),
    [
        (SCENE.bodies, "a red circle enters from the left"),
        (SCENE.bodies[4:], "nothing happens"),
    ],
)
def test_of_predicted_frames_the_first_event_in_them_is_told(
    bodies: tuple[Body, ...], event: str
) -> None:
    outcome = run(simulate(replace(SCENE, bodies=bodies)), FUTURE_FRAMES_PROMPT, ())
    assert outcome.result is not None, outcome.failure
    [prediction] = parse_predictions(outcome.result).items
    assert prediction.event == event
