import dataclasses
import math

import pytest
import torch

from vidreason.evaluation.controls import single_moment
from vidreason.fusion.fusion_core import Attention, FusionConfig, build_fusion
from vidreason.fusion.token_positions import box_motion, mask_shape
from vidreason.perception.visual_tokens import VisualTokens, collate_visual_tokens

VISUAL_DIM, OUTPUT_DIM = 24, 20


def tiny_fusion(kind="qformer", token_positions="full", seed=0):
    torch.manual_seed(seed)
    config = FusionConfig(
        kind=kind,
        num_queries=4,
        width=32,
        num_layers=2,
        num_heads=4,
        token_positions=token_positions,
    )
    return build_fusion(config, VISUAL_DIM, OUTPUT_DIM, output_scale=0.02)


def permuted(tokens: VisualTokens, order: list[int], **fields: bool) -> VisualTokens:
    """Tokens in another order; with ``positions=False``, only their features move."""
    moves = ["features"] + (
        ["kinds", "spans", "boxes", "areas", "track_ids"] if fields.get("positions", True) else []
    )
    values = {
        name: getattr(tokens, name)[order] if name in moves else getattr(tokens, name)
        for name in ("features", "kinds", "spans", "boxes", "areas", "track_ids")
    }
    return dataclasses.replace(tokens, **values)


def test_the_default_is_the_papers_size():
    with torch.device("meta"):
        fusion = build_fusion(FusionConfig(), 768, 4096, 0.02)
    assert fusion.queries.shape == (32, 768)
    assert len(fusion.blocks) == 8
    # Per block: 8 projections of 768 x 768, an MLP of 2 x 768 x 3072, 3 norms; plus in and out.
    block = 8 * (768 * 768 + 768) + (2 * 768 * 3072 + 3072 + 768) + 3 * 2 * 768
    ends = (2 * 768 + 768 * 768 + 768) + 2 * 2 * 768 + (768 * 4096 + 4096) + 32 * 768
    positions = 2 * 768 + (72 * 768 + 768) + (60 * 768 + 768) + (6 * 768 + 768)
    positions += 37 * 768 + 768
    assert sum(p.numel() for p in fusion.parameters()) == 8 * block + ends + positions


def test_attention_is_equation_3():
    torch.manual_seed(0)
    attention = Attention(width=8, num_heads=2)
    queries, tokens = torch.randn(3, 5, 8), torch.randn(3, 7, 8)
    seen = torch.rand(3, 7) > 0.4
    seen[:, 0] = True
    expected = torch.zeros(3, 5, 8)
    for row in range(3):
        q, k, v = (
            attention.query(queries[row]),
            attention.key(tokens[row]),
            attention.value(tokens[row]),
        )
        heads = []
        for head in (slice(0, 4), slice(4, 8)):
            scores = q[:, head] @ k[:, head].T / math.sqrt(4)
            weights = scores.masked_fill(~seen[row], -math.inf).softmax(dim=-1)
            heads.append(weights @ v[:, head])
        expected[row] = attention.output(torch.cat(heads, dim=-1))
    actual = attention(queries, tokens, seen[:, None, None, :])
    torch.testing.assert_close(actual, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", ["qformer", "mean_pool"])
def test_a_batch_gives_what_single_calls_give(kind, make_visual_tokens):
    fusion = tiny_fusion(kind)
    videos = [make_visual_tokens(4, 3), make_visual_tokens(2, 0, 1), make_visual_tokens(0, 0, 2)]
    together = fusion(collate_visual_tokens(videos))
    assert together.shape == (3, fusion.num_embeddings, OUTPUT_DIM)
    for row, video in enumerate(videos):
        alone = fusion(collate_visual_tokens([video]))
        torch.testing.assert_close(together[row], alone[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", ["qformer", "mean_pool"])
def test_padding_has_no_effect_on_values_or_gradients(kind, make_visual_tokens):
    fusion = tiny_fusion(kind)
    videos = [make_visual_tokens(4, 3), make_visual_tokens(2, 0, 1), make_visual_tokens(0, 0, 2)]

    def run(fill):
        visual = collate_visual_tokens(videos)
        padded = ~visual["mask"]
        visual["features"][padded] = fill
        visual["spans"][padded], visual["boxes"][padded], visual["areas"][padded] = fill, fill, fill
        visual["kinds"][padded] = int(fill != 0)
        fusion.zero_grad()
        output = fusion(visual)
        output.square().sum().backward()
        return output, [p.grad for p in fusion.parameters()]

    (clean, clean_gradients), (dirty, dirty_gradients) = run(0.0), run(3.5)
    assert torch.equal(clean, dirty)
    for first, second in zip(clean_gradients, dirty_gradients, strict=True):
        assert torch.equal(first, second)


def test_without_visual_tokens_the_cross_attention_adds_exactly_nothing(make_visual_tokens):
    fusion = tiny_fusion()
    blind = [make_visual_tokens(4, 3, seed).without_tokens() for seed in range(2)]
    output = fusion(collate_visual_tokens(blind))
    for block in fusion.blocks:  # what it would have added
        block.cross_attention.output.weight.data.fill_(9.0)
        block.cross_attention.output.bias.data.fill_(9.0)
    assert torch.equal(fusion(collate_visual_tokens(blind)), output)
    assert torch.equal(output[0], output[1])

    fusion(collate_visual_tokens(blind)).square().sum().backward()
    for name, parameter in fusion.named_parameters():
        assert parameter.grad.isfinite().all(), name
        unseen = ("visual_projection", "token_positions", "visual_norm", "cross_attention.")
        if any(part in name for part in unseen):
            assert not parameter.grad.any(), name
    assert fusion.queries.grad.any()


def test_without_positions_the_order_of_tokens_cannot_be_seen(make_visual_tokens):
    fusion = tiny_fusion(token_positions="none")
    tokens = make_visual_tokens(4, 3)
    shuffled = permuted(tokens, [3, 2, 1, 0, 6, 4, 5], positions=False)
    expected = fusion(collate_visual_tokens([tokens]))
    actual = fusion(collate_visual_tokens([shuffled]))
    torch.testing.assert_close(actual, expected, atol=1e-6, rtol=1e-5)
    assert not [name for name, _ in fusion.named_parameters() if "position" in name]


def test_with_positions_a_token_moved_in_time_is_seen(make_visual_tokens):
    fusion = tiny_fusion()
    tokens = make_visual_tokens(4, 3)
    base = fusion(collate_visual_tokens([tokens]))
    swapped = permuted(tokens, [3, 1, 2, 0, 4, 5, 6], positions=False)
    assert (fusion(collate_visual_tokens([swapped])) - base).abs().max() > 1e-4
    # A token that takes its position along may stand anywhere in the sequence.
    moved = permuted(tokens, [3, 1, 2, 0, 6, 4, 5])
    actual = fusion(collate_visual_tokens([moved]))
    torch.testing.assert_close(actual, base, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("entry", ["spans", "boxes", "areas", "kinds", "durations"])
def test_each_position_entry_is_used(entry, make_visual_tokens):
    fusion = tiny_fusion()
    visual = collate_visual_tokens([make_visual_tokens(4, 3)])
    base = fusion(visual)
    # The second object; all of them for the duration.
    if entry == "durations":
        visual["durations"] = visual["durations"] * 2
    elif entry == "kinds":
        visual["kinds"][0, 5] = 0
    else:
        visual[entry][0, 5] += 0.13
    assert (fusion(visual) - base).abs().max() > 1e-5


def test_the_box_of_a_clip_token_is_not_used(make_visual_tokens):
    fusion = tiny_fusion()
    visual = collate_visual_tokens([make_visual_tokens(4, 3)])
    base = fusion(visual)
    visual["boxes"][0, :4] = 0.3
    visual["areas"][0, :4] = 0.3
    assert torch.equal(fusion(visual), base)


def test_the_shape_of_a_mask_is_its_width_height_and_fill():
    boxes = torch.tensor(
        [
            [0.1, 0.2, 0.4, 0.3],
            [0.5, 0.5, 0.5, 0.9],  # empty
            [0.6, 0.6, 0.4, 0.8],  # turned round, as only made-up boxes are
            [0.0, 0.0, 0.2, 0.2],
        ]
    )
    areas = torch.tensor([0.03 * 0.77, 0.1, 0.1, 0.1])  # the last mask is larger than its box
    width, height, fill, *squares = mask_shape(boxes[None], areas[None])[0].unbind(-1)
    torch.testing.assert_close(width / 4 + 0.25, torch.tensor([0.3, 0.0, 0.0, 0.2]))
    torch.testing.assert_close(height / 4 + 0.25, torch.tensor([0.1, 0.4, 0.2, 0.2]))
    torch.testing.assert_close(fill / 4 + 0.75, torch.tensor([0.77, 0.0, 0.0, 1.0]))
    for size, square in zip((width, height, fill), squares, strict=True):
        torch.testing.assert_close(square, size**2)


def test_the_shape_of_a_mask_reaches_objects_at_the_scale_of_the_rest(make_visual_tokens):
    positions = tiny_fusion().token_positions
    visual = collate_visual_tokens([make_visual_tokens(4, 3)])
    visual["boxes"] = torch.tensor([0.4, 0.4, 0.6, 0.6]).expand(1, 7, 4).contiguous()

    def with_fill(fill):
        visual["areas"] = torch.full((1, 7), 0.04 * fill)
        return positions(visual)[0]

    moved = (with_fill(0.93) - with_fill(0.61)).square().mean(-1).sqrt()  # a square, a triangle
    assert not moved[:4].any()
    assert moved[4:].min() > 0.2


def test_motion_is_what_the_edges_moved_since_the_track_was_seen_before(make_visual_tokens):
    tokens = make_visual_tokens(1, 5)
    # Two tracks, of which the second is seen on the first and the last of three key frames only;
    # two tokens of the first on one key frame.
    tokens.track_ids[1:] = torch.tensor([0, 1, 0, 0, 1])
    tokens.spans[1:] = torch.tensor([0.0, 0.0, 2.0, 2.0, 4.0])[:, None]
    first, later = torch.tensor([0.0, 0.25, 0.5, 0.75]), torch.tensor([0.5, 0.25, 0.75, 0.25])
    tokens.boxes[1:] = torch.stack([first, first, later, first, later])
    visual = collate_visual_tokens([tokens, make_visual_tokens(0, 7)])
    motion = box_motion(visual)[0]
    velocities, known = 0.25 * motion[:, :4], motion[:, -1]
    assert known.tolist() == [0, 0, 0, 1, 1, 1, 0]  # a clip, first sights, padding
    moved = later - first
    assert torch.allclose(velocities[3:6], torch.stack([moved / 2, 0 * moved, moved / 4]))
    assert not motion[known == 0].any()

    # What is masked has not been seen: what came before it is.
    visual["mask"][0, 1] = False
    assert box_motion(visual)[0, :, -1].tolist() == [0, 0, 0, 0, 0, 1, 0]
    # A control that leaves one moment leaves no motion.
    moment = collate_visual_tokens([single_moment(tokens, torch.Generator())])
    assert not box_motion(moment).any()


def test_times_keep_their_precision_in_bfloat16(make_visual_tokens):
    fusion = tiny_fusion().to(torch.bfloat16)
    visual = collate_visual_tokens([make_visual_tokens(4, 3)])
    visual["durations"] = visual["durations"] * 0 + 600
    visual["spans"] += 500.0
    base = fusion(visual)
    visual["spans"] += 0.25  # bfloat16 cannot tell 500 from 500.25
    assert not torch.equal(fusion(visual), base)
    assert base.dtype == torch.bfloat16


@pytest.mark.parametrize("kind", ["qformer", "mean_pool"])
def test_the_output_starts_at_the_scale_asked_for(kind, make_visual_tokens):
    scales = []
    for seed in range(8):
        output = tiny_fusion(kind, seed=seed)(
            collate_visual_tokens([make_visual_tokens(4, 8, seed)])
        )
        scales.append(output.square().mean().item())
    assert math.sqrt(sum(scales) / 8) == pytest.approx(0.02, rel=0.25)


def test_mean_pool_is_a_mean_and_a_linear_layer(make_visual_tokens):
    fusion = tiny_fusion("mean_pool")
    tokens = make_visual_tokens(4, 3)
    mean = tokens.features.mean(dim=0)
    normed = (mean - mean.mean()) / (mean.var(correction=0) + 1e-5).sqrt()
    layer = fusion.output_projection
    actual = fusion(collate_visual_tokens([tokens, make_visual_tokens(4, 9, 1)]))
    torch.testing.assert_close(actual[0, 0], layer.weight @ normed + layer.bias)


def test_stored_bfloat16_features_are_read(make_visual_tokens):
    visual = collate_visual_tokens([make_visual_tokens(4, 3)])
    visual["features"] = visual["features"].to(torch.bfloat16)
    assert tiny_fusion()(visual).dtype == torch.float32


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"width": 32, "num_heads": 5}, ["width 32", "num_heads 5"]),
        ({"num_queries": 0}, ["num_queries is 0"]),
    ],
)
def test_impossible_sizes_are_refused(fields, words):
    with pytest.raises(ValueError, match=r"fusion\.") as caught:
        FusionConfig(**fields)
    assert all(word in str(caught.value) for word in words)
