"""A judge of an installed package stands beside those of this project."""

from pathlib import Path

import pytest
from installed_package import install_points

from vidreason.endpoints.cache import ReplyCache
from vidreason.evaluation.judge.build import build_judge
from vidreason.evaluation.judge.heuristic import HeuristicJudge
from vidreason.evaluation.judge.judges import JUDGE_GROUP, JudgeConfig
from vidreason.evaluation.judge.judging import judge_answer
from vidreason.evaluation.judge.request import JudgeItem

SOURCE = """
import json
from vidreason.endpoints.replies import ChatReply

class Generous:
    def __init__(self, config):
        if config.seed < 0:
            raise KeyError(config.seed)
        self.judge_id = f"generous-1:{config.model}"

    def ask(self, request):
        scores = {
            name: 5 if schema.get("type") == "integer" else [] if schema["type"] == "array" else "x"
            for name, schema in request.schema["properties"].items()
        }
        return ChatReply(text=json.dumps(scores))

    def close(self):
        pass

class Mute:
    judge_id = "mute"
    def __init__(self, config):
        pass

class Blind(Generous):
    def ask(self):
        pass

class Nameless(Generous):
    def __init__(self, config):
        pass

FIVE = 5
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "odd_judge.py").write_text(SOURCE)
    names = {"generous": "Generous", "mute": "Mute", "five": "FIVE", "heuristic": "Generous"}
    names |= {"blind": "Blind", "nameless": "Nameless"}
    points = {name: f"odd_judge:{value}" for name, value in names.items()}
    install_points(folder, monkeypatch, {JUDGE_GROUP: points})


@pytest.mark.parametrize("kind", ["generous", "odd_judge:Generous"])
def test_a_judge_of_a_package_judges(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch)
    judge = build_judge(JudgeConfig(kind=kind, model="m"))
    item = JudgeItem(id="1", video_id="v", question="why", answer="because", references=("so",))
    judged = judge_answer(judge, ReplyCache(tmp_path / "outputs.sqlite"), item)
    assert judged.invalid == ""
    assert set(judged.scores.values()) == {5}
    assert judged.judge_id == "generous-1:m"


def test_what_is_no_judge_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch)
    for fields, message in (
        ({"kind": "generos"}, r"judge\.kind is 'generos', .*did you mean generous"),
        ({"kind": "five"}, "five = 'odd_judge:FIVE' of .* is a int; it has to be a class of"),
        ({"kind": "mute"}, r"mute = .* has no method ask: write it as .*Judge\.ask\(self, request"),
        ({"kind": "blind"}, r"blind = .*: its ask takes \(self\), and is called as .*Judge\.ask\("),
        ({"kind": "nameless"}, "nameless = .* has no judge_id: give it the text"),
        ({"kind": "generous", "seed": -1}, "generous = .*: KeyError: -1"),
    ):
        with pytest.raises(ValueError, match=message):
            build_judge(JudgeConfig(**fields))
    # None of this project's is replaced.
    assert isinstance(build_judge(JudgeConfig(kind="heuristic")), HeuristicJudge)
