"""Rows that are joined to one sequence give what each gives alone: values and gradients."""

import random
from types import SimpleNamespace

import pytest
import torch
from transformers import (
    BloomConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    Llama4TextConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    MptConfig,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

from tests.reasoning.tiny_models import SIZES, random_reasoner
from vidreason.perception.visual_tokens import collate_visual_tokens
from vidreason.reasoning import output_layer
from vidreason.reasoning.joined_rows import JoinedRows
from vidreason.reasoning.language_model import causal_lm
from vidreason.reasoning.packed_attention import packs_rows, row_groups
from vidreason.reasoning.text_batch import collate_texts
from vidreason.reasoning.tokenization import IGNORE_INDEX, EncodedText
from vidreason.training import stage
from vidreason.training.optimizer import OptimizerConfig
from vidreason.training.rehearsal import Rehearsal

TOLD = {
    "llama": (LlamaConfig, SIZES),
    "qwen2": (Qwen2Config, SIZES),
    "qwen3": (Qwen3Config, SIZES | {"head_dim": 8}),
    "mistral, window of 5": (MistralConfig, SIZES | {"sliding_window": 5}),
    "gemma3, window of 5": (Gemma3TextConfig, SIZES | {"head_dim": 8, "sliding_window": 5}),
    "qwen2, a layer with a window of 5": (
        Qwen2Config,
        SIZES | {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    ),
    "gpt2": (GPT2Config, {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}),
    "experts": (
        Qwen3MoeConfig,
        SIZES
        | {
            "head_dim": 8,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
        },
    ),
}
PADDED = {
    "caps its attention": (Gemma2Config, SIZES | {"head_dim": 8, "final_logit_softcapping": 5.0}),
    "looks at chunks": (
        Llama4TextConfig,
        SIZES
        | {
            "head_dim": 8,
            "attention_chunk_size": 5,
            "intermediate_size_mlp": 64,
            "num_local_experts": 2,
            "num_experts_per_tok": 1,
        },
    ),
    "biases of positions": (BloomConfig, {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "other biases": (MptConfig, {"d_model": 32, "n_layers": 2, "n_heads": 4}),
    "state space": (MambaConfig, {"hidden_size": 32, "num_hidden_layers": 2}),
}
LENGTHS = (1, 300, 2, 17, 40, 3)


@pytest.fixture
def make(tmp_path, tiny_tokenizer):
    def make(kind, **options):
        kinds = TOLD | PADDED
        return random_reasoner(tmp_path, tiny_tokenizer, kinds[kind], **options)

    return make


def rows_of(lengths=LENGTHS):
    """Rows whose second half are targets; the third has none."""
    generator = torch.Generator().manual_seed(5)
    rows = []
    for number, length in enumerate(lengths):
        ids = torch.randint(0, 256, (length,), generator=generator).tolist()
        half = length if number == 2 else length // 2
        rows.append(EncodedText(ids, [IGNORE_INDEX] * half + ids[half:]))
    return rows


@pytest.fixture
def videos(make_visual_tokens):
    return [make_visual_tokens(2, number % 3, number) for number in range(len(LENGTHS))]


def values_and_gradients(reasoner, videos, rows, *, at_once):
    """Compute those of all rows, in one batch or in batches of one."""
    reasoner.zero_grad()
    batches = [range(len(rows))] if at_once else [[row] for row in range(len(rows))]
    values = []
    for batch in batches:
        visual = collate_visual_tokens([videos[row] for row in batch])
        result = reasoner(visual, collate_texts([rows[row] for row in batch]))
        (-result.sum() / 100).backward()
        values.append(result.detach())
    gradients = {n: p.grad.clone() for n, p in reasoner.named_parameters() if p.grad is not None}
    return torch.cat(values), gradients


def assert_equal(first, second):
    torch.testing.assert_close(first[0], second[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(first[0].mean(), second[0].mean(), atol=1e-6, rtol=1e-6)
    assert first[1].keys() == second[1].keys()
    for name, gradient in first[1].items():
        torch.testing.assert_close(gradient, second[1][name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("lora", [False, True], ids=["frozen", "lora"])
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_values_and_gradients_are_those_of_each_row_alone(make, videos, kind, lora):
    reasoner = make(kind, lora=lora)
    assert packs_rows(causal_lm(reasoner.language_model))
    rows = rows_of()
    joined = values_and_gradients(reasoner, videos, rows, at_once=True)
    assert any("lora" in name for name in joined[1]) == lora
    assert_equal(joined, values_and_gradients(reasoner, videos, rows, at_once=False))
    # A mask of zeros or a row that saw another would be as smooth: the values are of some size.
    assert joined[0].std() > 0.1


@pytest.mark.parametrize("kind", [*TOLD, *PADDED])
def test_rows_do_not_see_each_other_in_any_model(make, videos, kind):
    reasoner = make(kind)
    assert packs_rows(causal_lm(reasoner.language_model)) == (kind in TOLD)
    rows = rows_of((7, 30, 2, 12, 1, 3))
    with torch.no_grad():
        joined = reasoner(collate_visual_tokens(videos), collate_texts(rows))
        alone = [
            reasoner(collate_visual_tokens([video]), collate_texts([row]))
            for video, row in zip(videos, rows, strict=True)
        ]
    torch.testing.assert_close(joined, torch.cat(alone), atol=2e-5, rtol=1e-5)


MANY = (*random.Random(0).sample(range(1, 61), 20), 290, 2, 2)


@pytest.mark.parametrize("kind", ["llama", "mistral, window of 5"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_many_rows_are_padded_in_groups_and_give_what_each_gives_alone(
    make, make_visual_tokens, kind, dtype
):
    reasoner = make(kind)
    rows = rows_of(MANY)
    videos = [make_visual_tokens(2, number % 3, number) for number in range(len(MANY))]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype != torch.float32):
        joined = values_and_gradients(reasoner, videos, rows, at_once=True)
        alone = values_and_gradients(reasoner, videos, rows, at_once=False)
    if dtype == torch.float32:
        assert_equal(joined, alone)
    else:
        torch.testing.assert_close(joined[0], alone[0], atol=0.1, rtol=0.02)


def test_groups_hold_every_position_once_and_little_padding():
    lengths = torch.tensor(MANY)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    positions = torch.cat([torch.arange(length) for length in MANY])
    rows_of_positions = torch.repeat_interleave(torch.arange(len(MANY)), lengths)
    longest = max(MANY)
    rows = JoinedRows(
        embeddings=torch.zeros(len(positions), 4),
        positions=positions,
        offsets=offsets.int(),
        padded=rows_of_positions * longest + positions,
        longest=longest,
    )
    groups, order = row_groups(rows)
    joined = torch.cat([group.positions for group in groups])
    assert torch.equal(joined[order], torch.arange(len(positions)))
    assert sum(group.num_rows for group in groups) == len(MANY)
    for group in groups:
        # Rows of a group stand one after the other, each from its first position on.
        row, column = group.padded // group.longest, group.padded % group.longest
        assert row.unique().tolist() == list(range(group.num_rows))
        assert torch.equal(column, positions[group.positions])
        for number in range(group.num_rows):
            assert len(set(rows_of_positions[group.positions[row == number]].tolist())) == 1
        assert int(column.max()) + 1 == group.longest
    computed = sum(group.num_rows * group.longest**2 for group in groups)
    assert computed < 0.25 * len(MANY) * longest**2
    assert len(groups) == 8


def test_rows_without_contents_are_one_group_as_on_a_gpu():
    with Rehearsal():
        rows = JoinedRows(
            embeddings=torch.zeros(60, 4),
            positions=torch.zeros(60, dtype=torch.int64),
            offsets=torch.zeros(21, dtype=torch.int32),
            padded=torch.zeros(60, dtype=torch.int64),
            longest=7,
        )
        (group,), order = row_groups(rows)
    assert order is None
    assert (group.num_rows, group.longest, group.in_float32) == (20, 7, False)


def test_padding_is_what_is_computed_only_where_rows_cannot_be_joined(make):
    text = collate_texts(rows_of((10, 2, 5)))
    num_positions = 3 * 4 + 9 + 1 + 4
    assert make("llama").num_positions(text) == (num_positions, num_positions)
    assert make("biases of positions").num_positions(text) == (num_positions, 3 * (4 + 9))


@pytest.mark.parametrize("options", [{"attention": "eager"}, {"gradient_checkpointing": True}])
def test_other_ways_to_hold_the_model_give_the_same(make, videos, options):
    rows = rows_of((7, 30, 2, 12, 1, 3))
    expected = values_and_gradients(make("llama").train(), videos, rows, at_once=True)
    result = values_and_gradients(make("llama", **options).train(), videos, rows, at_once=True)
    assert_equal(result, expected)


def test_logits_are_never_whole(make, videos, monkeypatch):
    reasoner, rows = make("llama"), rows_of()
    expected = values_and_gradients(reasoner, videos, rows, at_once=True)
    monkeypatch.setattr(output_layer, "MAX_LOGIT_BYTES", 50 * 4 * 400 + 7)  # of 50 targets
    sizes = []
    layer = causal_lm(reasoner.language_model).get_output_embeddings()
    layer.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[-2]))
    assert_equal(values_and_gradients(reasoner, videos, rows, at_once=True), expected)
    num_targets = len(expected[0])
    assert num_targets > 150
    assert max(sizes) == 50
    assert sum(sizes) == 2 * num_targets  # once more in the backward pass
    sizes.clear()
    with torch.no_grad():
        result = reasoner(collate_visual_tokens(videos), collate_texts(rows))
    torch.testing.assert_close(result, expected[0], atol=1e-6, rtol=1e-6)
    assert sum(sizes) == num_targets


def test_a_model_that_does_not_call_its_decoder_is_refused(make, videos, monkeypatch):
    reasoner = make("llama")
    model = causal_lm(reasoner.language_model)
    result = SimpleNamespace(logits=torch.zeros(1, 1, 400))
    monkeypatch.setattr(type(model), "forward", lambda self, **arguments: result)
    with pytest.raises(ValueError, match="does not call its 'model'"):
        reasoner(collate_visual_tokens(videos), collate_texts(rows_of()))


@pytest.mark.parametrize(
    ("kind", "options", "reason"),
    [
        ("llama", {}, ""),
        ("llama", {"attention": "eager"}, "its attention is eager"),
        ("biases of positions", {}, "its attention is eager"),
        ("looks at chunks", {}, "it has layers without attention, or with a window in their mask"),
    ],
)
def test_a_run_warns_that_its_batches_are_padded_and_says_why(
    make, monkeypatch, kind, options, reason
):
    warnings = []
    monkeypatch.setattr(stage, "rank_zero_warn", warnings.append)
    optimizer = OptimizerConfig(warmup_steps=1)
    stage.StageModule(make(kind, **options), optimizer, 8, stage="alignment").on_fit_start()
    assert len(warnings) == bool(reason)
    assert all(f"cannot be told where rows begin: {reason}" in text for text in warnings)
