"""The record of a checkpoint, and the optimizer's state by names."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import EXPECTED_WARNINGS, tiny_fit, tiny_module
from torch import nn
from torch.optim import AdamW

from experiments.experiment_config import ExperimentConfig
from vidreason.config import merge_config
from vidreason.model import build_reasoner
from vidreason.perception.models import video_encoder_sizes
from vidreason.training.checkpoint_files import write_file
from vidreason.training.checkpoint_format import (
    FORMAT_VERSION,
    RECORD,
    RunIdentity,
    name_optimizer_state,
    random_state,
    restore_random_state,
)
from vidreason.training.trainable import trainable_names

CHECKOUT = Path(__file__).parents[2]

pytestmark = EXPECTED_WARNINGS


def module_of(folder, identity=None, *, initial=""):
    """Stage 1; stage 2 if it starts from a checkpoint."""
    stage = "instruction" if initial else "alignment"
    module = tiny_module(folder, stage, initial_checkpoint=str(initial))
    module.identity = identity or RunIdentity()
    return module


def saved(folder, path, identity=None):
    trainer = tiny_fit(module_of(folder, identity), max_steps=1)
    trainer.save_checkpoint(path, weights_only=False)
    return torch.load(path, weights_only=True)


def resume(module, path):
    tiny_fit(module, resume=path, max_steps=2)


def test_the_record_says_what_the_checkpoint_is_of(tiny_language_model_folder, tmp_path):
    calls = []

    def hash_frozen():
        calls.append(1)
        return {"language_model": "abc", "video_encoder": "def"}

    identity = RunIdentity({"seed": 5, "reasoner": {"lora": None}}, hash_frozen)
    module = module_of(tiny_language_model_folder, identity)
    trainer = tiny_fit(module, max_steps=1)
    for name in "ab":
        trainer.save_checkpoint(tmp_path / f"{name}.ckpt", weights_only=False)
    assert len(calls) == 1  # 8 billion weights are hashed once
    record = torch.load(tmp_path / "b.ckpt", weights_only=True)[RECORD]
    [state] = record.pop("rng")
    assert torch.equal(state["torch"], torch.get_rng_state())
    assert record == {
        "format_version": FORMAT_VERSION,
        "stage": "alignment",
        "config": {"seed": 5, "reasoner": {"lora": None}},
        "frozen": {"language_model": "abc", "video_encoder": "def"},
        "trainable": sorted(module.trainable),
        "world_size": 1,
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop(RECORD), r"is no checkpoint of experiments\.fit"),
        (lambda content: content[RECORD].update(format_version=2), r"has format version 2; this"),
        (lambda content: content[RECORD].pop("frozen"), r"is damaged: its record has no frozen"),
    ],
)
def test_other_formats_are_refused(tiny_language_model_folder, tmp_path, change, message):
    content = saved(tiny_language_model_folder, tmp_path / "a.ckpt")
    change(content)
    write_file(content, tmp_path / "a.ckpt")
    for attempt in (
        lambda: resume(module_of(tiny_language_model_folder), tmp_path / "a.ckpt"),
        lambda: module_of(tiny_language_model_folder, initial=tmp_path / "a.ckpt"),
    ):
        with pytest.raises(ValueError, match=message):
            attempt()


@pytest.mark.parametrize(
    ("part", "key"),
    [
        ("language_model", r"reasoner\.language_model\.name_or_path"),
        ("video_encoder", r"perceiver\.video_encoder\.weights"),
        ("segmenter", r"perceiver\.segmenter\.weights"),
    ],
)
def test_another_frozen_part_is_refused_by_its_content(
    tiny_language_model_folder, tmp_path, part, key
):
    parts = {"language_model": "aa", "video_encoder": "bb", "segmenter": "cc"}
    saved(tiny_language_model_folder, tmp_path / "a.ckpt", RunIdentity({}, lambda: parts))
    other = RunIdentity({}, lambda: {**parts, part: "ee"})
    message = (
        rf"another {part}: it has the content hash {parts[part]}, the configured one ee; .*{key}"
    )
    with pytest.raises(ValueError, match=message):
        resume(module_of(tiny_language_model_folder, other), tmp_path / "a.ckpt")
    second = module_of(tiny_language_model_folder, other, initial=tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=message):
        tiny_fit(second, max_steps=1)
    # A part that only one of the two has says nothing: stage 2 may be the first to see objects.
    del parts[part]
    saved(tiny_language_model_folder, tmp_path / "b.ckpt", RunIdentity({}, lambda: parts))
    resume(module_of(tiny_language_model_folder, other), tmp_path / "b.ckpt")


def test_random_states_are_taken_up_again(tiny_language_model_folder, tmp_path):
    def draw():
        return torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random(), random.gauss()

    random.gauss()  # leaves a second number behind for the next call
    np.random.standard_normal()
    state = random_state()
    expected = draw()
    draw()
    torch.save(state, tmp_path / "state")
    restore_random_state(torch.load(tmp_path / "state", weights_only=True))
    assert draw() == expected


def test_a_run_continues_with_the_random_states_of_its_checkpoint(
    tiny_language_model_folder, tmp_path
):
    content = saved(tiny_language_model_folder, tmp_path / "a.ckpt")
    expected = content[RECORD]["rng"][0]["torch"]
    torch.manual_seed(99)
    module = module_of(tiny_language_model_folder)
    states = []
    on_train_start = module.on_train_start

    def record_and_start():
        on_train_start()
        states.append(torch.get_rng_state())

    module.on_train_start = record_and_start
    resume(module, tmp_path / "a.ckpt")
    assert torch.equal(states[0], expected)


def two_layers():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))


def optimizer_of(module, groups):
    parameters = dict(module.named_parameters())
    optimizer = AdamW(
        [{"params": [parameters[name] for name in group], "lr": lr} for group, lr in groups]
    )
    name_optimizer_state(optimizer, module)
    return optimizer


def test_the_optimizers_state_finds_its_parameters_by_name():
    module = two_layers()
    module(torch.ones(1, 2)).sum().backward()
    first = optimizer_of(module, [(["0.weight", "1.weight"], 0.1), (["0.bias", "1.bias"], 0.2)])
    first.step()
    state = first.state_dict()
    assert set(state["state"]) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    second = optimizer_of(module, [(["1.bias", "0.bias"], 0.7), (["1.weight", "0.weight"], 0.7)])
    second.load_state_dict(state)
    assert [group["lr"] for group in second.param_groups] == [0.2, 0.1]
    for name, parameter in module.named_parameters():
        assert torch.equal(second.state[parameter]["exp_avg"], state["state"][name]["exp_avg"])
    other = optimizer_of(module, [(["0.weight", "0.bias"], 0.1), (["1.weight", "1.bias"], 0.1)])
    with pytest.raises(ValueError, match=r"other groups of parameters .*holds exactly the 2 of"):
        other.load_state_dict(state)


def test_a_parameter_that_has_not_trained_yet_has_no_state():
    module = two_layers()
    module[0](torch.ones(1, 2)).sum().backward()
    first = optimizer_of(module, [(list(dict(module.named_parameters())), 0.1)])
    first.step()
    second = optimizer_of(module, [(list(dict(module.named_parameters())), 0.1)])
    second.load_state_dict(first.state_dict())
    assert {id(p) for p in second.state} == {id(p) for p in module[0].parameters()}


def test_flat_tensors_in_the_parameters_place_keep_torchs_own_form():
    """DeepSpeed's ZeRO puts one there for each group."""
    states = []
    for _ in range(2):
        module = two_layers()
        optimizer = optimizer_of(module, [(list(dict(module.named_parameters())), 0.1)])
        flat = torch.cat([p.detach().flatten() for p in module.parameters()]).requires_grad_()
        optimizer.param_groups[0]["params"] = [flat]
        if states:
            optimizer.load_state_dict(states[0])
        else:
            flat.sum().backward()
            optimizer.step()
        states.append(optimizer.state_dict())
    assert states[0]["param_groups"][0]["params"] == [0]
    assert torch.equal(*(state["state"][0]["exp_avg"] for state in states))


@pytest.mark.slow
def test_a_checkpoint_of_the_papers_stage_2_is_below_3_gigabytes():
    """Fusion core 79,493,632 and LoRA 167,772,160 values, float32, three times with AdamW's two."""
    llama = f"reasoner.language_model.name_or_path={CHECKOUT}/tests/assets/llama-3-8b-instruct"
    file = CHECKOUT / "experiments" / "configs" / "stage2_instruction.yaml"
    config = merge_config(ExperimentConfig, [str(file)], [llama])
    visual_dim = video_encoder_sizes(config.perceiver.video_encoder).width
    reasoner = build_reasoner(config.reasoner, visual_dim, "meta")
    names = trainable_names(reasoner, "instruction")
    parameters = {n: p for n, p in reasoner.named_parameters() if n in names}
    assert {parameter.dtype for parameter in parameters.values()} == {torch.float32}
    num_values = sum(parameter.numel() for parameter in parameters.values())
    assert num_values == 79_493_632 + 167_772_160
    # A record of torch.save starts at a multiple of 64 bytes, and its names and numbers take less
    # than 1000; a parameter has four: its value, AdamW's means, and its step.
    overhead = 4 * len(parameters) * (64 + 1000)
    assert 12 * num_values + overhead < 3e9
