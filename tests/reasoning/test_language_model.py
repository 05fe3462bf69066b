import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from vidreason.reasoning.language_model import (
    LanguageModelConfig,
    LoraSettings,
    add_lora,
    causal_lm,
    load_language_model,
    load_tokenizer,
    merge_lora,
    set_language_model_mode,
    word_embedding_size,
)

LINEAR_LAYERS = [
    f"model.layers.{layer}.{name}"
    for layer in range(2)
    for name in (
        *("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"),
        *("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
    )
]


def tiny_config(folder, **fields):
    return LanguageModelConfig(name_or_path=folder, dtype="float32", **fields)


def randomised_lora(folder, **fields):
    """Adapters that do something: a new one's second factor is zero."""
    torch.manual_seed(0)
    model = add_lora(
        load_language_model(tiny_config(folder)), LoraSettings(rank=4, alpha=8, **fields)
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return model


def test_it_is_loaded_frozen_and_in_eval_mode(tiny_language_model_folder):
    model = load_language_model(tiny_config(tiny_language_model_folder))
    assert isinstance(model, LlamaForCausalLM)
    assert not any(p.requires_grad for p in model.parameters())
    assert not any(m.training for m in model.modules())
    assert model.dtype == torch.float32
    bfloat16 = LanguageModelConfig(name_or_path=tiny_language_model_folder)
    assert load_language_model(bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["no-such-owner/no-such-model", "/nowhere/model", "empty"])
def test_a_missing_model_is_one_clear_error(name, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    if name == "empty":
        (tmp_path / "empty").mkdir()
        name = str(tmp_path / "empty")
    config = LanguageModelConfig(name_or_path=name)
    for load in (
        load_tokenizer,
        load_language_model,
        lambda c: load_language_model(c, device="meta"),
    ):
        with pytest.raises(ValueError, match=r"language_model\.name_or_path") as caught:
            load(config)
        assert name in str(caught.value)
        assert "hf auth login" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_missing_weights_are_not_made_up(tiny_language_model_folder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_language_model_folder, folder)
    weights = load_file(folder / "model.safetensors")
    lost = weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"missing_keys.*layers\.1\.mlp\.up_proj"):
        load_language_model(tiny_config(str(folder)))

    weights |= {"model.layers.1.mlp.up_proj.weight": lost, "model.extra.weight": lost.clone()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    load_language_model(tiny_config(str(folder)))
    with pytest.raises(ValueError, match=r"unexpected_keys.*extra"):
        load_language_model(tiny_config(str(folder)), strict=True)


def test_lora_sits_on_all_linear_layers_but_the_output(tiny_language_model_folder):
    model = add_lora(
        load_language_model(tiny_config(tiny_language_model_folder)), LoraSettings(rank=4, alpha=8)
    )
    trains = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trains == {
        f"base_model.model.{layer}.lora_{side}.default.weight"
        for layer in LINEAR_LAYERS
        for side in "AB"
    }


def test_adapters_of_a_bfloat16_model_are_float32(tiny_language_model_folder):
    config = LanguageModelConfig(name_or_path=tiny_language_model_folder)
    model = add_lora(load_language_model(config), LoraSettings(rank=4, alpha=8))
    dtypes = {p.dtype for p in model.parameters() if p.requires_grad}
    assert dtypes == {torch.float32}
    assert {p.dtype for p in model.parameters() if not p.requires_grad} == {torch.bfloat16}


def test_merging_gives_the_adapters_logits_and_changes_nothing(
    tiny_language_model_folder, tmp_path
):
    model = randomised_lora(tiny_language_model_folder).eval()
    ids = torch.arange(12)[None]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        plain = load_language_model(tiny_config(tiny_language_model_folder))
        assert (plain(input_ids=ids).logits - expected).abs().max() > 0.01
        merged = merge_lora(model, tiny_config(tiny_language_model_folder))
        merged_logits = merged(input_ids=ids).logits
    # Measured 5e-7 on logits of size 1: the same products, rounded in another order.
    torch.testing.assert_close(merged_logits, expected, atol=1e-5, rtol=1e-5)
    assert type(merged) is LlamaForCausalLM
    assert merged.state_dict().keys() == plain.state_dict().keys()
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)

    merged.save_pretrained(tmp_path)
    loaded, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=ids).logits, merged_logits)


def test_merging_without_adapters_gives_the_model_as_its_file_has_it(tiny_language_model_folder):
    model = load_language_model(tiny_config(tiny_language_model_folder))
    assert causal_lm(model) is model
    on_meta = load_language_model(tiny_config(tiny_language_model_folder), "meta")
    for given in (model, on_meta):
        merged = merge_lora(given, tiny_config(tiny_language_model_folder)).state_dict()
        assert all(torch.equal(value, merged[name]) for name, value in model.state_dict().items())


def test_only_adapters_go_into_training_mode(tiny_language_model_folder):
    model = randomised_lora(tiny_language_model_folder, dropout=0.5)
    set_language_model_mode(model, training=True)
    training = {name for name, module in model.named_modules() if module.training}
    assert training
    assert all("lora_" in name for name in training)
    dropouts = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Dropout)]
    assert set(dropouts) <= training
    set_language_model_mode(model, training=False)
    assert not any(module.training for module in model.modules())


def test_dropout_of_a_frozen_model_does_not_act():
    model = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=50))
    model.requires_grad_(False)
    set_language_model_mode(model, training=True)
    ids = torch.arange(10)[None]
    assert torch.equal(model(input_ids=ids).logits, model(input_ids=ids).logits)
    model.requires_grad_(True)
    set_language_model_mode(model, training=True)
    assert not torch.equal(model(input_ids=ids).logits, model(input_ids=ids).logits)


def test_the_size_of_word_embeddings_is_measured(tiny_language_model_folder):
    model = load_language_model(tiny_config(tiny_language_model_folder))
    dim, scale = word_embedding_size(model)
    assert dim == 32
    weight = model.get_input_embeddings().weight
    assert scale == pytest.approx(weight.square().mean().sqrt().item(), rel=1e-5)


@pytest.mark.slow
def test_the_papers_language_model_builds_on_the_meta_device():
    folder = Path(__file__).parents[1] / "assets" / "llama-3-8b-instruct"
    model = load_language_model(LanguageModelConfig(name_or_path=str(folder)), device="meta")
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert sum(p.numel() for p in model.parameters()) == 8_030_261_248
    assert word_embedding_size(model) == (4096, 0.02)
    adapted = add_lora(model, LoraSettings())
    # Rank 64 on q, k, v, o, gate, up, down of 32 layers.
    sides = 4096 + 4096, 4096 + 1024, 4096 + 1024, 4096 + 4096, *[4096 + 14336] * 3
    trains = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert trains == 32 * 64 * sum(sides)


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"rank": 0}, "lora.rank is 0"), ({"dropout": 1.0}, "lora.dropout is 1.0")],
)
def test_impossible_adapters_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        LoraSettings(**fields)
