"""``docs/own_data.md`` done as it is written, with its own rows and its own configuration."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from data_modules.corpora import CorpusConfig
from data_modules.corpus_index import open_corpora, open_trainable
from data_modules.prompt_lengths import PromptLimit
from experiments.data.__main__ import main
from experiments.experiment_config import ExperimentConfig
from vidreason.config import merge_config
from vidreason.example import Turn
from vidreason.microworld.parts import LANGUAGE_MODEL_FOLDER
from vidreason.microworld.shipped import sample_videos

PAGE = (Path(__file__).parents[2] / "docs" / "own_data.md").read_text()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """All files that the page shows, under the names that it gives them."""
    monkeypatch.chdir(tmp_path)
    written = re.findall(r"\n`([\w./]+)`\n\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert [name for name, _ in written] == ["mine/train.jsonl", "mine/test.jsonl", "mine.yaml"]
    for name, content in written:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(content)
    Path("mine/clips").mkdir()
    for name, sample in zip("abc", sample_videos().values(), strict=False):
        shutil.copy(sample, f"mine/clips/{name}.mp4")
    return tmp_path


def test_the_rows_are_read_as_the_page_says(folder):
    config = merge_config(ExperimentConfig, ["mine.yaml"])
    train = list(open_corpora(config.data.train, 0.0))
    assert [(row.prompt, row.response, row.start_seconds) for row in train] == [
        ("Why does the ball stop?", "The wall blocks it.", None),
        ("Describe the video.", "A ball rolls against a wall.", None),
        ("What happens?", "A square is pushed.", 1.0),
    ]
    (question,) = open_corpora(config.data.benchmark, 0.0)
    assert (question.options, question.answer_index) == (("a circle", "a square", "a triangle"), 1)
    assert question.question_type == "order"


def test_a_conversation_is_read_as_the_page_says(folder, tiny_tokenizer):
    row = re.search(r'```json\n(\{"videos".*?)```', PAGE, re.DOTALL)[1]
    Path("mine/chat.jsonl").write_text(json.dumps(json.loads(row)) + "\n")
    corpus = CorpusConfig(reader="chat_messages", root="mine", split="chat")
    first, second = open_corpora([corpus], 0.0)
    assert first.earlier_turns == (Turn("system", "Answer briefly."),)
    assert (second.prompt, second.response) == ("Where does it go?", "To the left.")
    limit = PromptLimit(tiny_tokenizer, 512, "leave_out")
    (joined,) = open_trainable([corpus], limit, loss_on="all")
    assert joined.id == second.id
    assert [turn.text for turn in joined.earlier_turns if turn.is_target] == ["A ball."]


def test_the_commands_are_those_of_the_programs(folder, capsys):
    commands = re.findall(r"python -m experiments\.(\w+) ?(\w*) --config mine\.yaml(.*)", PAGE)
    assert [name for name, *_ in commands] == ["data", "data", "perceive", "fit", "evaluate"]
    for _, _, overrides in commands:
        merge_config(ExperimentConfig, ["mine.yaml"], overrides.split())
    # The two that need no weights are run.
    assert main(["check", "--config", "mine.yaml"]) == 0
    assert "no problems found" in capsys.readouterr().out
    tokenizer = f"reasoner.language_model.name_or_path={LANGUAGE_MODEL_FOLDER}"
    assert main(["show", "--config", "mine.yaml", tokenizer]) == 0
    assert Path("runs/mine/training_rows.html").stat().st_size > 10_000
    assert yaml.safe_load(Path("mine.yaml").read_text())["run_dir"] == "runs/mine"
