"""An open-ended test set: rows whose references no training text shares."""

import json
from pathlib import Path
from typing import Any

import pytest

from data_modules.contamination import ContaminationCheck
from data_modules.corpora import CorpusConfig
from data_modules.corpus_index import open_corpora
from data_modules.open_ended import open_ended_rows, open_ended_split, unshared_ids
from vidreason.example import Example
from vidreason.near_texts import TextIndex

STEPS = ["a red circle enters from the left and moves on", "the wall blocks the red circle, so it"]
EVENTS = [{"text": "the red circle leaves on the left", "confidence": 1, "justification": "it can"}]


def write(root: Path, split: str, rows: list[dict[str, Any]]) -> CorpusConfig:
    lines = [json.dumps({"id": str(n), "video_id": f"{split}{n}"} | row) for n, row in
             enumerate(rows)]  # fmt: skip
    (root / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return CorpusConfig(reader="causal_vid_instruct", root=str(root), split=split)


def steps(color: str) -> list[str]:
    return [f"{step.replace('red', color)} stops near the {color} cross" for step in STEPS]


def caption(text: str) -> Example:
    return Example(
        id=f"webvid:train:{text}", corpus="webvid", media="m", video_id="w", prompt="p",
        response=text,
    )  # fmt: skip


def test_rows_keep_the_fields_that_no_training_text_shares(tmp_path: Path) -> None:
    tested = [
        # Told in training, word for word; but for one of many words; and nowhere.
        {"causal_explanation": steps("red"), "predictions": EVENTS, "source": "s"},
        {"causal_explanation": steps("blue"), "predictions": EVENTS},
        {"causal_explanation": steps("green"), "prediction": "it rains"},
        {"causal_explanation": steps("gray"), "predictions": EVENTS,
         "outcome": {"text": "it leaves", "kind": "leave"}},
        {"prediction": "it snows"},
        {"causal_explanation": "no list"},
    ]  # fmt: skip
    corpus = write(tmp_path, "test", tested)
    trained = write(tmp_path, "train", [{"causal_explanation": steps("red"), "predictions": EVENTS},
                                        {"prediction": "It rains!"}])  # fmt: skip
    words = " ".join(steps("blue")).split()
    train = [*open_corpora([trained]), caption(" ".join([*words[:-1], "end"])), caption("")]
    examples = list(open_corpora([corpus], 0.5))
    ids = unshared_ids(examples, train, 0.8)
    names = [f"causal_vid_instruct:test:{one}" for one in ("2:explanation", "3:explanation")]
    assert ids == {*names, "causal_vid_instruct:test:4:prediction"}
    rows = [json.loads(line) for line in open_ended_rows(corpus, ids)]
    first = {"id": "2", "video_id": "test2", "causal_explanation": steps("green")}
    second = {"id": "3", "video_id": "test3", "causal_explanation": steps("gray")}
    assert rows == [first, second, {"id": "4", "video_id": "test4", "prediction": "it snows"}]
    # What is written is read as a split, in which nothing is shared.
    drawn = open_ended_split(corpus)
    (tmp_path / f"{drawn.split}.jsonl").write_text("".join(open_ended_rows(corpus, ids)))
    check = ContaminationCheck(0.8)
    for example in open_corpora([drawn]):
        check.add_evaluation(example)
    for example in train:
        check.check(example)
    assert check.report().num_training_examples["text"] == 0
    assert unshared_ids(open_corpora([drawn]), train, 0.8) == {
        one.id for one in open_corpora([drawn])
    }


def test_every_near_text_is_found() -> None:
    index = TextIndex(0.6)
    words = [f"word{number}" for number in range(12)]
    for number, last in enumerate(("", "more", "other")):
        index.add(str(number), " ".join([*words, last]))
    index.add("3", " ".join(words[::-1]))
    assert {match.name for match in index.find_all(" ".join(words))} == {"0", "1", "2"}
    best = index.find(" ".join(words))
    assert best is not None
    assert (best.name, best.similarity) == ("0", 1.0)
    assert index.find_all("word0 word1 word2") == []


def test_an_explanation_may_be_shared_by_several_rows(tmp_path: Path) -> None:
    corpus = write(tmp_path, "test", [{"causal_explanation": steps("red")}] * 2)
    examples = list(open_corpora([corpus]))
    assert (
        len(unshared_ids(examples, [caption("another text of at least eight words is it")], 1)) == 2
    )
    assert unshared_ids(examples, [caption(examples[0].response)], 1) == set()


@pytest.mark.parametrize("line", ["", "{}", '{"id": 1.5}', "nonsense"])
def test_rows_without_an_id_are_left_out(tmp_path: Path, line: str) -> None:
    corpus = write(tmp_path, "test", [{"causal_explanation": steps("red")}])
    path = tmp_path / "test.jsonl"
    path.write_text(f"{path.read_text()}{line}\n{path.read_text()}")
    lines = list(open_ended_rows(corpus, {"causal_vid_instruct:test:0:explanation"}))
    assert len(lines) == 2
