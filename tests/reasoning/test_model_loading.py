"""Loading is frugal, runs nothing that is downloaded, and says at once what is not there."""

import json
import shutil
import socket

import pytest
import torch
from process_memory import linux_only, memory, peak_of
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from vidreason.reasoning.language_model import (
    LanguageModelConfig,
    LoraSettings,
    add_lora,
    load_language_model,
    load_tokenizer,
    merge_lora,
)


def write_llama(folder, *, dtype, **sizes):
    config = LlamaConfig(num_attention_heads=4, num_key_value_heads=2, **sizes)
    with torch.device("meta"):
        shapes = LlamaForCausalLM(config).state_dict()
    config.save_pretrained(folder)
    weights = {name: torch.ones(value.shape, dtype=dtype) for name, value in shapes.items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


@linux_only
@pytest.mark.parametrize(
    ("in_file", "private"),
    # Weights of the file's own dtype stay mapped; others are converted one by one.
    [(torch.bfloat16, 0.0), (torch.float32, 1.0)],
)
def test_loading_holds_the_weights_once(tmp_path, in_file, private):
    sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 6}
    folder = write_llama(tmp_path, dtype=in_file, vocab_size=4000, **sizes)
    config = LanguageModelConfig(name_or_path=str(folder), dtype="bfloat16")
    models = []
    private_bytes = []

    def load():
        before = memory("RssAnon")
        models.append(load_language_model(config))
        private_bytes.append(memory("RssAnon") - before)
        for parameter in models[0].parameters():
            parameter.view(-1)[::2048].sum()  # every page of the weights has been read now

    peak = peak_of(load)
    weights = sum(p.numel() * p.element_size() for p in models[0].parameters())
    assert weights > 190e6
    # What else a process takes or gives back meanwhile; a second copy would be all of the weights.
    others = 0.3 * weights
    assert abs(private_bytes[0] - private * weights) < others
    # The pages of the file count too, although the system may drop them at any time.
    file_bytes = weights * in_file.itemsize / 2
    assert file_bytes - others < peak < private * weights + file_bytes + others


def test_integers_are_no_weights_unless_the_folder_says_quantised(tmp_path):
    sizes = {"hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 1, "vocab_size": 8}
    folder = write_llama(tmp_path, dtype=torch.float32, **sizes)
    file, config = folder / "model.safetensors", LanguageModelConfig(name_or_path=str(folder))
    # Copies, as the file that they are mapped from is written over.
    weights = {key: tensor.clone() for key, tensor in load_file(file).items()}
    # Counts and masks of older versions are in many released files, and are not weights.
    others = {
        "model.layers.0.self_attn.bias": torch.ones(4, 4, dtype=torch.uint8),
        "model.embed_tokens.position_ids": torch.arange(8),
    }
    save_file(weights | others, file, {"format": "pt"})
    assert load_language_model(config).dtype == torch.bfloat16
    for key, dtype in (
        ("model.layers.0.mlp.up_proj.weight", torch.int8),
        ("model.embed_tokens.weight", torch.int64),
        ("model.norm.weight", torch.bool),
    ):
        save_file(weights | {key: weights[key].to(dtype)}, file, {"format": "pt"})
        with pytest.raises(ValueError, match=rf"^weights '.*': {key} holds numbers of type .*, wh"):
            load_language_model(config)
        assert load_language_model(config, "meta").device.type == "meta"
    # transformers knows what to do with these; it needs packages for most of them.
    settings = json.loads((folder / "config.json").read_text())
    quantised = settings | {"quantization_config": {"quant_method": "gptq", "bits": 4}}
    (folder / "config.json").write_text(json.dumps(quantised))
    with pytest.raises(ValueError, match=r"could not be loaded|do not fit"):
        load_language_model(config)


def test_code_in_a_folder_does_not_run(tiny_language_model_folder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_language_model_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "their_own",
        "auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    for device in ("cpu", "meta"):
        with pytest.raises(ValueError, match="code of its own, which is not run"):
            load_language_model(LanguageModelConfig(name_or_path=str(folder)), device)
    assert not (tmp_path / "ran").exists()


def test_offline_the_network_is_left_alone(monkeypatch):
    def refuse(*_args, **_options):
        pytest.fail("looked for a host")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    config = LanguageModelConfig(name_or_path="no-such-owner/no-such-model", revision="abc123")
    for load in (load_tokenizer, load_language_model, lambda c: load_language_model(c, "meta")):
        with pytest.raises(ValueError, match="no folder here and could not be loaded"):
            load(config)


def test_the_revision_reaches_the_hub(monkeypatch):
    requested = []

    def hub_file(repository, filename, **options):
        requested.append((repository, options["revision"]))
        raise OSError("not cached")

    for module in ("transformers.utils.hub", "transformers.configuration_utils"):
        monkeypatch.setattr(f"{module}.cached_file", hub_file)
    config = LanguageModelConfig(name_or_path="owner/model", revision="abc123")
    with pytest.raises(ValueError, match="could not be loaded"):
        load_language_model(config, "meta")
    assert set(requested) == {("owner/model", "abc123")}


def test_a_local_folder_has_no_revision(tiny_language_model_folder):
    config = LanguageModelConfig(name_or_path=tiny_language_model_folder, revision="abc123")
    for load in (load_tokenizer, load_language_model):
        with pytest.raises(ValueError, match=r"language_model\.revision is 'abc123'.*leave it out"):
            load(config)


def test_4_bits_without_the_package_name_the_extra(tiny_language_model_folder, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    config = LanguageModelConfig(name_or_path=tiny_language_model_folder, quantization="nf4")
    with pytest.raises(ValueError, match=r"pip install 'vidreason\[quantize\]'"):
        load_language_model(config)
    assert load_language_model(config, "meta").device.type == "meta"


def test_4_bits_do_not_go_with_float32():
    with pytest.raises(ValueError, match=r"language_model\.quantization is 'nf4'"):
        LanguageModelConfig(quantization="nf4", dtype="float32")


# bitsandbytes on a machine without CUDA: what triton finds, and an optional faster kernel.
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_adapters_train_on_4_bits_and_merge_into_the_unquantised_weights(tmp_path):
    pytest.importorskip("bitsandbytes", reason="needs the extra 'quantize'")
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 50}
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(num_attention_heads=4, num_key_value_heads=2, initializer_range=0.2, **sizes)
    ).save_pretrained(tmp_path)
    config = LanguageModelConfig(name_or_path=str(tmp_path), quantization="nf4")
    model = add_lora(load_language_model(config), LoraSettings(rank=4, alpha=8))
    linear = model.get_base_model().model.layers[0].mlp.up_proj.base_layer
    assert linear.weight.dtype == torch.uint8
    assert linear.weight.numel() == 64 * 128 // 2
    assert model.get_base_model().lm_head.weight.dtype == torch.bfloat16

    trains = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert {name.split(".")[-3] for name in trains} == {"lora_A", "lora_B"}
    assert {p.dtype for p in trains.values()} == {torch.float32}
    ids = torch.arange(12)[None]
    optimizer = torch.optim.SGD(trains.values(), lr=1.0)
    before = {name: p.detach().clone() for name, p in trains.items()}
    for _ in range(2):  # the first factor gets no gradient while the second is still 0
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    assert not any(torch.equal(p, before[name]) for name, p in trains.items())

    merged = merge_lora(model, config)
    plain = LanguageModelConfig(name_or_path=str(tmp_path))
    expected = add_lora(load_language_model(plain), LoraSettings(rank=4, alpha=8))
    expected.load_state_dict({name: p.detach() for name, p in trains.items()}, strict=False)
    with torch.no_grad():
        # bfloat16 keeps 8 bits: the sum of weight and product is rounded, layer after layer.
        torch.testing.assert_close(
            merged(input_ids=ids).logits, expected(input_ids=ids).logits, atol=0.1, rtol=0.05
        )
    assert merged.state_dict().keys() == load_language_model(plain).state_dict().keys()
    assert {p.dtype for p in merged.parameters()} == {torch.bfloat16}
    assert linear.weight.dtype == torch.uint8  # the model in training is as it was
