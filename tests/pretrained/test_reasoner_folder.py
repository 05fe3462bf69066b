import copy
import json
import subprocess
import sys

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from safetensors.torch import load_file
from tiny_shipped import write_tiny_reasoner
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from vidreason.microworld.parts import LANGUAGE_MODEL_FOLDER
from vidreason.model import DecodingConfig, Provenance, VideoReasoner, build_reasoner
from vidreason.perception.visual_tokens import collate_visual_tokens
from vidreason.pretrained import adapters
from vidreason.pretrained import folder as folder_module
from vidreason.pretrained.identity import reasoner_identity
from vidreason.pretrained.published import published_copy
from vidreason.reasoning.reasoner_config import FuturesConfig
from vidreason.reasoning.text_batch import collate_texts
from vidreason.reasoning.tokenization import encode_example

PROMPTS = ["Why?", "What happens after the ball hits the wall?", "Describe the video."]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
KINDS = ["llama", "llama tied", "qwen2 tied", "qwen3"]


@pytest.fixture
def visual(make_visual_tokens):
    return collate_visual_tokens(
        [make_visual_tokens(4, 3), make_visual_tokens(2, 0, 1), make_visual_tokens(0, 0, 2)]
    )


def log_likelihoods(reasoner, visual):
    row = encode_example(reasoner.tokenizer, "Why?", "It was pushed.", max_tokens=200)
    with torch.no_grad():
        actual = reasoner(visual, collate_texts([row] * 3))
    assert actual.shape == (3 * len("It was pushed.") + 3,)
    return actual


def texts(reasoner, visual):
    return reasoner.generate_ids(visual, PROMPTS, DecodingConfig(max_new_tokens=12))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_trained_form_comes_back_exactly(make_reasoner, visual, tmp_path, kind, dtype):
    reasoner = make_reasoner(kind, dtype)
    reasoner.save_pretrained(tmp_path / "reasoner")
    loaded = VideoReasoner.from_pretrained(tmp_path / "reasoner")
    assert loaded.config == reasoner.config
    assert loaded.perceiver == reasoner.perceiver
    assert not any(module.training for module in loaded.modules())
    expected, actual = reasoner.state_dict(), loaded.state_dict()
    assert expected.keys() == actual.keys()
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    assert all(expected[name].dtype == actual[name].dtype for name in expected)
    assert torch.equal(log_likelihoods(loaded, visual), log_likelihoods(reasoner, visual))
    assert texts(loaded, visual) == texts(reasoner, visual)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_merged_form_is_the_merged_model(make_reasoner, visual, tmp_path, kind, dtype):
    reasoner = make_reasoner(kind, dtype)
    before = {name: value.clone() for name, value in reasoner.state_dict().items()}
    reasoner.save_pretrained(tmp_path / "reasoner", "merged")
    assert all(torch.equal(value, before[name]) for name, value in reasoner.state_dict().items())
    loaded = VideoReasoner.from_pretrained(tmp_path / "reasoner")
    assert loaded.config.lora is None
    assert type(loaded.language_model) is type(reasoner.language_model.get_base_model())

    # What the file holds is exactly what peft's merge of the model in memory gives ...
    merged = copy.deepcopy(reasoner.language_model).merge_and_unload(safe_merge=True)
    expected, actual = merged.state_dict(), loaded.language_model.state_dict()
    assert expected.keys() == actual.keys()
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    in_memory = VideoReasoner(
        loaded.config, 24, reasoner.fusion, merged, reasoner.tokenizer, reasoner.perceiver
    ).eval()
    assert torch.equal(log_likelihoods(loaded, visual), log_likelihoods(in_memory, visual))
    assert texts(loaded, visual) == texts(in_memory, visual)
    # ... and differs from adapters beside the weights by rounding: on logits of up to 4.9, measured
    # 5e-6 in float32, and 0.18 in bfloat16, whose weights keep 8 bits of the sum.
    tolerance = {"float32": 2e-5, "bfloat16": 0.4}[dtype]
    with_adapters = log_likelihoods(reasoner, visual)
    torch.testing.assert_close(
        log_likelihoods(loaded, visual), with_adapters, atol=tolerance, rtol=0
    )
    if dtype == "float32":
        assert texts(loaded, visual) == texts(reasoner, visual)


@pytest.mark.parametrize("form", ["trained", "merged"])
def test_without_adapters_both_forms_are_exact(make_reasoner, visual, tmp_path, form):
    reasoner = make_reasoner("qwen2 tied", "bfloat16", lora=False)
    reasoner.save_pretrained(tmp_path / "reasoner", form)
    names = {path.name for path in (tmp_path / "reasoner" / "language_model").iterdir()}
    assert ("model.safetensors" in names) == (form == "merged")
    assert "adapter_config.json" not in names
    loaded = VideoReasoner.from_pretrained(tmp_path / "reasoner")
    assert torch.equal(log_likelihoods(loaded, visual), log_likelihoods(reasoner, visual))
    assert texts(loaded, visual) == texts(reasoner, visual)


# peft 0.21 itself asks for a property under the name it had before transformers 5.2x.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["llama", "qwen2 tied"])
def test_plain_peft_reads_the_adapters(make_reasoner, language_models, tmp_path, kind, dtype):
    reasoner = make_reasoner(kind, dtype)
    reasoner.save_pretrained(tmp_path / "reasoner")
    folder = tmp_path / "reasoner" / "language_model"
    base = AutoModelForCausalLM.from_pretrained(language_models[kind], dtype=DTYPES[dtype])
    ids = torch.arange(40)[None]
    with torch.no_grad():
        expected = reasoner.language_model(input_ids=ids).logits
        assert not torch.equal(base(input_ids=ids).logits, expected)
        plain = PeftModel.from_pretrained(base, folder)
        assert torch.equal(plain(input_ids=ids).logits, expected)
        loaded_alone = AutoPeftModelForCausalLM.from_pretrained(folder, dtype=DTYPES[dtype])
        # Qwen's tokenizer class has a token more than the tiny model; peft makes room for it.
        actual = loaded_alone(input_ids=ids).logits[..., : expected.shape[-1]]
        assert torch.equal(actual, expected)
    assert AutoTokenizer.from_pretrained(folder)("Why?").input_ids


@pytest.mark.slow  # a process that imports torch
def test_adapters_over_a_model_of_the_package_are_read_without_the_package(tmp_path):
    folder = tmp_path / "reasoner"
    write_tiny_reasoner(folder)
    reasoner = VideoReasoner.from_pretrained(folder)
    card = (folder / "README.md").read_text().replace("THIS_FOLDER", str(folder))
    (tmp_path / "card.py").write_text(card.partition("```python\n")[2].partition("```")[0])
    script = """
import runpy, sys, torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM
folder = sys.argv[1] + "/reasoner/language_model"
plain = [kind.from_pretrained(folder, dtype=torch.float32)
         for kind in (AutoPeftModelForCausalLM, AutoModelForCausalLM)]
assert "vidreason" not in sys.modules
plain.append(runpy.run_path(sys.argv[1] + "/card.py")["language_model"])
ids = torch.arange(40)[None]
torch.save([model(input_ids=ids).logits.detach() for model in plain], sys.argv[1] + "/logits.pt")
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    with torch.no_grad():
        expected = reasoner.language_model(input_ids=torch.arange(40)[None]).logits
    for logits in torch.load(tmp_path / "logits.pt"):
        torch.testing.assert_close(logits, expected)


def test_a_base_is_named_with_its_revision_and_by_its_path_outside_of_the_package(tmp_path):
    folder = tmp_path / "reasoner"
    write_tiny_reasoner(folder)
    file = folder / "language_model" / "adapter_config.json"
    assert json.loads(file.read_text())["base_model_name_or_path"] == str(LANGUAGE_MODEL_FOLDER)
    with published_copy(folder) as copy:
        values = json.loads((copy / "language_model" / "adapter_config.json").read_text())
    assert values["base_model_name_or_path"] == "vidreason:microworld/parts/language_model"
    model = VideoReasoner.from_pretrained(folder).language_model
    adapters.save_adapters(model, tmp_path, "org/name", "v2")
    values = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (values["base_model_name_or_path"], values["revision"]) == ("org/name", "v2")


def test_the_merged_language_model_is_plain(make_reasoner, tmp_path):
    reasoner = make_reasoner()
    reasoner.save_pretrained(tmp_path / "reasoner", "merged")
    folder = tmp_path / "reasoner" / "language_model"
    model, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    assert type(model) is type(reasoner.language_model.get_base_model())
    assert model.generation_config.do_sample is False
    assert model.generation_config.eos_token_id == reasoner.stop_ids


def test_a_merged_reasoner_can_be_saved_over_itself_and_elsewhere(make_reasoner, visual, tmp_path):
    make_reasoner().save_pretrained(tmp_path / "reasoner", "merged")
    loaded = VideoReasoner.from_pretrained(tmp_path / "reasoner")
    expected = texts(loaded, visual)
    loaded.save_pretrained(tmp_path / "reasoner", "merged")
    # Its language model is now a frozen part of another folder.
    loaded.save_pretrained(tmp_path / "other", "trained")
    for name in ("reasoner", "other"):
        again = VideoReasoner.from_pretrained(tmp_path / name)
        assert texts(again, visual) == expected
    with pytest.raises(ValueError, match="holds the language model itself"):
        loaded.save_pretrained(tmp_path / "reasoner", "trained")


def test_own_weights_that_trained_are_merged_and_not_forgotten(make_reasoner, visual, tmp_path):
    reasoner = make_reasoner("llama")
    mlp_weight = reasoner.get_parameter(
        "language_model.base_model.model.model.layers.0.mlp.up_proj.base_layer.weight"
    )
    norm = reasoner.get_parameter("language_model.base_model.model.model.norm.weight")
    with torch.no_grad():
        for parameter in (mlp_weight, norm):
            parameter.requires_grad_().mul_(1.5)
    with pytest.raises(ValueError, match=r"2 of the language model's own weights were trained"):
        reasoner.save_pretrained(tmp_path / "reasoner")
    assert not (tmp_path / "reasoner").exists()
    reasoner.save_pretrained(tmp_path / "reasoner", "merged")
    loaded = VideoReasoner.from_pretrained(tmp_path / "reasoner")
    torch.testing.assert_close(
        log_likelihoods(loaded, visual), log_likelihoods(reasoner, visual), atol=1e-4, rtol=0
    )
    assert torch.equal(loaded.get_parameter("language_model.model.norm.weight"), norm)


def test_how_it_answers_is_saved_with_it(make_reasoner, visual, tmp_path):
    reasoner = make_reasoner()
    reasoner.save_pretrained(tmp_path / "greedy")
    file = tmp_path / "greedy" / "generation_config.json"
    fields = GenerationConfig.from_pretrained(tmp_path / "greedy")
    assert (fields.do_sample, fields.num_beams, fields.max_new_tokens) == (False, 1, 256)
    assert fields.eos_token_id == reasoner.stop_ids
    loaded = VideoReasoner.from_pretrained(tmp_path / "greedy")
    assert loaded.decoding == DecodingConfig()
    for decoding in (
        DecodingConfig(strategy="nucleus", temperature=0.5, top_p=0.8, max_new_tokens=9),
        DecodingConfig(strategy="beam", num_beams=3, length_penalty=0.5, max_new_tokens=9),
        DecodingConfig(
            max_new_tokens=9,
            futures=FuturesConfig(method="nucleus", num_candidates=3, temperature=1.7),
        ),
    ):
        loaded.decoding = decoding
        loaded.save_pretrained(tmp_path / "other", provenance=Provenance(step=7))
        again = VideoReasoner.from_pretrained(tmp_path / "other")
        assert again.decoding == decoding
        assert again.generate_ids(visual, PROMPTS) == loaded.generate_ids(visual, PROMPTS, decoding)
        # How it decodes, and how long it was trained, is no part of what it is.
        assert reasoner_identity(tmp_path / "other") == reasoner_identity(tmp_path / "greedy")
    file.write_text(json.dumps({"repetition_penalty": 2.0}))
    with pytest.raises(ValueError, match=r"generation_config\.json: repetition_penalty has no"):
        VideoReasoner.from_pretrained(tmp_path / "greedy")


def test_a_reasoner_without_its_perceiver_is_not_saved(make_reasoner, tmp_path):
    config = make_reasoner().config
    with pytest.raises(ValueError, match="build it with perceiver="):
        build_reasoner(config, visual_dim=24).save_pretrained(tmp_path / "reasoner")


def test_the_same_reasoner_gives_the_same_files(make_reasoner, tmp_path):
    for name in ("one", "two"):
        make_reasoner().save_pretrained(tmp_path / name)
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*")]
    assert len(files) == 9
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    targets = json.loads((tmp_path / "one/language_model/adapter_config.json").read_text())
    assert targets["target_modules"] == sorted(targets["target_modules"])


def test_whoever_reads_the_configuration_reads_the_weights(make_reasoner, tmp_path):
    make_reasoner().save_pretrained(tmp_path / "saved")
    files = [path for path in (tmp_path / "saved").rglob("*") if path.is_file()]
    assert len({path.stat().st_mode for path in files}) == 1


def test_what_else_is_there_is_not_replaced(make_reasoner, tmp_path):
    (tmp_path / "folder").mkdir()
    reasoner = make_reasoner()
    (tmp_path / "folder" / "thesis.txt").write_text("years of work")
    for name in ("folder", "folder/thesis.txt"):
        with pytest.raises(ValueError, match="is there and is no reasoner folder"):
            reasoner.save_pretrained(tmp_path / name)
    assert (tmp_path / "folder" / "thesis.txt").read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    reasoner.save_pretrained(tmp_path / "empty")


@pytest.mark.parametrize("step", ["in the midst of writing", "between the renames", "at the end"])
def test_a_killed_save_leaves_a_good_folder(make_reasoner, visual, tmp_path, monkeypatch, step):
    reasoner = make_reasoner()
    target = tmp_path / "reasoner"
    reasoner.save_pretrained(target)
    old = texts(reasoner, visual)
    with torch.no_grad():
        reasoner.fusion.queries.mul_(-1)
    new = texts(reasoner, visual)
    assert new != old

    class Killed(BaseException):
        pass

    with monkeypatch.context() as patch:
        if step == "in the midst of writing":
            patch.setattr(folder_module, "model_card", lambda *_, **__: kill())
        elif step == "between the renames":
            replace = folder_module.os.replace

            def stop_at_the_second(source, destination):
                if destination == target:
                    raise Killed
                replace(source, destination)

            patch.setattr(folder_module.os, "replace", stop_at_the_second)
        else:
            remove, calls = folder_module.shutil.rmtree, []

            def stop_at_the_last(path, **options):
                calls.append(path)
                if len(calls) == 3:
                    raise Killed
                remove(path, **options)

            patch.setattr(folder_module.shutil, "rmtree", stop_at_the_last)

        def kill():
            raise Killed

        with pytest.raises(Killed):
            reasoner.save_pretrained(target)
    actual = texts(VideoReasoner.from_pretrained(target), visual)
    assert actual == (new if step == "at the end" else old)
    reasoner.save_pretrained(target)
    assert texts(VideoReasoner.from_pretrained(target), visual) == new
    assert sorted(path.name for path in tmp_path.iterdir()) == ["reasoner", "weights"]


def test_adapters_are_float32_in_the_file(make_reasoner, tmp_path):
    make_reasoner("llama", "bfloat16").save_pretrained(tmp_path / "reasoner")
    state = load_file(tmp_path / "reasoner" / "language_model" / "adapter_model.safetensors")
    assert {value.dtype for value in state.values()} == {torch.float32}
    assert len(state) == 2 * 7 * 2  # layers, linear layers, A and B
