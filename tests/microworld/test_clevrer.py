import json
import random
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from vidreason.microworld.clevrer import video_path, write_questions
from vidreason.microworld.simulation import Body, Rollout, Scene, simulate


def written(folder: Path, rollouts: list[Rollout], seed: int = 0) -> list[dict[str, Any]]:
    write_questions(folder, "val", dict(enumerate(rollouts)), random.Random(seed))
    scenes: list[dict[str, Any]] = json.loads((folder / "questions/validation.json").read_text())
    return scenes


def test_what_would_happen_without_a_ball(tmp_path: Path):
    """Red hits blue, blue hits green, which leaves; without blue, red hits green itself."""
    chain = simulate(
        Scene(
            bodies=(
                Body(color="red", shape="circle", x=-15.0, y=32.0, velocity_x=16.0),
                Body(color="blue", shape="circle", x=24.0, y=32.0),
                Body(color="green", shape="circle", x=44.0, y=32.0),
            ),
            wall=None,
            background=230,
        )
    )
    without = "what will happen if the {} circle is removed".format
    due = "which of the following is responsible for this: {}".format
    right = {
        (without("blue"), "the red circle hits the green circle"),
        (without("blue"), "a red circle enters from the left"),
        (without("blue"), "the green circle leaves on the right"),
        (without("green"), "the red circle hits the blue circle"),
        (without("green"), "a red circle enters from the left"),
        (without("green"), "the blue circle leaves on the right"),
        (due("the blue circle hits the green circle"), "the presence of the red circle"),
        (due("the red circle hits the blue circle"), "the presence of the green circle"),
    }
    told: dict[tuple[str, str], str] = {}
    # Balancing leaves out choices, each time others.
    for seed in range(20):
        (scene,) = written(tmp_path, [chain], seed)
        for question in scene["questions"]:
            for choice in question["choices"]:
                told[question["question"], choice["choice"]] = choice["answer"]
    correct = {key for key, answer in told.items() if answer == "correct"}
    assert correct <= right
    assert not right & (told.keys() - correct)
    assert (without("blue"), "the red circle hits the green circle") in correct
    without_red = [answer for (question, _), answer in told.items() if question == without("red")]
    assert set(without_red) == {"wrong"}


def test_the_format_is_clevrers(tmp_path: Path, rollouts: list[Rollout]):
    scenes = written(tmp_path, rollouts)
    assert [scene["scene_index"] for scene in scenes] == list(range(len(rollouts)))
    assert scenes[7]["video_filename"] == "video_00007.mp4"
    assert video_path("val", 1007) == "videos/validation/video_01000-02000/video_01007.mp4"
    questions = [question for scene in scenes for question in scene["questions"]]
    kinds = Counter(question["question_type"] for question in questions)
    assert set(kinds) == {"counterfactual", "explanatory", "predictive"}
    assert min(kinds.values()) >= 0.3 * len(rollouts)
    for question in questions:
        # The right and the wrong ones of up to four, and one that never happens.
        assert 1 <= len(question["choices"]) <= 5
        assert {choice["answer"] for choice in question["choices"]} <= {"correct", "wrong"}
        assert len({choice["choice"] for choice in question["choices"]}) == len(question["choices"])
    for scene in scenes:
        numbers = [question["question_id"] for question in scene["questions"]]
        assert numbers == list(range(len(numbers)))


def test_each_form_of_choice_is_right_half_of_the_time(tmp_path: Path, rollouts: list[Rollout]):
    answers: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for scene in written(tmp_path, rollouts):
        for question in scene["questions"]:
            for choice in question["choices"]:
                due = question["question_type"] == "explanatory"
                told = question["question"] if due else choice["choice"]
                (verb,) = {"enters", "leaves", "hits", "pushes", "blocks"} & set(told.split())
                answers[question["question_type"], verb][choice["answer"]] += 1
    assert len(answers) >= 10
    for counted in answers.values():
        assert counted["correct"] == counted["wrong"]


def test_the_next_event_is_among_the_predictions(tmp_path: Path, rollouts: list[Rollout]):
    for scene, rollout in zip(written(tmp_path, rollouts), rollouts, strict=True):
        for question in scene["questions"]:
            if question["question_type"] == "predictive":
                event = rollout.next_event()
                assert event is not None
                for choice in question["choices"]:
                    if choice["answer"] == "correct":
                        assert event.subject in choice["choice"]
