"""Tiny random models of further families that the same adapter runs; see ``tiny_video_models``."""

from collections.abc import Callable
from typing import Any

import transformers as hf
from tiny_video_models import (
    CHAT_ML,
    M_ROPE,
    QWEN_TOKENS,
    QWEN_VIDEO,
    VISION,
    text_fields,
    token_ids,
    toy_tokenizer,
)

_DEEP = {"depth": 2, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2}
_OUT = {**_DEEP, "out_hidden_size": 32}
_QWEN_IDS = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}
_GLM_IDS = {
    "image_token_id": "<|image|>",
    "video_token_id": "<|video|>",
    "image_start_token_id": "<|begin_of_image|>",
    "image_end_token_id": "<|end_of_image|>",
    "video_start_token_id": "<|begin_of_video|>",
    "video_end_token_id": "<|end_of_video|>",
}


def _qwen(
    config: Any,
    vision: dict[str, Any],
    text: dict[str, Any],
    patch_size: int,
    processor: Any,
    **more: Any,
) -> tuple[Any, Any]:
    tokenizer = toy_tokenizer(*QWEN_TOKENS)
    built = config(
        text_config=text_fields(tokenizer, **text),
        vision_config=vision,
        **token_ids(tokenizer, **_QWEN_IDS),
        **more,
    )
    videos = hf.Qwen2VLVideoProcessor() if patch_size == 14 else hf.Qwen3VLVideoProcessor()
    images = hf.Qwen2VLImageProcessor(patch_size=patch_size)
    return built, processor(images, tokenizer, videos, CHAT_ML % QWEN_VIDEO)


def qwen2_vl() -> tuple[Any, Any]:
    """Qwen2-VL, the first of its family."""
    vision = {"depth": 2, "embed_dim": 16, "num_heads": 2, "hidden_size": 32, "mlp_ratio": 2}
    text = {"rope_parameters": M_ROPE}
    return _qwen(hf.Qwen2VLConfig, vision, text, 14, hf.Qwen2VLProcessor)


def qwen3_vl_moe() -> tuple[Any, Any]:
    """Qwen3-VL with experts."""
    vision = {**_OUT, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    text = {"head_dim": 8, "rope_parameters": M_ROPE, "moe_intermediate_size": 16}
    text |= {"num_experts": 4, "num_experts_per_tok": 2}
    return _qwen(hf.Qwen3VLMoeConfig, vision, text, 16, hf.Qwen3VLProcessor)


def qwen3_5() -> tuple[Any, Any]:
    """Qwen3.5: layers of linear attention between those of full attention."""
    text = {
        **{"head_dim": 8, "rope_parameters": {**M_ROPE, "partial_rotary_factor": 1.0}},
        **{"num_hidden_layers": 4, "layer_types": ["linear_attention", "full_attention"] * 2},
        **{"linear_key_head_dim": 8, "linear_value_head_dim": 8},
        **{"linear_num_key_heads": 2, "linear_num_value_heads": 4},
    }
    vision = {**_OUT, "num_position_embeddings": 16}
    return _qwen(hf.Qwen3_5Config, vision, text, 16, hf.Qwen3VLProcessor)


def lfm3_vl() -> tuple[Any, Any]:
    """LFM3-VL: layers of short convolutions between those of attention."""
    vision = {**VISION, "num_hidden_layers": 2, "num_key_value_heads": 1}
    text = {"model_type": "lfm3", "layer_types": ["conv", "full_attention"]}
    sizes = {"projector_hidden_size": 32}
    return _qwen(hf.Lfm3VlConfig, vision, text, 16, hf.Lfm3VlProcessor, **sizes)


def exaone4_5() -> tuple[Any, Any]:
    """EXAONE 4.5."""
    vision = {**_OUT, "num_key_value_heads": 1, "window_size": 56, "fullatt_block_indexes": [1]}
    text = {"model_type": "exaone4"}
    return _qwen(hf.Exaone4_5_Config, vision, text, 14, hf.Exaone4_5_Processor)


def _glm(config: Any, processor: Any, images: Any, videos: Any) -> tuple[Any, Any]:
    tokenizer = toy_tokenizer(*_GLM_IDS.values())
    built = config(
        text_config=text_fields(tokenizer, rope_parameters=M_ROPE),
        vision_config={**_OUT, "image_size": 56},
        **token_ids(tokenizer, **_GLM_IDS),
    )
    video = "<|begin_of_video|><|video|><|end_of_video|>"
    return built, processor(images, tokenizer, videos, CHAT_ML % video)


def glm4v() -> tuple[Any, Any]:
    """GLM-4.1V."""
    parts = (hf.Glm4vImageProcessor(), hf.Glm4vVideoProcessor())
    return _glm(hf.Glm4vConfig, hf.Glm4vProcessor, *parts)


def glm46v() -> tuple[Any, Any]:
    """GLM-4.6V."""
    parts = (hf.Glm46VImageProcessor(), hf.Glm46VVideoProcessor())
    return _glm(hf.Glm46VConfig, hf.Glm46VProcessor, *parts)


def gemma4() -> tuple[Any, Any]:
    """Gemma 4: at most 70 tokens a frame, layers with a sliding window."""
    names = {
        **{"image_token": "<|image|>", "boi_token": "<|image>", "eoi_token": "<image|>"},
        **{"audio_token": "<|audio|>", "boa_token": "<|audio>", "eoa_token": "<audio|>"},
        "video_token": "<|video|>",
    }
    tokenizer = toy_tokenizer(**names)
    config = hf.Gemma4Config(
        text_config=text_fields(
            tokenizer,
            **{"head_dim": 8, "global_head_dim": 8, "sliding_window": 64},
            layer_types=["sliding_attention", "full_attention"],
            vocab_size_per_layer_input=len(tokenizer),
            hidden_size_per_layer_input=8,
        ),
        vision_config={**VISION, "num_key_value_heads": 2, "head_dim": 8, "num_hidden_layers": 2},
        audio_config=None,
        **token_ids(
            tokenizer,
            image_token_id="<|image|>",
            video_token_id="<|video|>",
            boi_token_id="<|image>",
            eoi_token_id="<image|>",
            audio_token_id="<|audio|>",
        ),
    )
    processor = hf.Gemma4Processor(
        hf.Gemma4AudioFeatureExtractor(),
        hf.Gemma4ImageProcessor(),
        tokenizer,
        hf.Gemma4VideoProcessor(),
        CHAT_ML % "<|video|>",
    )
    return config, processor


def molmo2() -> tuple[Any, Any]:
    """Molmo2: pooled patches of each frame between marks of its time."""
    ids = {
        **{"image_start_token_id": "<im_start>", "image_end_token_id": "<im_end>"},
        **{"low_res_image_start_token_id": "<low_res_im_start>", "image_patch_id": "<im_patch>"},
        **{"frame_start_token_id": "<frame_start>", "frame_end_token_id": "<frame_end>"},
    }
    tokenizer = toy_tokenizer(*ids.values(), "<im_col>", "<im_low>", "<|image|>", "<|video|>")
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}
    side = {"height": 56, "width": 56}
    config = hf.Molmo2Config(
        text_config=text_fields(tokenizer, head_dim=8, additional_vocab_size=8),
        vision_config={
            **{**VISION, **heads, "num_hidden_layers": 2, "image_size": [56, 56]},
            "num_position_embeddings": 16,
        },
        adapter_config={
            **{**heads, "hidden_size": 16, "intermediate_size": 32, "text_hidden_size": 32},
            "vision_feature_layer": [0, -1],
        },
        **token_ids(tokenizer, **ids),
    )
    processor = hf.Molmo2Processor(
        hf.Molmo2ImageProcessor(size=side),
        hf.Molmo2VideoProcessor(size=side),
        tokenizer,
        CHAT_ML % "<|video|>",
    )
    return config, processor


NEWER_BUILDERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    build.__name__: build
    for build in (
        *(qwen2_vl, qwen3_vl_moe, qwen3_5, lfm3_vl, exaone4_5),
        *(glm4v, glm46v, gemma4, molmo2),
    )
}
