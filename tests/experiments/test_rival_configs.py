"""Overlays and study of the rivals' architectures."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from experiments.ablate.config import StudyConfig
from experiments.config.explain import explain
from experiments.demo.references import references_files
from experiments.evaluate.table_config import SystemTableConfig
from experiments.experiment_config import ExperimentConfig
from experiments.fit.largest_batch import longest_batch
from experiments.kept_runs import PRIORS, baseline_kind, predictions_file
from experiments.start_checks.checks import find_problems
from vidreason.config import merge_config
from vidreason.evaluation.config import Control
from vidreason.fusion.fusion_core import build_fusion
from vidreason.fusion.patch_tokens import patch_tokens

CONFIGS = Path(__file__).parents[2] / "experiments" / "configs"
RIVALS = {"video_chatgpt": 24_768, "video_llama": 2_257_216, "sevila": 1_053_760}
"""Overlay -> parameters before the language model; our fusion core has 1,884,160."""

_BOTH: tuple[Control, ...] = ("none", "blind")
EMBEDDINGS = {"video_chatgpt": 72, "video_llama": 32, "sevila": 32}


def load(rival: str, *overrides: str, stage: str = "stage2") -> ExperimentConfig:
    names = ("microworld.yaml", f"microworld_{stage}.yaml")
    files = [str(CONFIGS / name) for name in (*names, f"baselines/{rival}_architecture.yaml")]
    return merge_config(ExperimentConfig, files, list(overrides))


@pytest.mark.parametrize("rival", RIVALS)
def test_a_rival_differs_before_the_language_model_alone(rival: str) -> None:
    ours = merge_config(
        ExperimentConfig,
        [str(CONFIGS / name) for name in ("microworld.yaml", "microworld_stage2.yaml")],
    )
    # SeViLA's answerer has to know single frames.
    assert load(rival).data.drop == ({"moments": 0.5} if rival == "sevila" else ours.data.drop)
    assert replace(load(rival).data, drop=ours.data.drop) == ours.data
    for section in ("optimizer", "trainer"):
        assert getattr(load(rival), section) == getattr(ours, section)
    assert load(rival).reasoner.language_model == ours.reasoner.language_model
    assert load(rival).reasoner.lora == ours.reasoner.lora
    assert load(rival).perceiver.video_encoder == ours.perceiver.video_encoder
    assert load(rival).perceiver.sampling == ours.perceiver.sampling
    with torch.device("meta"):
        fusion = build_fusion(load(rival).reasoner.fusion, 128, 192, 0.02)
    assert sum(parameter.numel() for parameter in fusion.parameters()) == RIVALS[rival]


@pytest.mark.slow
@pytest.mark.parametrize("rival", RIVALS)
def test_a_rival_is_explained(rival: str) -> None:
    for stage in ("stage1", "stage2"):
        config = load(rival, stage=stage)
        assert find_problems(config, "explain") == []
        rows = [re.split(r"  +", line) for line in explain(config).splitlines()]
        parts = {row[0]: row[1:] for row in reversed(rows)}
        assert parts["fusion"][1] == f"{RIVALS[rival]:,}"
        assert parts["visual tokens of a video"] == [str(4 + 8 * 64)]
        assert parts["embeddings for the language model"] == [str(EMBEDDINGS[rival])]
        assert "segmenter" not in parts


def test_the_longest_batch_has_all_patches() -> None:
    config = load("video_chatgpt")
    reasoner: Any = SimpleNamespace(visual_dim=128)
    visual, _ = longest_batch(config, reasoner, 2)
    patches = patch_tokens(visual)
    assert patches.seen.shape == (2, 8, 64)
    assert patches.seen.all()


@pytest.mark.parametrize(
    ("rival", "override", "message"),
    [
        ("video_chatgpt", "reasoner.fusion.num_queries=71", "71 is too few for 8 key frames of 64"),
        ("video_chatgpt", "perceiver.segmenter.name=custom", "set .*segmenter.name=patches"),
        ("video_llama", "perceiver.use_objects=false", "set perceiver.use_objects=true"),
        ("sevila", "perceiver.segmenter.name=custom", "set .*segmenter.name=patches"),
    ],
)
def test_what_a_rival_cannot_take_is_said_at_the_start(
    rival: str, override: str, message: str
) -> None:
    problems = find_problems(load(rival, override), "explain")
    assert any(re.search(message, problem) for problem in problems), problems


def test_the_study_trains_what_the_overlays_say() -> None:
    files = [str(CONFIGS / "ablations" / name) for name in ("microworld.yaml", "rivals.yaml")]
    study: Any = merge_config(StudyConfig, files)
    assert study.only == list(RIVALS)
    for rival in RIVALS:
        names = ("microworld.yaml", "microworld_stage2.yaml")
        by_study = merge_config(
            ExperimentConfig,
            [str(CONFIGS / name) for name in names],
            [*study.variants[rival].both_stages],
        )
        assert by_study == load(rival)


def test_the_table_names_what_the_overlay_writes() -> None:
    names = ["microworld.yaml", "microworld_benchmarks.yaml", "baselines/microworld_rivals.yaml"]
    evaluated = merge_config(ExperimentConfig, [str(CONFIGS / name) for name in names])
    file = CONFIGS / "tables" / "microworld_rivals.yaml"
    table: Any = merge_config(SystemTableConfig, [str(file)])
    named = [path for files in table.rows.values() for path in files]
    kinds = [baseline_kind(name, control) for name in evaluated.baselines for control in _BOTH]
    written = [predictions_file(evaluated, kind) for kind in (*_BOTH, *PRIORS, *kinds)]
    written += references_files(evaluated).values()
    assert {Path(path) for path in named} <= set(written)
    assert len(set(named)) == len(named)
    # Every rival is in the table, and every seed of a system in one row.
    assert all(str(predictions_file(evaluated, name)) in named for name in evaluated.baselines)
    assert sorted({len(files) for files in table.rows.values()}) == [1, 3]
    corpora = {corpus.reader for corpus in evaluated.data.benchmark}
    assert set(table.columns) == corpora
