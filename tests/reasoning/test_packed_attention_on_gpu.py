"""The variable-length kernel in 16 bits gives what attention row by row in float32 gives.

Not run on a GPU so far: none was at hand. On the CPU the same tests hold the padded way.
"""

import pytest
import torch
from gpu_twins import DEVICES
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import LlamaConfig, LlamaForCausalLM

from vidreason.fusion.fusion_core import FusionConfig
from vidreason.model import ReasonerConfig, build_reasoner
from vidreason.perception.visual_tokens import collate_visual_tokens
from vidreason.reasoning import packed_attention
from vidreason.reasoning.joined_rows import JoinedRows
from vidreason.reasoning.language_model import LanguageModelConfig, LoraSettings
from vidreason.reasoning.packed_attention import row_arguments
from vidreason.reasoning.text_batch import collate_texts, move_texts
from vidreason.reasoning.tokenization import IGNORE_INDEX, EncodedText

LENGTHS = (1, 300, 2, 17, 40, 3)
HEADS, KEY_HEADS = 8, 2


class Layer(nn.Module):
    """The attributes of a layer that transformers' attention reads."""

    is_causal = True
    num_key_value_groups = HEADS // KEY_HEADS


@pytest.fixture
def kernel_calls(monkeypatch):
    """One entry for each call of the variable-length kernel."""
    calls = []
    attend = packed_attention._attend_varlen

    def noted(*arguments):
        calls.append(len(arguments))
        return attend(*arguments)

    monkeypatch.setattr(packed_attention, "_attend_varlen", noted)
    return calls


def states(head_width):
    """Queries, keys, values and the output's gradient, in float32, of rounded values."""
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(1, heads, sum(LENGTHS), head_width, generator=generator).bfloat16().float()
        for heads in (HEADS, KEY_HEADS, KEY_HEADS, HEADS)
    ]


def row_by_row(query, key, value, window):
    """Shape ``(1, L, H, D)``; each row by itself."""
    key, value = (one.repeat_interleave(HEADS // KEY_HEADS, dim=1) for one in (key, value))
    outputs = []
    for rows in zip(*(one.split(LENGTHS, dim=2) for one in (query, key, value)), strict=True):
        positions = torch.arange(rows[0].shape[2])
        ahead = positions[:, None] - positions
        mask = (ahead >= 0) & (ahead < (window or len(positions)))
        outputs.append(scaled_dot_product_attention(*rows, attn_mask=mask))
    return torch.cat(outputs, dim=2).transpose(1, 2)


def joined_rows(device):
    """Rows without embeddings."""
    lengths = torch.tensor(LENGTHS)
    rows = torch.arange(len(LENGTHS)).repeat_interleave(lengths)
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    positions = torch.arange(len(rows)) - offsets[rows]
    longest = max(LENGTHS)
    return JoinedRows(
        embeddings=torch.empty(len(rows), 0, device=device),
        positions=positions.to(device),
        offsets=offsets.int().to(device),
        padded=(rows * longest + positions).to(device),
        longest=longest,
    )


def distance(packed, expected):
    """Norm of the difference, relative to that of ``expected``."""
    return float((packed.detach().cpu().float() - expected).norm() / expected.norm())


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("head_width", [64, 128])
@pytest.mark.parametrize("device", DEVICES)
def test_rows_attend_within_themselves(device, head_width, window, kernel_calls):
    *inputs, gradient = states(head_width)
    expected = [one.clone().requires_grad_() for one in inputs]
    reference = row_by_row(*expected, window)
    reference.backward(gradient.transpose(1, 2))

    packed = [one.to(device, torch.bfloat16).requires_grad_() for one in inputs]
    arguments = row_arguments(joined_rows(device))
    arguments.pop("position_ids")
    output, _ = packed_attention.packed_attention(
        Layer(), *packed, dropout=0.0, scaling=None, sliding_window=window, **arguments
    )
    output.backward(gradient.transpose(1, 2).to(device, torch.bfloat16))
    assert len(kernel_calls) == (device == "cuda")
    # bfloat16 has 8 bits: a rounding is up to 0.4 %.
    assert distance(output, reference.detach()) < 0.01
    for one, other in zip(packed, expected, strict=True):
        assert distance(one.grad, other.grad) < 0.02


@pytest.mark.parametrize("device", DEVICES)
def test_a_mixed_step_learns_what_padded_rows_do(
    device, tmp_path, tiny_tokenizer, make_visual_tokens, kernel_calls, monkeypatch
):
    torch.manual_seed(0)
    sizes = {"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    LlamaForCausalLM(
        LlamaConfig(vocab_size=400, initializer_range=0.1, **sizes, **heads)
    ).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    config = ReasonerConfig(
        fusion=FusionConfig(num_queries=4, width=32, num_layers=1, num_heads=4),
        language_model=LanguageModelConfig(name_or_path=str(tmp_path), dtype="bfloat16"),
        lora=LoraSettings(rank=4, alpha=8),
    )
    reasoner = build_reasoner(config, 24, device)
    generator = torch.Generator().manual_seed(5)
    texts = []
    for length in LENGTHS:
        ids = torch.randint(0, 256, (length,), generator=generator).tolist()
        texts.append(EncodedText(ids, [IGNORE_INDEX] * (length // 2) + ids[length // 2 :]))
    videos = collate_visual_tokens([make_visual_tokens(2, 1, seed) for seed in range(len(texts))])
    visual = {name: value.to(device) for name, value in videos.items()}
    text = move_texts(collate_texts(texts), torch.device(device))

    def step():
        reasoner.zero_grad()
        with torch.autocast(device, torch.bfloat16):
            values = reasoner(visual, text)
        (-values.mean()).backward()
        gradients = {n: p.grad.cpu() for n, p in reasoner.named_parameters() if p.grad is not None}
        return values.detach().cpu(), gradients

    packed, packed_gradients = step()
    assert len(kernel_calls) == (0 if device == "cpu" else sizes["num_hidden_layers"])
    monkeypatch.setattr(packed_attention, "_kernel_options", lambda *arguments: None)
    expected, expected_gradients = step()
    assert distance(packed, expected) < 0.02
    assert packed_gradients.keys() == expected_gradients.keys()
    joined, padded = (
        torch.cat([gradients[name].flatten() for name in sorted(gradients)])
        for gradients in (packed_gradients, expected_gradients)
    )
    assert distance(joined, padded) < 0.05
