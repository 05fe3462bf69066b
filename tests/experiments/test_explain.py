"""``experiments.config --explain``: what a configuration is made of, before anything is fetched."""

import re
from pathlib import Path

import pytest

from experiments.config.__main__ import main

CHECKOUT = Path(__file__).parents[2]
CONFIGS = CHECKOUT / "experiments" / "configs"
LLAMA_3_8B = CHECKOUT / "tests" / "assets" / "llama-3-8b-instruct"


def explained(capsys, *arguments):
    status = main(["--explain", *map(str, arguments)])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    return captured.out


def row(text, start):
    return next(re.split(r" {2,}", line) for line in text.splitlines() if line.startswith(start))


@pytest.mark.slow
def test_a_tiny_configuration_is_explained(capsys, monkeypatch):
    monkeypatch.chdir(CHECKOUT)
    text = explained(
        capsys,
        *("--config", CONFIGS / "stage2_instruction.yaml", "--config", CONFIGS / "tiny.yaml"),
        "freeze_schedule=[{part: fusion, from_step: 5}]",
        *("trainer.devices=2", "trainer.strategy=ddp", "data.global_batch_size=12"),
    )
    assert row(text, "strategy")[1] == "ddp"
    assert row(text, "global batch")[1] == "12 = 2 a micro-batch x 3 accumulated x 2 processes"
    assert row(text, "video encoder")[1:4] == ["viclip", row(text, "video encoder")[2], "frozen"]
    fusion = row(text, "fusion")
    assert fusion[3:] == ["trains from step 5", "float32", "2e-05"]
    assert row(text, "lora")[3:] == ["trains", "float32", "2e-05"]
    assert row(text, "language model")[3:] == ["frozen", "float32"]
    # 2 clips, and 2 objects on each of 2 key frames; 4 queries before 512 text tokens.
    assert row(text, "visual tokens of a video")[-1] == "6"
    assert row(text, "positions of a sample")[-1] == "516"
    for use in ("fit", "generate, 1 prompt", "evaluate"):
        assert row(text, use)[-1].startswith("yes: this machine has ")


def test_a_model_that_is_not_at_hand_is_named_with_the_remedy(capsys, monkeypatch):
    monkeypatch.chdir(CHECKOUT)
    text = explained(
        capsys,
        *("--config", CONFIGS / "stage1_alignment.yaml", "--config", CONFIGS / "tiny.yaml"),
        "reasoner.language_model.name_or_path=meta-llama/Llama-3.2-1B-Instruct",
        "reasoner.language_model.revision=abc",
    )
    language_model = row(text, "language model")
    assert language_model[2:5] == ["not at hand", "frozen", "float32"]
    assert "Llama 3.2 Community License" in text
    assert "`hf download meta-llama/Llama-3.2-1B-Instruct config.json --revision abc`" in text
    assert not re.search(r"^fit", text, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "preset"),
    [
        ("stage1_alignment.yaml", "stage1_32xh100.yaml"),
        ("stage2_instruction.yaml", "stage2_8xh100.yaml"),
    ],
)
def test_the_papers_configurations_fit_an_80_gb_device(capsys, stage, preset):
    text = explained(
        capsys,
        *("--config", CONFIGS / stage, "--config", CONFIGS / preset),
        f"reasoner.language_model.name_or_path={LLAMA_3_8B}",
    )
    assert row(text, "language model")[2:5] == ["8,030,261,248", "frozen", "bfloat16"]
    assert row(text, "segmenter")[2] == "641,090,608"
    assert "unsettled" in text  # ViCLIP's licence
    if stage.startswith("stage2"):
        assert row(text, "lora")[2] == "167,772,160"
    weights, optimizer, gradients, working, perception, peak = map(float, row(text, "fit")[1:7])
    assert 15 < weights < 16.5  # 8.03e9 in 2 bytes, and what trains in 4
    assert optimizer == pytest.approx(gradients, abs=0.02)  # two means; gradients, and DDP's copies
    assert perception == 0  # worker processes perceive, on the CPU
    assert peak == pytest.approx(weights + optimizer + gradients + working, abs=0.03)
    assert 40 < peak < 0.9 * 80e9 / 2**30
