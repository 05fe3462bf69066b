"""Program synthesis as a baseline: a scripted writer of programs over a real video."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from coded_video import number_of, write_video
from torch import Tensor
from viper_stubs import StubModules

from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.frames import FrameReader, Frames, middle_frames
from vidreason.baselines.system import SystemAnswerer
from vidreason.baselines.viper import sandbox
from vidreason.baselines.viper.api_prompt import API_PROMPT, filled_prompt, read_prompt
from vidreason.baselines.viper.number_functions import NumberFunctions
from vidreason.baselines.viper.program import extract_program
from vidreason.baselines.viper.program_api import ProgramApi
from vidreason.baselines.viper.system import Viper
from vidreason.evaluation.benchmark import evaluate_examples
from vidreason.evaluation.config import EvaluationConfig
from vidreason.evaluation.predictions.row_files import read_predictions, write_predictions
from vidreason.evaluation.predictions.rows import unanswered
from vidreason.evaluation.provenance import Provenance
from vidreason.evaluation.scoreboard import score_runs
from vidreason.example import Example
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT, multiple_choice_prompt
from vidreason.reasoning.reasoner_config import DecodingConfig
from vidreason.reasoning.text_model import Writing

OPTIONS = ("the first one", "the middle one", "the last one")
HEAD = "def execute_command(video, possible_answers, query):\n"


class SeeingModules(StubModules):
    """Reads the number that is burnt into a frame."""

    def ask(self, picture: Tensor, question: str) -> str:
        self.prompts.append(question)
        return str(number_of(picture))


def example(name: str, prompt: str = "Which one?", options: Sequence[str] = OPTIONS) -> Example:
    text = multiple_choice_prompt(prompt, options) if options else prompt
    return Example(
        id=f"nextqa:test:{name}",
        corpus="nextqa",
        media="video.mp4",
        video_id="video",
        prompt=text,
        response="",
        options=tuple(options),
        answer_index=1 if options else None,
    )


def scripted(replies: dict[str, str], seen: list[tuple[str, Sequence[str]]]) -> Any:
    def write(question: str, options: Sequence[str]) -> Writing:
        seen.append((question, options))
        return Writing(replies[question], 100, 10)

    return write


def test_programs_answer_questions_about_a_video(tmp_path: Path) -> None:
    """100 frames in four seconds: programs see one of each; failures are answered and counted."""
    video = str(write_video(tmp_path / "video.mp4", num_frames=100))
    replies = {
        "Which number?": "Sure!\n```python\n"
        + HEAD
        + "    numbers = [f.simple_query('?') for f in video.frame_iterator()]\n"
        "    return ' '.join(numbers)\n```\nIt reads all numbers.",
        "Which one?": "    return possible_answers[video.num_frames - 3]",
        "Broken?": HEAD + "    return video.nothing",
        "No program?": "I cannot do that.",
        FUTURE_PREDICTION_PROMPT: HEAD + "    return '1. It stops.\\nConfidence: 0.9'",
    }
    seen: list[tuple[str, Sequence[str]]] = []
    modules = SeeingModules()
    system = Viper(scripted(replies, seen), modules)
    answerer = SystemAnswerer(
        Viper,
        lambda: system,
        Viper.frame_rule(BaselineConfig(kind="viper")),
        FrameReader(),
        Provenance(model="program synthesis"),
    )
    examples = [
        example("number", "Which number?", ()),
        example("option"),
        example("broken", "Broken?"),
        example("none", "No program?", ()),
        example("future", FUTURE_PREDICTION_PROMPT, ()),
    ]
    examples = [
        Example(**(vars(one) | {"media": video, "answers": ("x",) if not one.options else ()}))
        for one in examples
    ]
    config = EvaluationConfig(multiple_choice="generate", batch_size=2)
    rows = {row.id.split(":")[2]: row for row in evaluate_examples(answerer, examples, config)}
    # Frames from the middles of 30 equal parts; of these, the middles of four.
    middles = [int((part + 0.5) / 30 * 100) for part in range(30)]
    expected = [middles[int((part + 0.5) / 4 * 30)] for part in range(4)]
    assert rows["number"].output == " ".join(map(str, expected))
    assert (rows["option"].output, rows["option"].parsed) == ("the middle one", 1)
    assert rows["option"].record["program"] == (
        HEAD + "    return possible_answers[video.num_frames - 3]"
    )
    assert rows["option"].record["result"] == "the middle one"
    assert rows["future"].output == "1. It stops.\nConfidence: 0.9"
    assert rows["number"].record["calls"][0] == [
        *("VideoSegment.frame_iterator", ["VideoSegment(0, 4)"]),
        "4 parts: " + ", ".join(f"ImagePatch(frame {n}: 0, 0, 64, 48)" for n in range(4)),
    ]
    # The fallback: the middle frame, with the options in the question.
    assert rows["broken"].record["failure"] == {
        "kind": "error",
        "reason": "AttributeError: 'VideoSegment' object has no attribute 'nothing'",
    }
    middle = str(middles[15])
    assert rows["broken"].output == rows["broken"].record["fallback"] == middle
    listed = "; ".join(OPTIONS)
    request = "Reply with one of them, word for word."
    assert f"Broken?\nPossible answers: {listed}.\n{request}" in modules.prompts
    assert rows["none"].record["failure"]["kind"] == "no program"
    assert rows["none"].record["reply"] == "I cannot do that."
    assert rows["none"].output == middle
    assert ("Which one?", OPTIONS) in seen
    assert (rows["none"].num_prompt_tokens, rows["none"].num_generated_tokens) == (100, 10)

    # Rows are kept with their records, and scored anew from the file.
    write_predictions(tmp_path / "rows.jsonl", rows.values())
    read = read_predictions(tmp_path / "rows.jsonl")
    assert {row.id.split(":")[2]: row for row in read} == rows
    scored = score_runs({"viper": read, "other": [unanswered(one) for one in examples]}, config,
                        full="viper")  # fmt: skip
    assert scored.metrics["programs"] == {
        "viper": {"num_programs": 5, "failed": 0.4, "kinds": "error 1, no program 1"}
    }
    assert scored.tables[-1].rows == (("viper", "5", "40.0", "error 1, no program 1"),)


def test_a_blind_run_has_no_programs_and_no_failures() -> None:
    modules = StubModules()
    nothing = Frames(torch.zeros(0, 3, 8, 8, dtype=torch.uint8), (), (), 100, 4.0)
    system = Viper(scripted({}, []), modules)
    [reply] = system.choose([nothing], [example("one")])
    assert reply.output == "The answer is blue."
    assert modules.prompts == [
        "Which one?\nPossible answers: the first one; the middle one; the last one.\n"
        "Reply with one of them, word for word."
    ]
    assert reply.record == {}


def test_programs_may_be_written_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the sandbox nothing runs, by any other means either: programs are kept unread."""
    monkeypatch.setattr(sandbox.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"vidreason\[viper\].*leave nothing but code_model"):
        Viper(scripted({}, []), StubModules())
    program = HEAD + "    raise SystemExit(video)"
    system = Viper(scripted({"Which one?": program}, []), StubModules(), runs_programs=False)
    frames = Frames(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), (0.0, 1.0), (0, 25), 50, 2.0)
    [reply] = system.choose([frames], [example("one")])
    assert reply.output == ""
    assert reply.record == {"program": program}
    # Not applicable, which is not zero; the program is kept in the row.
    answerer = SystemAnswerer(
        Viper, lambda: system, middle_frames(2), lambda *_: frames, Provenance(model="m")
    )
    config = EvaluationConfig(multiple_choice="generate", report_items=0)
    [row] = evaluate_examples(answerer, [example("one")], config)
    assert (row.missing_capability, row.correct) == ("choose", None)
    assert row.record == {"program": program}
    wrong = replace(row, missing_capability="", correct=False, record={})
    scored = score_runs({"other": [wrong], "viper": [row]}, config, full="other")
    assert "n/a" in next(line for line in scored.to_text().split("\n") if "viper" in line)
    # The configuration says so by naming no module; naming one asks for the sandbox.
    written = BaselineConfig(kind="viper", weights={"code_model": "m"})
    assert Viper.answering(written)["runs_programs"] is False
    runs = BaselineConfig(kind="viper", weights={"code_model": "m", "vqa": "v"})
    with pytest.raises(ValueError, match="pydantic-monty"):
        Viper.load(runs, DecodingConfig(), torch.device("cpu"))
    # Said at the start as well, with a prompt that is not there.
    no_prompt = replace(runs, weights={**runs.weights, "prompt": "/nowhere"})
    problems = Viper.problems(no_prompt, DecodingConfig())
    assert [problem.split(",")[0].split(" in ")[0] for problem in problems] == [
        "weights.prompt is '/nowhere'",
        "programs run",
    ]
    assert Viper.problems(written, DecodingConfig()) == []


def test_models_that_programs_are_told_of_are_missed_at_the_start() -> None:
    """Not by the first program that calls one, after hours, when no answer could be kept."""
    weights = {"code_model": "m", "detector": "d"}
    for more, missing in (
        ({}, ["matcher", "vqa", "depth"]),
        ({"vqa": "v", "matcher": "c"}, ["depth"]),
        ({"vqa": "v", "matcher": "c", "depth": "z"}, []),
        # A prompt of the user's tells of what it likes; a program that fails is answered by vqa.
        ({"prompt": str(Path(__file__).parent / "my.prompt")}, ["vqa"]),
    ):
        config = BaselineConfig(kind="viper", weights=weights | more)
        problems = Viper.problems(config, DecodingConfig())
        named = [line for line in problems if "a program calls it" in line]
        assert [line.split(" ")[0].removeprefix("weights.") for line in named] == missing, more


def test_programs_are_read_from_replies_of_many_forms() -> None:
    body = "    x = video.num_frames\n    return str(x)"
    program = HEAD + body
    helper = "import math\n\ndef half(n):\n    return n // 2\n\n" + program
    for reply, expected in {
        program: program,
        f"```python\n{program}\n```": program,
        f"Here it is:\n\n```\n{program}\n```\nIt counts.\n```\nmore\n```": program,
        f"```python\n{program}": program,  # cut off
        f"First:\n```\npip install x\n```\nthen\n```py\n{helper}\n```": helper,
        f"Of course.\n{helper}\n\nThis counts frames.\nprint('x')": helper,
        f"<think>\ndef execute_command(): pass\n</think>\n{program}": program,
        body: program,
        body.strip(): program,
        "x = video.num_frames\nreturn str(x)": program,
        f"```python\n{body}\n```": program,
        "for f in video.frame_iterator():\n        return f.simple_query()\n    return 'no'": HEAD
        + "    for f in video.frame_iterator():\n        return f.simple_query()\n    return 'no'",
        "for f in video.frame_iterator():\n    return f.simple_query()\nreturn 'no'": HEAD
        + "    for f in video.frame_iterator():\n        return f.simple_query()\n    return 'no'",
        f"{body}\n\nThat is all.": program,
        program.replace("\n", "\r\n"): program,
        "return 'yes'": HEAD + "    return 'yes'",
        "I cannot answer that.": None,
        "": None,
        "```\n```": None,
        HEAD + "    #" * 20000: None,
    }.items():
        assert extract_program(reply) == expected, reply


def test_questions_are_texts_in_the_prompt(tmp_path: Path) -> None:
    """A question stays on its line, and marks in it are not filled."""
    prompt = filled_prompt(
        API_PROMPT, "Why?\nimport os  EXTRA_CONTEXT_HERE", ["it's \n'], x = ['", "INSERT_TYPE_HERE"]
    )
    assert prompt.endswith(
        "\n# Why? import os EXTRA_CONTEXT_HERE\n"
        "# possible answers: [\"it's '], x = ['\", 'INSERT_TYPE_HERE']\n"
        "def execute_command(video, possible_answers, query):"
    )
    path = tmp_path / "my.prompt"
    path.write_text("# INSERT_QUERY_HERE\ndef execute_command(INSERT_TYPE_HERE):")
    assert filled_prompt(read_prompt(str(path)), "Why?", []) == "# Why?\n" + HEAD.rstrip()
    for content, message in {
        b"no mark": "nowhere says INSERT_QUERY_HERE",
        b"\xff": "no text in UTF-8",
        b"#" * 2**18 + b"INSERT_QUERY_HERE": "more than 262,144 bytes",
        None: "cannot be read",
    }.items():
        if content is not None:
            path.write_bytes(content)
        else:
            path.unlink()
        with pytest.raises(ValueError, match=message):
            read_prompt(str(path))


def test_the_prompt_names_what_programs_have() -> None:
    """Every function and attribute that is exposed is described, and nothing else is."""
    api = ProgramApi(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), StubModules())
    described = API_PROMPT.split("\n# Which colour")[0]
    names = set(api.functions)
    for kind, exposure in api.exposed.items():
        if kind is NumberFunctions:
            continue  # for programs of another prompt
        names |= {*exposure.attributes, *exposure.methods}
    declared = {
        line.strip().removeprefix("def ").split("(")[0].split(":")[0]
        for line in described.split("\n")
        if line.strip().startswith("def ") or line.endswith((": int", ": float"))
    }
    assert declared == names
