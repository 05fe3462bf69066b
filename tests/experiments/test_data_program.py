"""``python -m experiments.data check`` on a microworld: the report, the files, the exit status."""

import json
import re
import shutil
from pathlib import Path

import pytest

from data_modules.corpora import CorpusConfig
from data_modules.corpus_index import open_corpora
from experiments.data.__main__ import main
from vidreason.microworld.corpora import WorldConfig, write_world
from vidreason.microworld.parts import LANGUAGE_MODEL_FOLDER


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    write_world(root, WorldConfig(num_videos={"train": 12, "test": 8}))
    return root


def config(world: Path, run_dir: Path, benchmark_split: str = "test") -> list[str]:
    path = run_dir / "config.yaml"
    train = [
        f"    - {{reader: {name}, root: {world / name}, split: train}}\n"
        for name in ("webvid", "nextqa", "activitynet_qa", "causal_vid_instruct")
    ]
    path.write_text(
        f"run_dir: {run_dir}\ndata:\n  train:\n{''.join(train)}  benchmark:\n"
        f"    - {{reader: nextqa, root: {world / 'nextqa'}, split: {benchmark_split}}}\n"
        "data_check: {probe_videos: 3, decode_videos: 1}\n"
    )
    return ["check", "--config", str(path)]


def test_a_healthy_world(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(config(world, tmp_path)) == 0
    output = capsys.readouterr().out
    assert "no problems found" in output
    assert "licence tags: 24 x CC0-1.0" in output
    assert "Contamination: 0.0% of 8 evaluation videos" in output
    report = json.loads((tmp_path / "data_health.json").read_text())
    assert [corpus["corpus"] for corpus in report["corpora"]] == [
        "nextqa",
        "webvid",
        "nextqa",
        "activitynet_qa",
        "causal_vid_instruct",
    ]
    for corpus in report["corpora"]:
        assert corpus["num_examples"] == corpus["media"]["there"] > 0
        assert (corpus["num_probed"], corpus["num_decoded"], corpus["unreadable"]) == (3, 1, {})
    assert report["contamination"]["num_training_examples"]["video"] == 0


def test_evaluating_on_the_training_videos_is_a_problem(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(config(world, tmp_path, benchmark_split="train")) == 1
    output = capsys.readouterr().out
    assert "PROBLEM 100.0% of the 12 evaluation videos are in the training data" in output
    kinds = json.loads((tmp_path / "data_health.json").read_text())["contamination"]
    # webvid names the same files (hard links), nextqa is the same corpus.
    assert kinds["num_evaluation_videos_found"]["id"] == 12
    assert kinds["num_evaluation_videos_found"]["file"] == 12
    assert kinds["num_evaluation_videos_found"]["video"] == 12


def test_what_is_left_out_is_shown_when_the_corpus_was_indexed_before(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "webvid"
    shutil.copytree(world / "webvid", root)
    (table,) = root.rglob("*train.csv")
    rows = table.read_text().splitlines(keepends=True)
    header = rows[0].rstrip("\n").split(",")
    silent = ["silent" if name == "videoid" else "" for name in header]
    table.write_text("".join([*rows, ",".join(silent) + "\n"]))
    path = tmp_path / "own.yaml"
    path.write_text(f"run_dir: {tmp_path}\ndata:\n  train: [{{reader: webvid, root: {root}}}]\n")
    for _ in range(2):
        assert main(["check", "--config", str(path), "data_check.hash_videos=0"]) == 0
        assert "left out: 1 x no caption (column 'name')" in capsys.readouterr().out
        corpora = open_corpora([CorpusConfig(reader="webvid", root=str(root))])
        assert corpora.corpora[0].skipped.causes == {"no caption (column 'name')": 1}


@pytest.mark.parametrize("arguments", [[], ["decode"]])
def test_the_command_must_be_known(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "the first argument must be one of check" in capsys.readouterr().err


def test_nothing_to_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"run_dir={tmp_path}"]) == 2
    assert "are empty; name a corpus" in capsys.readouterr().err


def test_a_page_shows_training_rows_token_by_token(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the microworld's tokenizer; a video that is gone is said to be."""
    arguments = config(world, tmp_path)[1:]
    parts = Path(LANGUAGE_MODEL_FOLDER)
    more = [f"reasoner.language_model.name_or_path={parts}", "data_check.shown_rows=2"]
    assert main(["show", *arguments, *more]) == 0
    page = (tmp_path / "training_rows.html").read_text()
    assert "show: 8 rows of 4 corpora are in" in capsys.readouterr().out
    assert page.count('<div class="row">') == 8
    assert "data:image/jpeg" in page
    # A caption's row: the prompt is none of the targets, the caption is all of them.
    example = next(
        iter(open_corpora([CorpusConfig(reader="webvid", root=str(world / "webvid"))], 0))
    )
    row = page.split(f"<h3>{example.id}</h3>")[1].split("</div>")[1]
    targets = re.findall(r'<span class="target">(.*?)</span>', row, re.DOTALL)
    assert "".join(targets).startswith(example.response[:20])
    others = "".join(re.findall(r"<span>(.*?)</span>", row, re.DOTALL))
    assert "Describe the video." in others
    Path(example.media).rename(tmp_path / "gone.mp4")
    assert main(["show", *arguments, *more]) == 0
    assert (tmp_path / "training_rows.html").read_text().count('class="frames"') == 7
    (tmp_path / "gone.mp4").rename(example.media)


def test_answers_that_are_never_the_first_option_are_doubted(tmp_path, capsys):
    columns = "{media: media, prompt: prompt, options: options, answer_index: answer_index}"
    corpus = f"{{reader: huggingface, root: {tmp_path}, split: own, columns: {columns}}}"
    arguments = ["check", f"data.benchmark=[{corpus}]", f"run_dir={tmp_path / 'run'}"]
    for shift, doubted in ((0, False), (1, True)):
        rows = [
            {
                **{"media": f"{number}.mp4", "prompt": "which", "options": ["a", "b", "c"]},
                "answer_index": number % 2 + shift,
            }
            for number in range(10)
        ]
        (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert main(arguments) == 1  # there are no videos
        printed = capsys.readouterr().out
        assert ("right options: A 5, B 5\n" in printed) != doubted
        assert ("never A: indices count from 0" in printed) == doubted
