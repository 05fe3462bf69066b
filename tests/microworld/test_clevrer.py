import json
import random
from pathlib import Path
from typing import Any

from vidreason.microworld.clevrer import video_path, write_questions
from vidreason.microworld.scenes import draw_rollouts
from vidreason.microworld.simulation import Body, Rollout, Scene, simulate


def written(folder: Path, rollouts: list[Rollout]) -> list[dict[str, Any]]:
    write_questions(folder, "val", rollouts, random.Random(0))
    scenes: list[dict[str, Any]] = json.loads((folder / "questions/validation.json").read_text())
    return scenes


def test_what_would_happen_without_the_first_ball(tmp_path: Path):
    """Red hits blue, blue hits green; without blue, red hits green itself."""
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
    (scene,) = written(tmp_path, [chain])
    by_text = {question["question"]: question for question in scene["questions"]}
    without_blue = by_text["what will happen if the blue circle is removed"]
    answers = {c["choice"]: c["answer"] for c in without_blue["choices"]}
    assert answers["the red circle hits the green circle"] == "correct"
    without_red = by_text["what will happen if the red circle is removed"]
    assert {c["answer"] for c in without_red["choices"]} == {"wrong"}
    cause = by_text[
        "which of the following is responsible for this: the blue circle hits the green circle"
    ]
    assert cause["choices"][0]["choice"] == "the presence of the red circle"
    assert cause["choices"][0]["answer"] == "correct"


def test_the_format_is_clevrers(tmp_path: Path):
    rollouts = [rollout for _, rollout in draw_rollouts("clevrer", 40)]
    scenes = written(tmp_path, rollouts)
    assert [scene["scene_index"] for scene in scenes] == list(range(40))
    assert scenes[7]["video_filename"] == "video_00007.mp4"
    assert video_path("val", 1007) == "videos/validation/video_01000-02000/video_01007.mp4"
    questions = [question for scene in scenes for question in scene["questions"]]
    kinds = {question["question_type"] for question in questions}
    assert kinds == {"counterfactual", "explanatory", "predictive"}
    for question in questions:
        assert 2 <= len(question["choices"]) <= 4
        assert {choice["answer"] for choice in question["choices"]} <= {"correct", "wrong"}
        assert len({choice["choice"] for choice in question["choices"]}) == len(question["choices"])
    for scene in scenes:
        numbers = [question["question_id"] for question in scene["questions"]]
        assert numbers == list(range(len(numbers)))
