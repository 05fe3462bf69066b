"""``docs/own_data.md`` done as it is written, with its own rows and its own configuration."""

import json
import shutil
from pathlib import Path

import pytest
from page_blocks import blocks_of, recorded_commands, write_files
from tiny_experiment import write_clip

from data_modules.corpora import CorpusConfig
from data_modules.corpus_index import open_corpora, open_trainable
from data_modules.prompt_lengths import PromptLimit
from experiments.data.__main__ import main
from experiments.experiment_config import ExperimentConfig
from vidreason.config import merge_config
from vidreason.example import Turn
from vidreason.microworld.parts import LANGUAGE_MODEL_FOLDER
from vidreason.microworld.shipped import sample_videos

PAGE = "docs/own_data.md"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """All files that the page shows, under the names that it gives them."""
    monkeypatch.chdir(tmp_path)
    names = {block.file_name for block in blocks_of(PAGE)}
    assert names >= {"mine/train.jsonl", "mine/test.jsonl", "mine.yaml"}
    write_files(blocks_of(PAGE), tmp_path)
    Path("mine/clips").mkdir()
    for name, sample in zip("abc", sample_videos().values(), strict=True):
        shutil.copy(sample, f"mine/clips/{name}.mp4")
    write_clip(Path("mine/clips/d.mp4"), 4)
    return tmp_path


def test_the_rows_are_read_as_the_page_says(folder):
    config = merge_config(ExperimentConfig, ["mine.yaml"])
    train = list(open_corpora(config.data.train, 0.0))
    assert [(row.prompt, row.response, row.start_seconds) for row in train] == [
        ("Why does the ball stop?", "The wall blocks it.", None),
        ("Describe the video.", "A ball rolls against a wall.", None),
        ("What happens?", "A square is pushed.", 1.0),
    ]
    question, _ = open_corpora(config.data.benchmark, 0.0)
    assert (question.options, question.answer_index) == (("a circle", "a square", "a triangle"), 1)
    assert question.question_type == "order"


def test_a_conversation_is_read_as_the_page_says(folder, tiny_tokenizer):
    (row,) = (block.text for block in blocks_of(PAGE) if block.text.startswith('{"videos"'))
    Path("mine/chat.jsonl").write_text(json.dumps(json.loads(row)) + "\n")
    corpus = CorpusConfig(reader="chat_messages", root="mine", split="chat")
    first, second = open_corpora([corpus], 0.0)
    assert first.earlier_turns == (Turn("system", "Answer briefly."),)
    assert (second.prompt, second.response) == ("Where does it go?", "To the left.")
    limit = PromptLimit(tiny_tokenizer, 512, "leave_out")
    (joined,) = open_trainable([corpus], limit, loss_on="all")
    assert joined.id == second.id
    assert [turn.text for turn in joined.earlier_turns if turn.is_target] == ["A ball."]


def test_what_needs_no_weights_is_run(folder, capsys):
    """The rest of these commands is run with small models by ``test_first_day.py``."""
    commands = [words[2:] for _, words in recorded_commands(blocks_of(PAGE))]
    check = ["experiments.data", "check", "--config", "mine.yaml"]
    show = ["experiments.data", "show", "--config", "mine.yaml"]
    assert commands[:2] == [check, show]
    assert main(check[1:]) == 0
    assert "no problems found" in capsys.readouterr().out
    tokenizer = f"reasoner.language_model.name_or_path={LANGUAGE_MODEL_FOLDER}"
    assert main([*show[1:], tokenizer]) == 0
    assert Path("runs/mine/training_rows.html").stat().st_size > 10_000
