"""The forward passes of ``segment_anything``'s Sam, in an order that asks for less.

They run the package's own modules and give its numbers up to rounding. Three things are different:

* the image encoder's attention is fused, with the relative positions as its bias;
* the mask decoder's cross-attentions are absorbed: a prompt has few tokens, so it is cheaper to
  bring each token's key (and value) into the image's space, once a head, than to project thousands
  of image tokens for every prompt. ``q . (W k + b)`` is ``(W^T q) . k`` plus what softmax ignores;
* what all prompts on a frame share in the first decoder block is computed once a frame, and masks
  are upscaled only where their predicted quality says that they will be kept.

Shapes: B prompts (one point each), G groups of prompts that see the same image tokens, T tokens of
a prompt, L image tokens, H heads, C width, n frames.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

# The package is untyped, so its modules are ``Any`` here.

_UPSCALED_AT_ONCE = 2**19
"""Pixels of upscaled embeddings, over all prompts of a chunk, that fit a cache and bound memory."""


def encode_image(encoder: Any, pixels: Tensor) -> Tensor:  # noqa: ANN401 - the package is untyped
    """``ImageEncoderViT.forward`` with fused attention.

    Args:
        encoder: The image encoder.
        pixels: ``(n, 3, S, S)``, normalised and padded.

    Returns:
        ``(n, C, h, w)``.
    """
    from segment_anything.modeling.image_encoder import window_partition, window_unpartition

    tokens = encoder.patch_embed(pixels)  # (n, 3, S, S) -> (n, h, w, C)
    if encoder.pos_embed is not None:
        tokens = tokens + encoder.pos_embed
    # Most blocks attend within windows, a few over the whole grid; windows are padded to fit.
    for block in encoder.blocks:
        attended = block.norm1(tokens)
        if block.window_size > 0:
            attended, padded = window_partition(attended, block.window_size)
            attended = _attend_with_relative_positions(block.attn, attended)
            attended = window_unpartition(attended, block.window_size, padded, tokens.shape[1:3])
        else:
            attended = _attend_with_relative_positions(block.attn, attended)
        tokens = tokens + attended
        tokens = tokens + block.mlp(block.norm2(tokens))
    # (n, h, w, C) -> (n, C, h, w), as convolutions have it
    encoded: Tensor = encoder.neck(tokens.permute(0, 3, 1, 2))
    return encoded


def _attend_with_relative_positions(attention: Any, tokens: Tensor) -> Tensor:  # noqa: ANN401
    """Self-attention of a grid ``(n, h, w, C)``."""
    from segment_anything.modeling.image_encoder import get_rel_pos

    count, height, width, _ = tokens.shape
    # (n, h, w, C) -> (n, L, 3, H, C / H) -> three of (n, H, L, C / H)
    projected = attention.qkv(tokens).view(count, height * width, 3, attention.num_heads, -1)
    queries, keys, values = projected.permute(2, 0, 3, 1, 4).unbind(0)
    grid = queries.unflatten(2, (height, width))  # n, H, h, w, C / H
    # An embedding for each pair of rows, and of columns: (h, h, C / H) and (w, w, C / H)
    rows = get_rel_pos(height, height, attention.rel_pos_h)
    columns = get_rel_pos(width, width, attention.rel_pos_w)
    row_bias = torch.einsum("nHhwc,hkc->nHhwk", grid, rows)  # n, H, h, w, h
    column_bias = torch.einsum("nHhwc,wkc->nHhwk", grid, columns)  # n, H, h, w, w
    # (n, H, h, w, h, 1) + (n, H, h, w, 1, w) -> (n, H, L, L)
    bias = row_bias[..., :, None] + column_bias[..., None, :]
    bias = bias.reshape(count, attention.num_heads, height * width, height * width)
    mixed = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
    # (n, H, L, C / H) -> (n, h, w, C)
    projected = attention.proj(mixed.transpose(1, 2).reshape(count, height, width, -1))
    assert isinstance(projected, Tensor)
    return projected


def decode_points(sam: Any, embeddings: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ANN401
    """``MaskDecoder.predict_masks`` for single points, up to the masks themselves.

    Args:
        sam: The model.
        embeddings: ``(n, C, h, w)`` of n frames.
        points: ``(P, 2)`` x and y in pixels of the network's input: the same on every frame.

    Returns:
        The prompts' output tokens ``(n * P, 1 + masks, C)`` (quality first), the image tokens
        ``(n * P, L, C)`` as each prompt has changed them, and the predicted qualities
        ``(n * P, masks)`` of all masks, the single-mask output first. Frames are outermost.
    """
    decoder, encoder = sam.mask_decoder, sam.prompt_encoder
    transformer = decoder.transformer
    # What every prompt starts from: image tokens of a frame, output tokens, the point itself.
    labels = torch.ones(len(points), 1, device=points.device)
    # The point and its padding, (P, 2, C), and the mask that is not given, (P, C, h, w), which is
    # the same for all.
    sparse, dense = encoder((points[:, None], labels), None, None)
    image = (embeddings + dense[:1]).flatten(2).transpose(1, 2).contiguous()  # n, L, C
    image_positions = encoder.get_dense_pe().flatten(2).transpose(1, 2).contiguous()
    # 1 + masks, C
    output_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    prompts = torch.cat([output_tokens.expand(len(points), -1, -1), sparse], dim=1)
    prompts = prompts.repeat(len(embeddings), 1, 1)  # B, T, C with B = n * P

    # The two-way blocks: tokens attend to themselves and to the image, the image to the tokens.
    tokens = prompts
    for layer in transformer.layers:
        placed_image = image + image_positions
        if layer.skip_first_layer_pe:
            tokens = layer.self_attn(q=tokens, k=tokens, v=tokens)
        else:
            placed = tokens + prompts
            tokens = tokens + layer.self_attn(q=placed, k=placed, v=tokens)
        tokens = layer.norm1(tokens)
        attended = _tokens_to_image(
            layer.cross_attn_token_to_image, tokens + prompts, image, placed_image
        )
        tokens = layer.norm2(tokens + attended)
        tokens = layer.norm3(tokens + layer.mlp(tokens))
        image = layer.norm4(
            _image_to_tokens(
                layer.cross_attn_image_to_token, tokens, tokens + prompts, image, placed_image
            )
        )
    attended = _tokens_to_image(
        transformer.final_attn_token_to_image, tokens + prompts, image, image + image_positions
    )
    tokens = transformer.norm_final_attn(tokens + attended)
    return (
        tokens[:, : 1 + decoder.num_mask_tokens],
        image,
        decoder.iou_prediction_head(tokens[:, 0]),
    )


def _tokens_to_image(attention: Any, tokens: Tensor, image: Tensor, placed_image: Tensor) -> Tensor:  # noqa: ANN401
    """Attention of prompt tokens ``(B, T, C)`` to image tokens ``(G, L, C)``."""
    prompts_per_group = len(tokens) // len(image)
    if prompts_per_group > 1:  # keys and values are projected once for many prompts
        grouped = tokens.view(len(image), -1, tokens.shape[-1])  # (G, B / G * T, C)
        shared: Tensor = attention(q=grouped, k=placed_image, v=image)
        # (G, B / G * T, C) -> (B, T, C)
        return shared.view(tokens.shape)
    queries = _into_image_space(attention, attention.q_proj(tokens), attention.k_proj.weight)
    scale = (attention.internal_dim // attention.num_heads) ** -0.5
    weights = ((queries * scale) @ placed_image.transpose(1, 2)).softmax(dim=-1)  # B, H * T, L
    # Values are projected after the sum over the image: T rows a head instead of L.
    means = torch.unflatten(weights @ image, 1, (attention.num_heads, -1))  # B, H, T, C
    project_values = attention.v_proj.weight.unflatten(0, (attention.num_heads, -1))
    # (B, H, T, C) @ (H, C, inner / H) -> (B, T, H, inner / H) -> (B, T, inner)
    mixed = (means @ project_values.transpose(1, 2)).transpose(1, 2).flatten(2)
    attended: Tensor = attention.out_proj(mixed + attention.v_proj.bias)
    return attended


def _image_to_tokens(
    attention: Any,  # noqa: ANN401
    tokens: Tensor,
    placed_tokens: Tensor,
    image: Tensor,
    placed_image: Tensor,
) -> Tensor:
    """Image tokens ``(G, L, C)`` plus what they take from each prompt's tokens: ``(B, L, C)``."""
    groups, num_heads = len(image), attention.num_heads
    scale = (attention.internal_dim // num_heads) ** -0.5
    projected = attention.k_proj(placed_tokens) * scale
    keys = _into_image_space(attention, projected, attention.q_proj.weight)  # B, H * T, C
    query_bias = attention.q_proj.bias.unflatten(0, (num_heads, -1, 1))  # (H, inner / H, 1)
    bias = (_split_heads(projected, num_heads) @ query_bias).flatten(1, 2)  # B, H * T, 1
    grouped = keys.view(groups, -1, keys.shape[-1])  # (G, B / G * H * T, C)
    # (G, B / G * H * T, C) @ (G, C, L) -> (B, H * T, L): prompts of a frame share its image tokens.
    scores = (grouped @ placed_image.transpose(1, 2)).view(len(tokens), -1, image.shape[1]) + bias
    per_head = torch.unflatten(scores, 1, (num_heads, -1))  # B, H, T, L
    weights = per_head.softmax(dim=2).flatten(1, 2)  # over the tokens: B, H * T, L
    values = _into_image_space(
        attention, attention.v_proj(tokens), attention.out_proj.weight.transpose(0, 1)
    )
    # An image token's weights add up to 1 in each head.
    values = values + attention.out_proj.bias / num_heads
    # Each prompt of a frame starts from its image tokens: (G, L, C) -> (B, L, C)
    residual = (
        image[:, None].expand(-1, len(tokens) // groups, -1, -1).reshape(-1, *image.shape[1:])
    )
    # (B, L, C) + (B, L, H * T) @ (B, H * T, C)
    return torch.baddbmm(residual, weights.transpose(1, 2), values)


def _into_image_space(attention: Any, projected: Tensor, weight: Tensor) -> Tensor:  # noqa: ANN401
    """``(B, T, inner)`` back through each head's part of ``weight``, ``(inner, C)``: per head."""
    per_head = torch.unflatten(weight, 0, (attention.num_heads, -1))  # H, inner / H, C
    return (_split_heads(projected, attention.num_heads) @ per_head).flatten(1, 2)  # B, H * T, C


def _split_heads(projected: Tensor, num_heads: int) -> Tensor:
    return torch.unflatten(projected, -1, (num_heads, -1)).transpose(1, 2)  # B, H, T, inner / H


def upscale_masks(
    decoder: Any,  # noqa: ANN401
    tokens: Tensor,
    image: Tensor,
    prompts: Tensor,
    masks: Tensor,
) -> Tensor:
    """The mask half of ``MaskDecoder.predict_masks``, for chosen masks only.

    Args:
        decoder: The mask decoder.
        tokens: ``(B, 1 + masks, C)`` output tokens of :func:`decode_points`.
        image: ``(B, L, C)`` image tokens of :func:`decode_points`.
        prompts: ``(m,)`` for each chosen mask the prompt, in ascending order.
        masks: ``(m,)`` which of the prompt's masks.

    Returns:
        ``(m, 4 h, 4 w)`` logits.
    """
    first, norm, _, second, _ = decoder.output_upscaling
    side = math.isqrt(image.shape[1])
    if len(prompts) == 0:
        return image.new_zeros(0, 4 * side, 4 * side)
    # Each prompt with a chosen mask once, and the row of each mask among them.
    used, rows = torch.unique_consecutive(prompts, return_inverse=True)
    # A mask is the product of its weights, made from its token, with every pixel.
    weights = torch.stack(
        [
            mlp(tokens[used, 1 + number])
            for number, mlp in enumerate(decoder.output_hypernetworks_mlps)
        ],
        dim=1,
    )  # prompts, masks, C / 8
    chunk = max(_UPSCALED_AT_ONCE // (16 * image.shape[1]), 1)
    logits = []
    for start in range(0, len(used), chunk):
        end = start + chunk
        # A transposed convolution of stride 2 and kernel 2 is a projection of each pixel to four.
        pixels = _project_to_four(first, image[used[start:end]])
        pixels = functional.layer_norm(pixels, pixels.shape[-1:], norm.weight, norm.bias, norm.eps)
        pixels = functional.gelu(_project_to_four(second, functional.gelu(pixels)))
        of_all_masks = weights[start:end] @ pixels.flatten(1, -2).transpose(1, 2)  # p, masks, 16 L
        inside = (rows >= start) & (rows < end)
        logits.append(of_all_masks[rows[inside] - start, masks[inside]])
    # Each image token has become 4 x 4 pixels: (m, h, w, 2, 2, 2, 2) -> (m, 4 h, 4 w)
    blocks = torch.cat(logits).view(-1, side, side, 2, 2, 2, 2)
    return blocks.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, 4 * side, 4 * side)


def _project_to_four(convolution: Any, pixels: Tensor) -> Tensor:  # noqa: ANN401
    """``(..., C)`` to the 2 x 2 pixels that each becomes, ``(..., 4, C')``."""
    # (C, C', 2, 2) -> (C, 4 C'): pixel by pixel, its channels together
    weight = convolution.weight.permute(0, 2, 3, 1).flatten(1)
    projected = functional.linear(pixels, weight.transpose(0, 1), convolution.bias.repeat(4))
    return torch.unflatten(projected, -1, (4, -1))
