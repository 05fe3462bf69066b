import pytest
import torch
from tiny_training import EXPECTED_WARNINGS, tiny_fit, tiny_module, tiny_training_reasoner
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from callbacks.freeze_schedule import FreezeSchedule, Thaw
from callbacks.lora_merge import TOLERANCE, LoraMerge, probe, relative_difference
from vidreason.model import DecodingConfig, Provenance, VideoReasoner
from vidreason.perception.perceiver import PerceiverConfig
from vidreason.perception.visual_tokens import collate_visual_tokens
from vidreason.reasoning import language_model
from vidreason.reasoning.language_model import causal_lm

pytestmark = EXPECTED_WARNINGS


def test_the_merged_folder_gives_the_adapters_logits(
    tiny_language_model_folder, tmp_path, make_visual_tokens
):
    module = tiny_module(tiny_language_model_folder, learning_rate=0.02)
    reasoner = module.reasoner
    config = reasoner.perceiver = PerceiverConfig(objects_per_key_frame=3)
    merge = LoraMerge(tmp_path / "reasoner", Provenance(training_data=["nextqa (train)"]))
    tiny_fit(module, merge, max_steps=6)

    folder = tmp_path / "reasoner" / "language_model"
    merged, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert type(merged) is LlamaForCausalLM
    assert not any(report.values())
    reasoner.eval()
    ids = torch.arange(40)[None]
    with torch.no_grad():
        expected = reasoner.language_model(input_ids=ids).logits
        untrained = AutoModelForCausalLM.from_pretrained(tiny_language_model_folder)
        assert (untrained(input_ids=ids).logits - expected).abs().max() > 0.05
        # Measured 2e-6 on logits of size 5: the same products, rounded in another order.
        torch.testing.assert_close(merged(input_ids=ids).logits, expected, atol=2e-5, rtol=1e-5)

    loaded = VideoReasoner.from_pretrained(tmp_path / "reasoner")
    assert loaded.perceiver == config
    card = (tmp_path / "reasoner" / "README.md").read_text()
    assert "- data of this stage: nextqa (train)" in card
    assert "- checkpoint: step 6" in card
    visual = collate_visual_tokens([make_visual_tokens(4, 3)])
    decoding = DecodingConfig(max_new_tokens=10)
    expected_text = reasoner.generate_ids(visual, ["What is in the video?"], decoding)
    assert loaded.generate_ids(visual, ["What is in the video?"], decoding) == expected_text


@pytest.mark.slow
def test_training_can_be_saved_and_gone_on_with_after_merging(tiny_language_model_folder, tmp_path):
    def train(*, merge):
        module = tiny_module(tiny_language_model_folder)
        module.reasoner.perceiver = PerceiverConfig()
        callbacks = [LoraMerge(tmp_path / "reasoner")] if merge else []
        for epoch in (1, 2):
            path = tmp_path / "epoch1.ckpt" if epoch == 2 else None
            trainer = tiny_fit(module, *callbacks, resume=path, max_epochs=epoch)
            trainer.save_checkpoint(tmp_path / f"epoch{epoch}.ckpt")
        return torch.load(tmp_path / "epoch2.ckpt", weights_only=True)["state_dict"]

    with_merge, without = train(merge=True), train(merge=False)
    assert with_merge.keys() == without.keys()
    assert all(torch.equal(with_merge[name], without[name]) for name in without)


def test_stage_1_leaves_a_folder_without_the_unchanged_language_model(
    tiny_language_model_folder, tmp_path
):
    module = tiny_module(tiny_language_model_folder, "alignment")
    reasoner = module.reasoner
    reasoner.perceiver = PerceiverConfig()
    tiny_fit(module, LoraMerge(tmp_path / "reasoner"), max_steps=2)
    assert not list((tmp_path / "reasoner" / "language_model").glob("*.safetensors"))
    loaded = VideoReasoner.from_pretrained(tmp_path / "reasoner")
    expected = reasoner.state_dict()
    state = loaded.state_dict()
    assert expected.keys() == state.keys()
    assert all(torch.equal(expected[name], state[name]) for name in expected)


def test_a_thawed_language_model_is_written_whole(tiny_language_model_folder, tmp_path):
    module = tiny_module(tiny_language_model_folder, "alignment")
    reasoner = module.reasoner
    reasoner.perceiver = PerceiverConfig()
    thaw = FreezeSchedule([Thaw(part="language_model", from_step=1)])
    tiny_fit(module, thaw, LoraMerge(tmp_path / "reasoner"), max_steps=3)
    untrained = tiny_training_reasoner(tiny_language_model_folder).language_model.state_dict()
    loaded = VideoReasoner.from_pretrained(tmp_path / "reasoner").language_model.state_dict()
    for name, value in reasoner.language_model.state_dict().items():
        assert torch.equal(loaded[name], value), name
    assert any(not torch.equal(loaded[name], value) for name, value in untrained.items())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.slow
def test_what_merging_adds_to_likelihoods_is_rounding(
    tiny_language_model_folder, tmp_path, monkeypatch, dtype
):
    reasoner, folder = train_and_merge(tiny_language_model_folder, tmp_path, dtype)
    merge = LoraMerge(folder)
    with torch.no_grad():
        difference = relative_difference(probe(merge._read_back(reasoner)), probe(reasoner))
    assert 0 < difference < TOLERANCE[dtype]
    # The check tells a merged model from an unmerged one: what was learnt is far above rounding.
    monkeypatch.setattr(language_model, "set_peft_model_state_dict", lambda *arguments: None)
    with pytest.raises(
        ValueError, match=r"gives other likelihoods .* set aside as .*reasoner\.rejected"
    ):
        train_and_merge(tiny_language_model_folder, tmp_path, dtype)
    assert not folder.exists()
    assert (tmp_path / "reasoner.rejected" / "config.json").is_file()


def train_and_merge(language_model_folder, tmp_path, dtype):
    module = tiny_module(language_model_folder, learning_rate=0.05)
    reasoner = module.reasoner
    reasoner.perceiver = PerceiverConfig()
    reasoner.config.language_model.dtype = dtype
    causal_lm(reasoner.language_model).to(getattr(torch, dtype))
    for name, parameter in reasoner.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.float()
    tiny_fit(module, LoraMerge(tmp_path / "reasoner"), max_steps=6)
    return reasoner, tmp_path / "reasoner"
