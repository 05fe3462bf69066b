"""From rows of next events and explanations to scores, a calibration and judgements."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from tiny_experiment import fill_store

from data_modules.corpora import CorpusConfig
from experiments.data.__main__ import main as data
from experiments.evaluate.run import evaluate
from experiments.experiment_config import ExperimentConfig
from experiments.judge.__main__ import main as judge
from experiments.judge.run import judge_item
from vidreason.config import merge_config
from vidreason.evaluation.next_events.forecast_calibration import (
    CALIBRATION_FILE,
    read_forecast_calibration,
)
from vidreason.model import build_reasoner
from vidreason.perception.models import video_encoder_sizes
from vidreason.pretrained.identity import reasoner_identity
from vidreason.reasoning.prompts import CAUSAL_EXPLANATION_PROMPT

NUM_SHARED, NUM_VIDEOS = 2, 6
COLORS = ("red", "blue", "green", "gray", "pink", "white")


def write_rows(root: Path, split: str, colors: tuple[str, ...]) -> None:
    rows = [
        {
            "id": f"{split}{number}",
            "video_id": f"{split}{number}",
            "instruction": CAUSAL_EXPLANATION_PROMPT,
            "causal_explanation": [
                f"a {color} circle enters from the left and moves on to the {color} wall",
                f"the wall blocks the {color} circle, so it stops",
            ],
            "predictions": [
                {
                    "text": f"the {color} circle leaves on the right of the {color} wall",
                    "justification": f"the {color} circle is still moving",
                    "confidence": 0.75,
                }
            ],
        }
        for number, color in enumerate(colors)
    ]
    (root / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def configuration(tiny_experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two of six held-out videos are told in the words of training; videos are of a few bytes."""
    folder = tmp_path_factory.mktemp("open_ended")
    (folder / "videos").mkdir()
    write_rows(folder, "train", COLORS[:NUM_SHARED])
    write_rows(folder, "test", COLORS)
    videos = [folder / "videos" / f"test{number}.mp4" for number in range(NUM_VIDEOS)]
    for video in videos:
        video.write_bytes(video.name.encode())
    config = yaml.safe_load(tiny_experiment.read_text())
    fill_store([*map(str, videos)], str(folder / "store"))
    corpus = {"reader": "causal_vid_instruct", "root": str(folder)}
    config |= {
        "run_dir": str(folder / "run"),
        "model": str(folder / "reasoner"),
        "store": {"path": str(folder / "store"), "dtype": "float32"},
        "controls": ["none", "blind"],
        "evaluation": {"report_items": 0},
    }
    config["data"] |= {
        "train": [{**corpus, "split": "train"}],
        "validation": [],
        "benchmark": [{**corpus, "split": "test"}],
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def texts_in_training(configuration: Path, split: str) -> int:
    """Training examples that say what an evaluation example says, by the check of the data."""
    folder = configuration.parent
    corpus = f"{{reader: causal_vid_instruct, root: {folder}, split: {split}}}"
    no_videos = ("data_check.probe_videos=0", "data_check.hash_videos=0")
    data(["check", "--config", str(configuration), f"data.benchmark=[{corpus}]", *no_videos])
    report = json.loads((folder / "run" / "data_health.json").read_text())
    return report["contamination"]["num_training_examples"]["text"]


def test_an_open_ended_set_is_drawn_evaluated_and_judged(
    configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = configuration.parent
    assert data(["open_ended", "--config", str(configuration)]) == 0
    counts = "4 of 6 explanations, 4 of 6 predictions are in no training text; 4 rows"
    assert counts in capsys.readouterr().out
    assert texts_in_training(configuration, "test") == 2 * NUM_SHARED
    assert texts_in_training(configuration, "test_open_ended") == 0
    # The tiny reasoner answers it, as any benchmark.
    split = f"{{reader: causal_vid_instruct, root: {folder}, split: test_open_ended}}"
    overrides = [f"data.benchmark=[{split}]"]
    config = merge_config(ExperimentConfig, [str(configuration)], overrides)
    torch.manual_seed(0)
    width = video_encoder_sizes(config.perceiver.video_encoder).width
    reasoner = build_reasoner(config.reasoner, width, perceiver=config.perceiver)
    reasoner.save_pretrained(folder / "reasoner")
    runs = evaluate(config)
    explanations = [row for row in runs["full model"] if row.question_type == "explanation"]
    assert {row.prompt for row in explanations} == {CAUSAL_EXPLANATION_PROMPT}
    assert all(judge_item(row, {}).references == row.reference_texts for row in explanations)
    # N-grams, steps and links, for each control.
    metrics = json.loads((folder / "run" / "evaluation" / "metrics.json").read_text())
    for name in ("full model", "blind (no visual tokens)"):
        sizes = {score["group"]: score["num_questions"] for score in metrics["runs"][name]}
        assert sizes["step F1"] == sizes["step order"] == sizes["link F1"] == 4
        assert sizes["all"] == sizes["justified hit"] == 4
        (texts,) = metrics["texts"][name]
        assert (texts["question_type"], texts["num_texts"]) == ("explanation", 4)
    tables = (folder / "run" / "evaluation" / "tables.md").read_text()
    assert "**causal_vid_instruct explanation: step F1 in %" in tables
    # The judge, on the paper's axes and beside the references.
    predictions = folder / "run" / "evaluation" / "predictions-none.jsonl"
    for protocol in ("axes", "video_chatgpt_generation"):
        out = folder / protocol
        arguments = [f"predictions={predictions}", f"protocol={protocol}", f"output_dir={out}"]
        assert judge(["judge.kind=heuristic", *arguments]) == 0
        summary = json.loads((out / "summary.json").read_text())
        assert (summary["num_items"], summary["num_videos"]) == (8, 4)


def test_evaluate_leaves_the_calibration_of_its_reasoner_and_none_of_an_earlier_run(
    configuration: Path,
) -> None:
    folder = configuration.parent
    config = merge_config(ExperimentConfig, [str(configuration)], ["controls=[none]"])
    torch.manual_seed(0)
    width = video_encoder_sizes(config.perceiver.video_encoder).width
    reasoner = build_reasoner(config.reasoner, width, perceiver=config.perceiver)
    reasoner.save_pretrained(folder / "reasoner")
    config.run_dir = str(folder / "calibrated")
    (predicted, *_) = (row for row in evaluate(config)["full model"] if row.futures)
    path = folder / "calibrated" / "evaluation" / CALIBRATION_FILE
    assert not path.exists()  # without validation videos
    # What it holds for likeliest comes in two thirds of the validation videos.
    likeliest, second, *_ = (future.event for future in predicted.futures)
    rows = [
        {
            "id": f"val{number}",
            "video_id": f"test{number % NUM_VIDEOS}",
            "predictions": [{"text": "it stops", "confidence": 0.5}],
            "outcome": {"text": likeliest if number % 3 else second, "kind": "hit"},
        }
        for number in range(12)
    ]
    (folder / "val.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus = CorpusConfig(reader="causal_vid_instruct", root=str(folder), split="val")
    config.data.validation = [corpus]
    evaluate(config)
    calibration = read_forecast_calibration(path)
    assert calibration.model == reasoner_identity(folder / "reasoner").model
    assert (calibration.num_videos, calibration.listed, calibration.method) == (12, 1.0, "beam")
    # Of other answers, it would be of no use.
    config.data.validation = []
    evaluate(config)
    assert not path.exists()


def test_an_empty_set_is_a_problem_and_a_missing_corpus_a_mistake(
    configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = configuration.parent
    corpus = f"{{reader: causal_vid_instruct, root: {folder}, split: test}}"
    command = ["open_ended", "--config", str(configuration)]
    assert data([*command, f"data.train=[{corpus}]"]) == 1
    assert "0 of 6 explanations" in capsys.readouterr().out
    assert data([*command, "data.train=[]"]) == 2
    assert "data.train, which has 0" in capsys.readouterr().err
