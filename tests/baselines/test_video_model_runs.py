"""A video language model through ``evaluate``: rows, controls, and tokens beside the accuracy."""

import json
from pathlib import Path

import pytest
import yaml
from tiny_experiment import filmed_experiment, tiny_experiment  # noqa: F401 - fixtures
from tiny_video_models import qwen3_vl, write_tiny_video_model

from experiments.evaluate import __main__ as program
from vidreason.evaluation.predictions.row_files import read_predictions


@pytest.mark.slow
def test_a_video_model_is_evaluated(
    filmed_experiment: tuple[Path, Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = yaml.safe_load(filmed_experiment[0].read_text())
    config |= {"model": "none", "controls": ["none", "blind", "single_frame"]}
    model = write_tiny_video_model(qwen3_vl, tmp_path / "model")
    config["baselines"] = {
        scoring: {
            **{"weights": {"model": model}, "dtype": "float32", "num_frames": 4},
            **{"max_pixels": 64 * 64, "option_scoring": scoring},
        }
        for scoring in ("letter", "text")
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    assert program.main(["--config", str(file), f"run_dir={tmp_path / 'run'}"]) == 0
    folder = tmp_path / "run" / "evaluation"
    tables = (folder / "tables.md").read_text().replace("\\", "")
    assert "tokens per question, mean" in tables
    tokens = json.loads((folder / "metrics.json").read_text())["tokens"]
    for corpus in tokens.values():
        for scoring in ("letter", "text"):
            counts = {
                control: corpus[f"{scoring} [generic]{control}"]["num_visual_tokens"]
                for control in ("", ", blind", ", middle frame")
            }
            # Pairs of frames of at most 2 x 2 tokens.
            assert 0 == counts[", blind"] < counts[", middle frame"] < counts[""] <= 8
    rows = {s: read_predictions(folder / f"predictions-{s}.jsonl") for s in ("letter", "text")}
    choices = {s: [row for row in of_run if row.options] for s, of_run in rows.items()}
    assert all(row.option_log_likelihoods for of_run in choices.values() for row in of_run)
    assert {n for row in choices["letter"] for n in row.option_token_counts} == {1}
    assert max(n for row in choices["text"] for n in row.option_token_counts) > 1
