"""The benchmarks of the language model: both sides agree, reports are complete, flags are checked.

Nothing here asserts a time.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from experiments.benchmark import arguments as options_of
from experiments.benchmark import options, step
from experiments.benchmark.__main__ import main
from experiments.benchmark.flops import forward_flops
from experiments.benchmark.framework_overhead import TurnsLoader
from experiments.benchmark.gpu_numbers import Chip, gpu_numbers, gpu_tables, measure_chip
from experiments.benchmark.gpu_table import measure_table, table_sizes
from experiments.benchmark.reasoners import PRESETS, Preset, build, check_equal
from experiments.benchmark.training_steps import (
    BareLoop,
    batch_flops,
    copy_trained,
    draw_batches,
    gradient_difference,
    joined_mean_loss,
    padded_mean_loss,
)
from vidreason.microworld.parts import VOCAB_SIZE
from vidreason.reasoning.language_model import LoraSettings, causal_lm
from vidreason.training.trainable import set_trainable, trainable_names

SMALL = ["--language-model", "tiny", "--num-queries", "4", "--objects", "3", "--rounds", "1"]

RANDOM_FOUR_BITS = ["--random-weights", "--quantization", "nf4", "--dtype", "bfloat16"]


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A preset in the place of the large ones, as wide as the microworld's vocabulary."""
    sizes = {
        **{
            "vocab_size": VOCAB_SIZE,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
        },
        **{"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": False},
        "initializer_range": 0.2,
    }
    fusion = {"width": 32, "num_layers": 2, "num_heads": 4}
    monkeypatch.setitem(PRESETS, "tiny", Preset(llama=sizes, fusion=fusion, visual_dim=24))


def parsed(add_options: Any, *given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return parser.parse_args([*SMALL, *given])


Report = Callable[..., tuple[dict[str, Any], str]]


@pytest.fixture
def report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Report:
    """``report(name, *arguments)`` runs a benchmark; returns its numbers and its page."""

    def run(name: str, *given: str) -> tuple[dict[str, Any], str]:
        assert main([name, *SMALL, *given, "--output-dir", str(tmp_path)]) == 0
        measured = json.loads(capsys.readouterr().out)
        assert json.loads((tmp_path / f"{name}.json").read_text()) == measured
        return measured, (tmp_path / f"{name}.md").read_text()

    return run


def assert_complete(measured: dict[str, Any], page: str) -> None:
    """Check that a report says what was measured, and where."""
    assert measured["command"][:3] == ["python", "-m", "experiments.benchmark"]
    assert measured["machine"]["versions"]["transformers"]
    assert measured["machine"]["processor"]
    assert measured["model"]["class"] == "LlamaForCausalLM"
    assert measured["model"]["random_weights"]
    assert measured["clock"] == "CPU"
    assert "*Measured* with `python -m experiments.benchmark " in page
    assert "tiny: LlamaForCausalLM, 0.1 million parameters" in page
    assert "CPU s" in page


@pytest.mark.parametrize("stage", ["alignment", "instruction"])
def test_steps_agree_and_are_reported(stage: str, report: Report) -> None:
    sizes = ["--batch-size", "3", "--lora-rank", "2", "--median-tokens", "9", "--steps", "2"]
    measured, page = report("step", "--stage", stage, *sizes)
    assert_complete(measured, page)
    assert set(measured["seconds_a_step"]) == {"joined", "padded"}
    assert measured["times_joined"]["joined"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    assert measured["equal"]["loss_difference"] < 1e-5
    assert measured["equal"]["gradient_difference"] < 1e-5
    assert 0.3 < measured["batches"]["fill"] < 1
    assert measured["batches"]["samples_a_step"] == 3
    framework = measured["framework"]
    assert set(framework["seconds_a_step"]) == {"lightning", "bare"}
    assert set(framework["overhead_percent"]) == {"median", "low", "high"}
    # Two rounds of two steps, on parameters of their own: both loops learn the same.
    assert framework["loss_difference"] < 1e-5
    assert "| padded | " in page
    assert "| lightning | " in page


def test_what_was_measured_before_a_kill_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise RuntimeError("killed")

    monkeypatch.setattr(step, "measure_framework", killed)
    sizes = ["--batch-size", "2", "--median-tokens", "9", "--rounds", "1", "--steps", "1"]
    with pytest.raises(RuntimeError, match="killed"):
        main(["step", *SMALL, *sizes, "--output-dir", str(tmp_path)])
    measured = json.loads((tmp_path / "step.json").read_text())
    assert measured["times_joined"]["padded"]["median"] > 0
    assert (measured["complete"], "framework" in measured) == (False, False)
    page = (tmp_path / "step.md").read_text()
    assert "| joined |" in page
    assert page.endswith("or was killed: more was to come.\n")
    assert {path.name for path in tmp_path.iterdir()} == {"step.json", "step.md"}


def test_options_agree_and_are_reported(report: Report) -> None:
    sizes = ["--batch-size", "4", "--questions-a-video", "2", "--median-tokens", "12"]
    measured, page = report("options", *sizes)
    assert_complete(measured, page)
    assert set(measured["seconds_a_batch"]) == {"shared", "joined rows", "padded rows"}
    assert set(measured["times_shared"]) == set(measured["seconds_a_batch"])
    assert measured["equal"]["score_difference"] < 1e-5
    assert measured["equal"]["same_choice"] == "4/4"
    assert (measured["questions"]["videos"], measured["questions"]["options"]) == (2, 5)
    assert "| padded rows | " in page


@pytest.mark.parametrize("shared", [[], ["--questions-a-video", "3", "--beams", "2"]])
def test_generation_agrees_and_is_reported(report: Report, shared: list[str]) -> None:
    sizes = ["--questions", "5", "--batch-size", "2", "--new-tokens", "4", "--median-tokens", "9"]
    measured, page = report("generate", *sizes, *shared)
    assert_complete(measured, page)
    ways = {"by length", "in any order", "one by one", "by length, each row alone"}
    assert set(measured["seconds"]) == ways
    assert measured["questions"]["videos"] == (2 if shared else 5)
    assert set(measured["equal_answers"].values()) == {5}
    assert 0 < measured["questions"]["answer_tokens"] <= 4
    fills = measured["questions"]["fill"]
    assert fills["in any order"] <= fills["by length"] <= fills["one by one"] == 1
    assert "| one by one | 1.00 | " in page


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["step", "--batch-size", "0"], "--batch-size is 0; it must be at least 1"),
        (
            ["step", "--language-model", "tiny", "--sigma", "-1"],
            "--sigma is -1.0; it must be 0 or more",
        ),
        (["options", "--options", "0"], "--options is 0"),
        (["generate", "--new-tokens", "-3"], "--new-tokens is -3"),
        (["step", "--language-model", "/nowhere/at/all"], "/nowhere/at/all"),
        (
            ["step", "--language-model", "microworld", *RANDOM_FOUR_BITS],
            "--quantization nf4 reads weights from files",
        ),
        (["generate", "--quantization", "nf4"], "dtype 'float32'; set dtype=bfloat16"),
    ],
)
def test_wrong_flags_are_named(
    given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(given) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("name", ["step", "options", "generate"])
def test_a_gpu_is_asked_for_where_there_is_none(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([name, "--gpu"]) == 2
    assert "--gpu needs a CUDA device" in capsys.readouterr().err


def test_other_work_is_no_comparison() -> None:
    """A formulation that leaves a token out is found, and refused."""
    arguments = parsed(options_of.step, "--batch-size", "2")
    reasoner = build(arguments)
    (batch,) = draw_batches(arguments, reasoner, 1)
    masked = batch.padded._replace(labels=batch.padded.labels.clone())
    masked.labels[0, -1] = masked.labels[1, -1] = -100
    loops = {
        name: BareLoop(copy_trained(reasoner, "alignment"), "alignment", loss, 5, torch.float32)
        for name, loss in step.WAYS.items()
    }
    loops["joined"].gradient(batch)
    loops["padded"].gradient(batch._replace(padded=masked))
    assert gradient_difference(loops["joined"], loops["padded"]) > 1e-3
    with pytest.raises(ValueError, match=r"losses differ by .* so their times say nothing"):
        check_equal("losses", 1e-3, 1e-5, torch.float32)
    with pytest.raises(ValueError, match="losses differ by nan"):
        check_equal("losses", float("nan"), 1e-5, torch.float32)
    check_equal("losses", 1e-3, 1e-5, torch.bfloat16)  # 16 bits round


def test_copies_train_apart_and_share_what_is_frozen() -> None:
    reasoner = build(parsed(options_of.step), lora=LoraSettings(rank=2, alpha=4))
    copied = copy_trained(reasoner, "instruction")
    trained = trainable_names(reasoner, "instruction")
    for (name, value), (_, other) in zip(
        reasoner.named_parameters(), copied.named_parameters(), strict=True
    ):
        assert (value is other) == (name not in trained), name
        assert torch.equal(value, other)


@pytest.mark.parametrize(
    ("steps", "turns"),
    [
        # The last batch ends the last round, and belongs to none.
        (2, "B01 L0 L1 | L2 L3 B23 | B45 L4 L5 | L6"),
        (3, "B012 L0 L1 L2 | L3 L4 L5 B345 | L6"),
        (1, "B0 L0 | L1 B1 | B2 L2 | L3 B3 | B4 L4 | L5 B5 | L6"),
    ],
)
def test_the_two_loops_take_turns(steps: int, turns: str) -> None:
    done: list[str] = []
    batches: Any = [argparse.Namespace(joined=number) for number in range(7)]
    now = 0.0

    def run_bare(turn: Any) -> None:
        nonlocal now
        now += 1.0
        done.append("B" + "".join(str(batch.joined) for batch in turn))

    loader = TurnsLoader(batches, steps, run_bare, lambda: now)
    for batch in loader:
        done.append(f"L{batch}")
        now += 10.0
    assert done == turns.replace("| ", "").split()
    num_rounds = turns.count("|")
    assert loader.framework == [10.0 * steps] * num_rounds
    assert loader.bare == [1.0] * num_rounds


@pytest.mark.parametrize("stage", ["alignment", "instruction"])
def test_the_formula_counts_what_pytorch_counts(stage: Any) -> None:
    """The counter sees full squares of attention, where the formula counts pairs that matter."""
    given = ("--batch-size", "2", "--sigma", "0", "--median-tokens", "20")
    arguments = parsed(options_of.step, *given)
    lora = LoraSettings(rank=4, alpha=8) if stage == "instruction" else None
    reasoner = build(arguments, lora=lora)
    set_trainable(reasoner, trainable_names(reasoner, stage))
    (batch,) = draw_batches(arguments, reasoner, 1)
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):
        joined_mean_loss(reasoner, batch).backward()
    flops = batch_flops(reasoner, batch)
    products = {name.__name__: n for name, n in counter.get_flop_counts()["Global"].items()}
    attention = products.pop("bmm.default", products.pop("bmm", 0))
    linear = flops.language_model + flops.output_layer + flops.fusion
    assert sum(products.values()) == pytest.approx(linear, rel=0.01)
    assert attention == pytest.approx(2 * flops.attention + flops.fusion_attention, rel=0.05)
    # Forward is a third of a step that trains everything, and half of one through frozen layers.
    forward = forward_flops(reasoner, [10], 5, 7)
    assert flops.total > 2 * forward.total
    assert forward.language_model == 2 * 10 * _linear_weights(reasoner)


def _linear_weights(reasoner: Any) -> int:
    return sum(
        parameter.numel()
        for name, parameter in causal_lm(reasoner.language_model).named_parameters()
        if parameter.ndim == 2 and "embed" not in name and "lm_head" not in name
    )


def test_the_table_of_a_gpu_rehearsed_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows change one size at a time; one that does not fit says so and the others stand."""
    arguments = parsed(
        options_of.step,
        *("--batch-size", "2", "--table-batch-size", "2", "4", "--table-median-tokens", "8"),
        *("--table-clips", "--table-objects", "5"),
    )
    sizes = list(table_sizes(arguments))
    names = ("batch_size", "median_tokens", "clips", "objects")
    assert [tuple(size_row[name] for name in names) for size_row in sizes] == [
        (2, 32, 4, 3),
        (4, 32, 4, 3),
        (2, 8, 4, 3),
        (2, 32, 4, 5),
    ]
    device = torch.device("cpu")
    chip = measure_chip(device, side=64)
    assert chip.measured > 0
    reasoner = build(arguments)
    memory = "experiments.benchmark.gpu_table.memory"

    def limited(work: Any, _: torch.device) -> None:
        monkeypatch.setattr(memory, lambda *_: {"peak_gib": 1.5, "working_gib": 0.25})
        raise torch.OutOfMemoryError

    monkeypatch.setattr(memory, limited)
    rows = list(measure_table(arguments, reasoner, chip, device, torch.float32))
    assert [row["out_of_memory"] for row in rows] == [True, False, False, False]
    assert rows[1]["samples_a_second"] > 0
    numbers = gpu_numbers(chip, 2e9, {"joined": {"median": 0.5}}, {"joined": lambda: None}, device)
    assert numbers["ways"]["joined"]["tflops_a_second"] == pytest.approx(4e-3)
    *_, table = gpu_tables({**numbers, "table": rows})
    assert "| 2 | 32 | 4 | 3 | out of memory |" in table
    assert table.count("| 1.50 | 0.25 |") == 3


def test_both_percentages_of_a_chip() -> None:
    chip = Chip(name="NVIDIA H200", measured=800e12, datasheet=1000e12)
    used = chip.use(200e12, seconds=0.5)
    assert used == {
        "tflops_a_second": 400.0,
        "percent_of_measured": 50.0,
        "percent_of_datasheet": 40.0,
    }
    unknown = Chip(name="CPU", measured=1e12, datasheet=None)
    assert unknown.use(1e12, seconds=2.0)["percent_of_datasheet"] is None


@torch.no_grad()
def test_padded_loss_is_what_transformers_computes() -> None:
    """The baseline itself is held to a loss by hand, at float64."""
    arguments = parsed(options_of.step, "--batch-size", "3")
    reasoner = build(arguments).double()
    (batch,) = draw_batches(arguments, reasoner, 1)
    batch.joined["visual"] = {
        name: value.double() if value.is_floating_point() else value
        for name, value in batch.joined["visual"].items()
    }
    loss = padded_mean_loss(reasoner, batch)
    visual, model = batch.joined["visual"], causal_lm(reasoner.language_model)
    sums, count = 0.0, 0
    for row, video in enumerate(reasoner.fusion(visual)):
        kept = batch.padded.attention_mask[row].bool()
        ids, labels = (
            tensor[row][kept] for tensor in (batch.padded.input_ids, batch.padded.labels)
        )
        words = model.get_input_embeddings()(ids)
        logits = model(inputs_embeds=torch.cat([video, words])[None]).logits[0, len(video) - 1 : -1]
        wanted = labels != -100
        sums -= float(logits.log_softmax(-1)[wanted, labels[wanted]].sum())
        count += int(wanted.sum())
    assert float(loss) == pytest.approx(sums / count, rel=1e-5)


def test_options_share_videos() -> None:
    arguments = parsed(options_of.options, "--batch-size", "3", "--questions-a-video", "2")
    (batch,) = options._draw_questions(arguments, build(arguments))
    assert list(batch.video_of) == [0, 0, 1]
    assert len(batch.videos) == 2
