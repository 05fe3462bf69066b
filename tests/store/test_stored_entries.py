"""The bytes of one entry: number types, masks, checksums."""

import math

import numpy as np
import pytest
import torch
from test_feature_store import assert_equal, make_tokens

from vidreason.perception.visual_tokens import MaskRuns
from vidreason.store.entries import (
    DamagedEntryError,
    _pack,
    _unpack,
    check_entry,
    decode_entry,
    encode_entry,
)

KEY = bytes(range(16))


def tokens_with(features: torch.Tensor):
    tokens = make_tokens(0, num_clips=len(features), num_objects=0)
    return type(tokens)(**(vars(tokens) | {"features": features}))


def test_run_lengths_of_every_size_come_back():
    edges = [0, 1, 127, 128, 2**14 - 1, 2**14, 2**21 - 1, 2**21, 2**28 - 1, 2**28, 2**32 - 1]
    numbers = np.array(edges + edges[::-1], dtype=np.uint32)
    packed = np.frombuffer(_pack(numbers), np.uint8)
    assert _unpack(packed).tolist() == numbers.tolist()
    assert len(packed) == 2 * (3 * 1 + 2 * 2 + 2 * 3 + 2 * 4 + 2 * 5)
    assert _unpack(np.zeros(0, np.uint8)).tolist() == []
    random = np.random.default_rng(0).integers(0, 2**32, 5000, dtype=np.uint32)
    assert (_unpack(np.frombuffer(_pack(random), np.uint8)) == random).all()


def test_masks_of_large_frames_keep_their_runs():
    runs = MaskRuns(size=[2160, 3840], counts=[0, 1, 2160 * 3840 - 2, 1])
    tokens = make_tokens(0)
    tokens = type(tokens)(**(vars(tokens) | {"masks": (*tokens.masks[:4], runs)}))
    assert_equal(decode_entry(KEY, encode_entry(KEY, tokens, "float32")), tokens)


def test_int8_is_within_half_a_step_of_each_tokens_largest_feature():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(40, 64, generator=generator) * torch.logspace(-30, 30, 40)[:, None]
    stored = decode_entry(KEY, encode_entry(KEY, tokens_with(features), "int8")).features
    step = features.abs().amax(1, keepdim=True) / 127
    assert ((stored - features).abs() <= 0.5001 * step).all()
    assert torch.equal(stored.abs().amax(1).round(decimals=0), (127 * step[:, 0]).round(decimals=0))
    again = decode_entry(KEY, encode_entry(KEY, tokens_with(stored), "int8")).features
    assert torch.allclose(again, stored, rtol=1e-6, atol=0)


@pytest.mark.parametrize("magnitude", [0.0, 1e-45])
def test_int8_keeps_a_token_without_scale_finite(magnitude):
    features = torch.full((2, 4), magnitude)
    stored = decode_entry(KEY, encode_entry(KEY, tokens_with(features), "int8")).features
    assert torch.equal(stored, torch.zeros(2, 4))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_int8_refuses_what_it_cannot_hold_and_the_others_hold_it(value):
    tokens = tokens_with(torch.tensor([[1.0, value]]))
    with pytest.raises(ValueError, match=r"store\.dtype: int8 .* store\.dtype=float32"):
        encode_entry(KEY, tokens, "int8")
    stored = decode_entry(KEY, encode_entry(KEY, tokens, "bfloat16")).features
    assert torch.equal(stored.isfinite(), tokens.features.isfinite())


def test_small_types_are_small():
    tokens = tokens_with(torch.randn(10, 256, generator=torch.Generator().manual_seed(0)))
    sizes = {dtype: len(encode_entry(KEY, tokens, dtype)) for dtype in ("float32", "bfloat16")}
    sizes["int8"] = len(encode_entry(KEY, tokens, "int8"))
    assert sizes["float32"] - sizes["bfloat16"] == 2 * 2560
    assert sizes["bfloat16"] - sizes["int8"] == 2560 - 4 * 10


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_each_changed_byte_and_each_cut_is_noticed(dtype):
    content = encode_entry(KEY, make_tokens(0), dtype)
    check_entry(KEY, content)
    for offset in range(len(content)):
        changed = bytearray(content)
        changed[offset] ^= 1
        with pytest.raises(DamagedEntryError):
            decode_entry(KEY, changed)
        with pytest.raises(DamagedEntryError):
            decode_entry(KEY, content[:offset])
    with pytest.raises(DamagedEntryError, match="checksum"):
        decode_entry(bytes(16), content)


def test_what_is_read_can_be_sent_without_the_entry_behind_it():
    tokens = decode_entry(KEY, encode_entry(KEY, make_tokens(0, width=4096), "bfloat16"))
    for name in ("spans", "boxes", "areas", "track_ids", "kinds"):
        tensor = getattr(tokens, name)
        assert tensor.untyped_storage().nbytes() == tensor.nbytes, name
