"""Building a model refuses adapters that a merge would refuse at the end."""

import json
import shutil

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from vidreason.fusion.fusion_core import FusionConfig
from vidreason.model import build_reasoner
from vidreason.reasoning.language_model import (
    LanguageModelConfig,
    LoraSettings,
    add_lora,
    load_language_model,
)
from vidreason.reasoning.reasoner_config import ReasonerConfig


def built(folder, device="meta", target_modules="all-linear", **fields):
    return build_reasoner(
        ReasonerConfig(
            fusion=FusionConfig(num_queries=4, width=32, num_layers=1, num_heads=4),
            language_model=LanguageModelConfig(name_or_path=str(folder), dtype="float32"),
            lora=LoraSettings(rank=4, alpha=8, target_modules=target_modules),
            **fields,
        ),
        visual_dim=24,
        device=device,
    )


@pytest.fixture(scope="module")
def tied_folder(tiny_tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tied")
    config = LlamaConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize("name", ["lm_head", "embed_tokens"])
def test_adapters_on_tied_weights_are_refused(tied_folder, device, name):
    message = rf"lora\.target_modules takes in (model\.)?{name}, .* tied: they are .* and "
    with pytest.raises(ValueError, match=message):
        built(tied_folder, device, rf".*({name}|q_proj)")
    built(tied_folder, device)
    built(tied_folder, device, r".*q_proj")


def test_adapters_on_an_output_layer_of_its_own_are_fine(tiny_language_model_folder):
    built(tiny_language_model_folder, target_modules=".*(lm_head|embed_tokens)")


def test_a_folder_of_adapters_is_no_language_model(tiny_language_model_folder, tmp_path):
    folder = tmp_path / "adapters"
    model = load_language_model(LanguageModelConfig(name_or_path=tiny_language_model_folder))
    add_lora(model, LoraSettings(rank=4, alpha=8)).save_pretrained(folder)
    for config_of_the_base in (False, True):
        if config_of_the_base:
            shutil.copy(f"{tiny_language_model_folder}/config.json", folder)
            shutil.copy(f"{tiny_language_model_folder}/model.safetensors", folder)
        for device in ("meta", "cpu"):
            with pytest.raises(ValueError, match=r"holds adapters .* merge them into their base"):
                load_language_model(LanguageModelConfig(name_or_path=str(folder)), device)


def test_adapters_on_files_of_quantised_weights_are_refused(tiny_language_model_folder, tmp_path):
    folder = tmp_path / "quantised"
    shutil.copytree(tiny_language_model_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"quantised by gptq.*language_model\.quantization=nf4"):
        built(folder)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(
    tiny_language_model_folder, tiny_tokenizer, tmp_path
):
    folder = tmp_path / "enlarged"
    shutil.copytree(tiny_language_model_folder, folder)
    tokenizer = type(tiny_tokenizer).from_pretrained(folder)
    tokenizer.add_special_tokens({"eos_token": "<|new_end|>"})
    tokenizer.save_pretrained(folder)
    known = len(tiny_tokenizer)
    message = rf"'<\|new_end\|>' as token {known}, .* for {known} tokens"
    with pytest.raises(ValueError, match=message):
        built(folder, "cpu")


def test_a_chat_template_without_a_system_role_is_refused_when_it_has_one_to_write(
    tiny_language_model_folder, tmp_path
):
    folder = tmp_path / "no-system"
    shutil.copytree(tiny_language_model_folder, folder)
    template = (folder / "chat_template.jinja").read_text()
    refusing = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no such role') }}{% endif %}"
    )
    (folder / "chat_template.jinja").write_text(refusing + template)
    built(folder, "cpu")
    with pytest.raises(ValueError, match=r"reasoner\.system_prompt is given.*no such role"):
        built(folder, "cpu", system_prompt="Be brief.")
    with torch.no_grad():
        reasoner = built(tiny_language_model_folder, "cpu", system_prompt="Be brief.")
    prompt = reasoner.tokenizer.decode(reasoner.encode_prompt("Why?"))
    assert prompt == (
        "<|begin|><|system|>\nBe brief.<|end_of_turn|><|user|>\nWhy?<|end_of_turn|><|assistant|>\n"
    )
    example = reasoner.encode_example("Why?", "So.", 200)
    assert reasoner.tokenizer.decode(example.input_ids) == f"{prompt}So.<|end_of_turn|>"
