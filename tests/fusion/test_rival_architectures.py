"""The architectures of Video-ChatGPT and Video-LLaMA behind our visual tokens."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from vidreason.fusion.config import FusionConfig
from vidreason.fusion.fusion_core import build_fusion
from vidreason.fusion.patch_tokens import patch_tokens
from vidreason.perception.visual_tokens import (
    CLIP_TOKEN,
    OBJECT_TOKEN,
    VisualTokens,
    collate_visual_tokens,
)

DIM, OUT = 12, 10
RIVALS = ("temporal_spatial_pool", "frame_qformer", "key_frame_qformer")


def rival(kind: str, **sizes: int) -> torch.nn.Module:
    num_queries = 12 if kind == "key_frame_qformer" else 10
    fields = {"num_queries": num_queries, "width": 16, "num_layers": 3, "num_heads": 2, **sizes}
    torch.manual_seed(0)
    return build_fusion(FusionConfig(kind=kind, **fields), DIM, OUT, 0.02)


def video(
    times: Sequence[float], num_cells: int, seed: int = 0, num_clips: int = 2
) -> VisualTokens:
    """Clip tokens, then the patches of each key frame."""
    count = len(times) * num_cells
    features = torch.randn(num_clips + count, DIM, generator=torch.Generator().manual_seed(seed))
    moments = torch.tensor(times, dtype=torch.float32).repeat_interleave(num_cells)
    clips = torch.tensor([[0.0, 8.0]]).expand(num_clips, 2)
    return VisualTokens(
        features=features,
        kinds=torch.tensor([CLIP_TOKEN] * num_clips + [OBJECT_TOKEN] * count),
        spans=torch.cat([clips, moments[:, None].expand(-1, 2)]),
        boxes=torch.zeros(num_clips + count, 4),
        areas=torch.zeros(num_clips + count),
        track_ids=torch.tensor([-1] * num_clips + list(range(num_cells)) * len(times)),
        masks=(None,) * (num_clips + count),
        duration_seconds=8.0,
    )


def grid(tokens: VisualTokens, num_frames: int, num_cells: int) -> Tensor:
    return tokens.features[2:].view(num_frames, num_cells, DIM)


def test_patches_are_arranged_by_frame_and_cell() -> None:
    first, second = video([0.0, 1.0, 2.5], 4), video([3.0, 3.0], 2, seed=1)
    batch = collate_visual_tokens([first, second, first.without_tokens()])
    batch["mask"][0, [2 + 5, 2 + 8, 2 + 9, 2 + 10, 2 + 11]] = False  # a patch, and a whole frame
    patches = patch_tokens(batch)
    assert patches.features.shape == (3, 2, 4, DIM)
    expected = grid(first, 3, 4)[:2].clone()
    expected[1, 1] = 0
    assert torch.equal(patches.features[0], expected)
    # A frame that is shown twice is one.
    repeats = patches.features[1, 0, :2]
    assert torch.equal(repeats, grid(second, 2, 2)[1])
    assert patches.seen.int().tolist() == [
        [[1, 1, 1, 1], [1, 0, 1, 1]],
        [[1, 1, 0, 0], [0, 0, 0, 0]],
        [[0, 0, 0, 0], [0, 0, 0, 0]],
    ]


def test_frames_without_the_first_ones_count_from_the_first_seen() -> None:
    tokens = video([0.0, 1.0, 2.0], 2)
    batch = collate_visual_tokens([tokens])
    batch["mask"][0, 2:4] = False
    patches = patch_tokens(batch)
    assert torch.equal(patches.features[0], grid(tokens, 3, 2)[1:])


def test_video_chatgpts_tokens_are_means_through_one_layer() -> None:
    fusion = rival("temporal_spatial_pool")
    tokens = video([0.0, 1.0, 2.0], 4)
    output = fusion(collate_visual_tokens([tokens]))
    patches = grid(tokens, 3, 4)
    rows = torch.zeros(10, DIM)
    rows[:3] = patches.mean(1)
    rows[6:] = patches.mean(0).flip(0)
    torch.testing.assert_close(output[0], fusion.output_projection(rows))
    assert sum(p.numel() for p in fusion.parameters()) == DIM * OUT + OUT
    with pytest.raises(ValueError, match="num_queries is 6, but there are 3 frames of 4 patches"):
        rival("temporal_spatial_pool", num_queries=6)(collate_visual_tokens([tokens]))


def test_missing_patches_move_no_row() -> None:
    """Samples may lose objects and moments (data.drop): the others keep their embeddings."""
    fusion = rival("temporal_spatial_pool")
    batch = collate_visual_tokens([video([0.0, 1.0], 3)])
    whole = fusion(batch)
    batch["mask"][0, [2 + 2, 2 + 5]] = False  # the last cell of both frames
    partial = fusion(batch)
    torch.testing.assert_close(partial[0, -2:], whole[0, -2:])  # cells 0 and 1
    assert not torch.allclose(partial[0, 0], whole[0, 0])
    torch.testing.assert_close(partial[0, 2:-2], whole[0, 2:3].expand(6, -1))


def test_video_llama_sees_frames_one_by_one_and_in_their_order() -> None:
    fusion = rival("frame_qformer")
    tokens = video([0.0, 1.0, 2.0], 4)
    patches = grid(tokens, 3, 4)
    # By hand: the image Q-Former of each frame alone, its position, then the video Q-Former.
    frames = [
        fusion.image.layers(
            query_embeds=fusion.image.queries[None],
            encoder_hidden_states=fusion.visual_norm(patch)[None],
        ).last_hidden_state
        + fusion.frame_positions.weight[number]
        for number, patch in enumerate(patches)
    ]
    gathered = fusion.video.layers(
        query_embeds=fusion.video.queries[None], encoder_hidden_states=torch.cat(frames, dim=1)
    ).last_hidden_state
    output = fusion(collate_visual_tokens([tokens]))
    torch.testing.assert_close(output, fusion.output_projection(gathered), atol=1e-6, rtol=1e-5)
    # Cross-attention in layers 0 and 2 of the image Q-Former, and in both of the video Q-Former.
    crossing = [
        [hasattr(layer, "crossattention") for layer in part.layers.encoder.layer]
        for part in (fusion.image, fusion.video)
    ]
    assert crossing == [[True, False, True], [True, True]]
    with pytest.raises(ValueError, match="takes 32 frames, found 33"):
        fusion(collate_visual_tokens([video(range(33), 1)]))


def test_sevilas_frames_go_through_one_by_one() -> None:
    fusion = rival("key_frame_qformer")
    tokens = video([0.0, 1.0, 2.0], 4)
    # By hand: the Q-Former of each frame alone, its rank, the layer; the fourth is not there.
    output = fusion(collate_visual_tokens([tokens]))[0].view(4, 3, OUT)
    for number, patch in enumerate(grid(tokens, 3, 4)):
        frame = fusion.image.layers(
            query_embeds=fusion.image.queries[None],
            encoder_hidden_states=fusion.visual_norm(patch)[None],
        ).last_hidden_state
        expected = fusion.output_projection(frame[0] + fusion.frame_positions.weight[number])
        torch.testing.assert_close(output[number], expected, atol=1e-6, rtol=1e-5)
    nothing = fusion(collate_visual_tokens([tokens.without_tokens()]))[0].view(4, 3, OUT)
    torch.testing.assert_close(output[3], nothing[3], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(output[:3], nothing[:3], atol=1e-3)


@pytest.mark.parametrize(
    ("count", "shown"),
    [(5, [0, 1, 3, 4]), (6, [0, 2, 3, 5]), (8, [1, 3, 5, 7]), (16, [2, 6, 10, 14])],
)
def test_sevila_takes_four_of_more_frames_evenly(count: int, shown: list[int]) -> None:
    fusion = rival("key_frame_qformer")
    tokens = video(range(count), 2)
    kept = tokens.select([2 + 2 * frame + cell for frame in shown for cell in range(2)])
    whole, alone = (fusion(collate_visual_tokens([one])) for one in (tokens, kept))
    assert torch.equal(whole, alone)


def test_sevilas_frames_share_the_queries_evenly() -> None:
    with pytest.raises(ValueError, match="num_queries 10 is not a multiple of the 4 frames"):
        FusionConfig(kind="key_frame_qformer", num_queries=10)


@pytest.mark.parametrize("kind", RIVALS)
def test_a_batch_of_rivals_gives_what_single_calls_give(kind: str) -> None:
    fusion = rival(kind)
    videos = [
        video([0.0, 1.0, 2.0], 4),
        video([0.5], 4, seed=1),
        video([1.0, 2.0], 2, seed=2),
        video([1.0], 2, seed=3).without_tokens(),
    ]
    together = fusion(collate_visual_tokens(videos))
    assert together.shape == (4, fusion.num_embeddings, OUT)
    for row, tokens in zip(together, videos, strict=True):
        alone = fusion(collate_visual_tokens([tokens]))[0]
        torch.testing.assert_close(row, alone, atol=1e-6, rtol=1e-5)
    # Clip tokens are not looked at.
    without = fusion(collate_visual_tokens([videos[0].select(list(range(2, 14)))]))[0]
    torch.testing.assert_close(without, together[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", RIVALS)
def test_every_parameter_of_a_rival_learns(kind: str) -> None:
    fusion = rival(kind)
    fusion(collate_visual_tokens([video([0.0, 1.0], 4), video([0.5], 3)])).square().sum().backward()
    still = [
        name
        for name, parameter in fusion.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    # A bias of keys changes no softmax, and only by rounding.
    assert [name for name in still if "key.bias" not in name] == []


@pytest.mark.parametrize("kind", RIVALS)
def test_a_rival_is_built_without_values_and_starts_at_the_words_scale(kind: str) -> None:
    with torch.device("meta"):
        empty = build_fusion(FusionConfig(kind=kind, num_queries=80), 128, 192, 0.02)
    built = build_fusion(FusionConfig(kind=kind, num_queries=80), 128, 192, 0.02)
    assert {k: v.shape for k, v in empty.state_dict().items()} == {
        k: v.shape for k, v in built.state_dict().items()
    }
    assert not list(empty.named_buffers())  # loading weights into it leaves nothing out
    patches = torch.randn(256, 128) if kind == RIVALS[0] else torch.randn(256, 768)
    scale = built.output_projection(patches).detach().square().mean().sqrt()
    assert float(scale) == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("kind", RIVALS)
def test_a_rival_tells_videos_apart_from_the_start(kind: str) -> None:
    """BERT's own initial weights would leave a share of 0.000002 of the variance."""
    fusion = rival(kind, width=64, num_layers=2, num_heads=4)
    output = fusion(collate_visual_tokens([video([0.0, 1.0], 4, seed=n) for n in range(8)]))
    assert float((output.var(0).mean() / output.square().mean()).detach()) > 0.02


def test_rivals_have_no_warm_start() -> None:
    with pytest.raises(ValueError, match=r"fusion\.kind is 'frame_qformer', which has nothing"):
        FusionConfig(kind="frame_qformer", warm_start="a.pth")
