"""The reasoner cut into shards or compiled computes what it computes whole; one process each."""

from pathlib import Path

import pytest
import torch
from process_memory import linux_only, memory
from safetensors.torch import save_file
from tiny_training import (
    BY_GRADIENT,
    EXPECTED_WARNINGS,
    VISUAL_DIM,
    tiny_loader,
    tiny_module,
    tiny_trainer,
)
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers import LlamaConfig, LlamaForCausalLM

from vidreason.fusion.fusion_core import FusionConfig
from vidreason.model import ReasonerConfig, VideoReasoner, build_reasoner
from vidreason.reasoning import output_layer
from vidreason.reasoning.language_model import LanguageModelConfig, LoraSettings
from vidreason.training.checkpoint import gather_parameters
from vidreason.training.checkpoint_strategies import ShardedStrategy
from vidreason.training.loss import next_token_loss
from vidreason.training.sharding import blocks, compile_blocks, shard, shard_units
from vidreason.training.trainable import set_trainable, trainable_names


def build(folder: str | Path, **language_model: object) -> VideoReasoner:
    config = ReasonerConfig(
        fusion=FusionConfig(num_queries=4, width=32, num_layers=2, num_heads=4),
        language_model=LanguageModelConfig(
            name_or_path=str(folder), **{"dtype": "float32", **language_model}
        ),
        lora=LoraSettings(rank=4, alpha=8),
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        reasoner = build_reasoner(config, VISUAL_DIM)
    set_trainable(reasoner, trainable_names(reasoner, "instruction"))
    return reasoner.train()


@pytest.fixture(scope="module")
def tied_folder(tiny_language_model_folder, tiny_tokenizer, tmp_path_factory):
    """A language model whose output layer is its word embeddings."""
    folder = tmp_path_factory.mktemp("tied")
    config = LlamaConfig.from_pretrained(tiny_language_model_folder, tie_word_embeddings=True)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        LlamaForCausalLM(config).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


def one_process(tmp_path):
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1
    )
    return init_device_mesh("cpu", (1,))


def loss_and_gradients(reasoner, dtype=None):
    """Run two micro-batches of unequal lengths, with a video without tokens."""
    total = 0.0
    for batch in tiny_loader(reasoner, 3, 6):
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            loss, _ = next_token_loss(reasoner(**batch))
        loss.backward()
        total += loss.item()
    gradients = {n: p.grad for n, p in reasoner.named_parameters() if p.grad is not None}
    return total, {
        n: g.full_tensor() if isinstance(g, DTensor) else g for n, g in gradients.items()
    }


def test_units_are_the_blocks_and_what_ties_allow(tiny_language_model_folder, tied_folder):
    reasoner = build(tiny_language_model_folder)
    names = {module: name for name, module in reasoner.named_modules()}
    model = "language_model.base_model.model"
    expected = [*(f"fusion.blocks.{number}" for number in (0, 1))]
    expected += [f"{model}.model.layers.{number}" for number in (0, 1)]
    assert [names[block] for block in blocks(reasoner)] == expected
    expected += [f"{model}.model.embed_tokens", f"{model}.lm_head"]
    assert [names[unit] for unit in shard_units(reasoner)] == expected
    tied = build(tied_folder)
    assert shard_units(tied) == blocks(tied)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["float32", "bf16-mixed"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointing"])
@pytest.mark.parametrize("tied", [False, True], ids=["", "tied"])
def test_shards_compute_what_the_whole_computes(
    tiny_language_model_folder, tied_folder, tmp_path, monkeypatch, tied, checkpointing, dtype
):
    if checkpointing:  # logits as well are computed once more, in chunks of 9 positions
        monkeypatch.setattr(output_layer, "MAX_LOGIT_BYTES", 9 * 4 * 300)
    folder = tied_folder if tied else tiny_language_model_folder
    # Frozen weights in bfloat16 beside adapters in float32, as on a device.
    settings = {"gradient_checkpointing": checkpointing}
    if dtype is not None:
        settings["dtype"] = "bfloat16"
    loss, gradients = loss_and_gradients(build(folder, **settings), dtype)
    reasoner = build(folder, **settings)
    shard(reasoner, one_process(tmp_path))
    assert all(isinstance(p, DTensor) for p in reasoner.parameters())
    assert {p.dtype for p in reasoner.parameters()} == {
        torch.float32,
        torch.bfloat16 if dtype else torch.float32,
    }
    sharded_loss, sharded_gradients = loss_and_gradients(reasoner, dtype)
    assert sharded_loss == loss
    assert sharded_gradients.keys() == gradients.keys() == trainable_names(reasoner, "instruction")
    for name, gradient in gradients.items():
        torch.testing.assert_close(sharded_gradients[name], gradient, atol=1e-5, rtol=1e-5)


@EXPECTED_WARNINGS
@pytest.mark.slow
def test_training_with_shards_is_training_in_mixed_precision(tiny_language_model_folder):
    results = []
    for strategy in ("auto", ShardedStrategy()):
        module = tiny_module(tiny_language_model_folder, **BY_GRADIENT)
        reasoner = module.reasoner
        trainer = tiny_trainer(
            strategy=strategy,
            precision="bf16-mixed",
            max_epochs=1,
            accumulate_grad_batches=2,
            use_distributed_sampler=False,  # it would shuffle
        )
        trainer.fit(module, tiny_loader(reasoner, 4))
        results.append(dict(gather_parameters(reasoner, module.trainable)))
    plain, sharded = results
    assert {value.dtype for value in sharded.values()} == {torch.float32}
    assert sharded.keys() == plain.keys()
    for name, value in plain.items():
        torch.testing.assert_close(sharded[name], value, atol=5e-3, rtol=2e-2, msg=name)


@linux_only
def test_a_process_holds_its_part_of_the_frozen_weights_and_no_more(tiny_tokenizer, tmp_path):
    sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 4}
    config = LlamaConfig(vocab_size=4000, num_attention_heads=4, num_key_value_heads=2, **sizes)
    with torch.device("meta"):
        shapes = LlamaForCausalLM(config).state_dict()
    config.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    weights = {name: torch.ones(value.shape).bfloat16() for name, value in shapes.items()}
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    whole = sum(value.nbytes for value in weights.values())
    del weights
    processes = 8
    distributed.init_process_group("fake", rank=1, world_size=processes, store=FakeStore())
    mesh = init_device_mesh("cpu", (processes,))
    before = memory("RssAnon")
    reasoner = build(tmp_path, dtype="bfloat16")
    trained = sum(p.nbytes for p in reasoner.parameters() if p.requires_grad)
    shard(reasoner, mesh)
    taken = memory("RssAnon") - before
    assert whole > 140e6
    # An eighth, and what else a process takes meanwhile: modules, and the allocator's reserves.
    assert taken < whole / processes + trained + 0.3 * whole
    frozen = [p for p in reasoner.parameters() if not p.requires_grad]
    assert sum(p.to_local().nbytes for p in frozen) == pytest.approx(whole / processes, rel=0.01)


@pytest.mark.slow  # it calls a compiler
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns itself
@pytest.mark.parametrize("sharded", [False, True], ids=["", "sharded"])
def test_compiled_blocks_compute_the_same_under_the_same_names(
    tiny_language_model_folder, tmp_path, sharded
):
    plain = build(tiny_language_model_folder)
    loss, gradients = loss_and_gradients(plain)
    compiled = build(tiny_language_model_folder)
    compile_blocks(compiled)
    if sharded:
        shard(compiled, one_process(tmp_path))
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    torch._dynamo.reset()
    compiled_loss, compiled_gradients = loss_and_gradients(compiled)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 2  # fusion block, layer
    assert compiled_loss == pytest.approx(loss, rel=1e-5)
    assert compiled_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(compiled_gradients[name], gradient, atol=1e-4, rtol=1e-4)
    if not sharded:  # the parts are called one by one, of which only the blocks gather themselves
        prompt = ["What is in the video?"]
        visual = next(iter(tiny_loader(plain, 1)))["visual"]
        assert compiled.generate(visual, prompt) == plain.generate(visual, prompt)
