import pytest
import torch

from vidreason.fusion.fusion_core import FusionConfig
from vidreason.model import ReasonerConfig, build_reasoner
from vidreason.reasoning.language_model import LanguageModelConfig, LoraSettings
from vidreason.training.optimizer import undecayed_names
from vidreason.training.trainable import part_names, set_trainable, trainable_names, trained_parts

FUSION_WEIGHTS = {
    "visual_projection.1.weight",
    "token_positions.kind.weight",
    "token_positions.time.weight",
    "token_positions.box.weight",
    "token_positions.shape.weight",
    "token_positions.motion.weight",
    *(
        f"blocks.0.{side}_attention.{name}.weight"
        for side in ("self", "cross")
        for name in ("query", "key", "value", "output")
    ),
    "blocks.0.mlp.0.weight",
    "blocks.0.mlp.2.weight",
    "output_projection.weight",
}
FUSION_NORMS_AND_BIASES = {
    "visual_projection.0.weight",
    "visual_projection.0.bias",
    "visual_projection.1.bias",
    "token_positions.time.bias",
    "token_positions.box.bias",
    "token_positions.shape.bias",
    "token_positions.motion.bias",
    "visual_norm.weight",
    "visual_norm.bias",
    *(
        f"blocks.0.{side}_attention.{name}.bias"
        for side in ("self", "cross")
        for name in ("query", "key", "value", "output")
    ),
    *(
        f"blocks.0.{name}_norm.{kind}"
        for name in ("self_attention", "cross_attention", "mlp")
        for kind in ("weight", "bias")
    ),
    "blocks.0.mlp.0.bias",
    "blocks.0.mlp.2.bias",
    "output_norm.weight",
    "output_norm.bias",
    "output_projection.bias",
}
FUSION = {f"fusion.{name}" for name in FUSION_WEIGHTS | FUSION_NORMS_AND_BIASES | {"queries"}}
LORA = {
    f"language_model.base_model.model.model.layers.{layer}.{name}.lora_{side}.default.weight"
    for layer in range(2)
    for name in (
        *("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"),
        *("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
    )
    for side in "AB"
}


@pytest.fixture
def reasoner(tiny_language_model_folder):
    config = ReasonerConfig(
        fusion=FusionConfig(num_queries=4, width=32, num_layers=1, num_heads=4),
        language_model=LanguageModelConfig(name_or_path=tiny_language_model_folder),
        lora=LoraSettings(rank=4, alpha=8, dropout=0.1),
    )
    return build_reasoner(config, visual_dim=24)


def test_the_exact_parameters_of_each_stage(reasoner):
    assert trainable_names(reasoner, "alignment") == FUSION
    assert trainable_names(reasoner, "instruction") == FUSION | LORA
    every = {name for name, _ in reasoner.named_parameters()}
    assert part_names(reasoner, "language_model") == every - FUSION - LORA


def test_exactly_the_named_parameters_require_gradients(reasoner):
    for names in (FUSION, FUSION | LORA, LORA):
        set_trainable(reasoner, names)
        assert {n for n, p in reasoner.named_parameters() if p.requires_grad} == names


def test_stage_2_without_adapters_is_refused(tiny_reasoner):
    assert trainable_names(tiny_reasoner, "alignment")
    with pytest.raises(ValueError, match="no LoRA adapters"):
        trainable_names(tiny_reasoner, "instruction")
    with pytest.raises(ValueError, match=r"set reasoner\.lora .*part: language_model"):
        trained_parts("instruction", ["language_model", "lora"], has_adapters=False)


def test_full_fine_tuning_needs_no_adapters_and_trains_those_that_are_there(
    reasoner, tiny_reasoner
):
    every = {name for name, _ in tiny_reasoner.named_parameters()}
    assert trainable_names(tiny_reasoner, "instruction", ["language_model"]) == every
    assert trainable_names(tiny_reasoner, "alignment", ["language_model"]) == every
    every = {name for name, _ in reasoner.named_parameters()}
    assert trainable_names(reasoner, "instruction", ["language_model"]) == every
    assert trainable_names(reasoner, "alignment", ["language_model"]) == every - LORA


def test_weight_decay_spares_exactly_norms_biases_and_queries(reasoner):
    spared = undecayed_names(reasoner) & (FUSION | LORA)
    assert spared == {f"fusion.{name}" for name in FUSION_NORMS_AND_BIASES | {"queries"}}


def test_trained_parameters_are_float32_before_a_bfloat16_language_model(reasoner):
    set_trainable(reasoner, FUSION | LORA)
    assert {p.dtype for p in reasoner.parameters() if p.requires_grad} == {torch.float32}
