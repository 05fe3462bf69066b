"""Tiny random video language models of transformers, saved as the released ones are.

Each folder has ``config.json``, weights, a toy tokenizer of one token a byte, a processor and a
chat template in the released model's form (its header, where the video stands, how a turn ends).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModelForImageTextToText,
    CLIPVisionConfig,
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLProcessor,
    InternVLVideoProcessor,
    InternVLVisionConfig,
    LlamaConfig,
    LlavaNextImageProcessor,
    LlavaNextVideoConfig,
    LlavaNextVideoProcessor,
    LlavaNextVideoVideoProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLProcessor,
    Qwen2Config,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SiglipVisionConfig,
    VideoLlama3Config,
    VideoLlama3ImageProcessor,
    VideoLlama3Processor,
    VideoLlama3VideoProcessor,
    VideoLlama3VisionConfig,
    VideoLlavaConfig,
    VideoLlavaImageProcessor,
    VideoLlavaProcessor,
    VideoLlavaVideoProcessor,
)

VISION = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
_TEXT = {
    **{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096},
    # Ten times the usual spread, so that random logits differ by more than rounding does.
    "initializer_range": 0.2,
}
M_ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}

CHAT_ML = (
    "{%% for message in messages %%}<|im_start|>{{ message['role'] }}\n"
    "{%% for part in message['content'] %%}"
    "{%% if part['type'] == 'video' %%}%s{%% else %%}{{ part['text'] }}{%% endif %%}"
    "{%% endfor %%}<|im_end|>\n{%% endfor %%}"
    "{%% if add_generation_prompt %%}<|im_start|>assistant\n{%% endif %%}"
)
_VICUNA = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for part in message['content'] if part['type'] == 'video' %}<video>\n{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] + ' ' }}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
QWEN_VIDEO = "<|vision_start|><|video_pad|><|vision_end|>"
QWEN_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")


def toy_tokenizer(
    *control: str, merges: tuple[tuple[str, str], ...] = (), vicuna: bool = False, **names: str
) -> PreTrainedTokenizerFast:
    """One token a byte, and one a merge; as a ChatML or as a Vicuna model has it.

    Args:
        control: Further control tokens.
        merges: Pairs of pieces that are one token; a blank is ``\u0120``.
        vicuna: ``<s>`` before every text, as Llama has it, and ``</s>`` at the end.
        names: Control tokens by the names that a processor has for them.
    """
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges)]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    ends = ("<s>", "</s>", "<pad>") if vicuna else ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
    named = dict.fromkeys([*ends, *control, *names.values()])
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in named])
    if vicuna:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>" if vicuna else None,
        eos_token="</s>" if vicuna else "<|im_end|>",
        pad_token="<pad>" if vicuna else "<|endoftext|>",
        extra_special_tokens=names,
        clean_up_tokenization_spaces=False,
    )


def text_fields(tokenizer: PreTrainedTokenizerFast, **more: Any) -> dict[str, Any]:
    """Return the configuration of a tiny language model for a tokenizer."""
    return {
        **_TEXT,
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **more,
    }


def token_ids(tokenizer: PreTrainedTokenizerFast, **tokens: str) -> dict[str, int]:
    """Return fields of a configuration with the ids of tokens."""
    return {name: tokenizer.convert_tokens_to_ids(token) for name, token in tokens.items()}


def qwen2_5_vl() -> tuple[Any, Any]:
    """Qwen2.5-VL: patches of 14, pairs of frames, 2 x 2 patches a token."""
    tokenizer = toy_tokenizer(*QWEN_TOKENS)
    config = Qwen2_5_VLConfig(
        text_config=text_fields(tokenizer, rope_parameters=M_ROPE),
        vision_config={
            **{"depth": 2, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2},
            **{"out_hidden_size": 32, "window_size": 56, "fullatt_block_indexes": [1]},
        },
        **token_ids(
            tokenizer,
            image_token_id="<|image_pad|>",
            video_token_id="<|video_pad|>",
            vision_start_token_id="<|vision_start|>",
            vision_end_token_id="<|vision_end|>",
        ),
    )
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(), tokenizer, Qwen2VLVideoProcessor(), CHAT_ML % QWEN_VIDEO
    )
    return config, processor


def qwen3_vl() -> tuple[Any, Any]:
    """Qwen3-VL: patches of 16, a time before each pair of frames, deep layers' features added."""
    tokenizer = toy_tokenizer(*QWEN_TOKENS)
    config = Qwen3VLConfig(
        text_config=text_fields(tokenizer, head_dim=8, rope_parameters=M_ROPE),
        vision_config={
            **{"depth": 2, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2},
            **{"out_hidden_size": 32, "num_position_embeddings": 16},
            "deepstack_visual_indexes": [0],
        },
        **token_ids(
            tokenizer,
            image_token_id="<|image_pad|>",
            video_token_id="<|video_pad|>",
            vision_start_token_id="<|vision_start|>",
            vision_end_token_id="<|vision_end|>",
        ),
    )
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessor(patch_size=16),
        tokenizer,
        Qwen3VLVideoProcessor(),
        CHAT_ML % QWEN_VIDEO,
    )
    return config, processor


def internvl3() -> tuple[Any, Any]:
    """InternVL3: each frame a picture of fixed size, named ``Frame1`` and so on."""
    tokenizer = toy_tokenizer(
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )
    side = {"height": 28, "width": 28}
    config = InternVLConfig(
        vision_config=InternVLVisionConfig(
            **VISION, num_hidden_layers=2, image_size=[28, 28], patch_size=[7, 7]
        ),
        text_config=Qwen2Config(**text_fields(tokenizer)),
        image_seq_length=4,
        tie_word_embeddings=False,
        **token_ids(tokenizer, image_token_id="<IMG_CONTEXT>"),
    )
    processor = InternVLProcessor(
        GotOcr2ImageProcessor(size=side, crop_to_patches=False),
        tokenizer,
        InternVLVideoProcessor(size=side),
        image_seq_length=4,
        chat_template=CHAT_ML % "<video>\n",
    )
    return config, processor


def llava_onevision() -> tuple[Any, Any]:
    """LLaVA-OneVision: pooled patches of all frames, and one token for a new line."""
    tokenizer = toy_tokenizer(image_token="<image>", video_token="<video>")
    side = {"height": 28, "width": 28}
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(
            **VISION, num_hidden_layers=2, image_size=28, patch_size=7, vision_use_head=False
        ),
        text_config=Qwen2Config(**text_fields(tokenizer)),
        image_grid_pinpoints=[[28, 28]],
        **token_ids(tokenizer, image_token_index="<image>", video_token_index="<video>"),
    )
    processor = LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size=side, image_grid_pinpoints=[[28, 28]]),
        tokenizer,
        LlavaOnevisionVideoProcessor(size=side),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=CHAT_ML % "<video>\n",
    )
    return config, processor


def videollama3() -> tuple[Any, Any]:
    """VideoLLaMA3: a time before each frame, tokens like those of the frame before left out."""
    tokenizer = toy_tokenizer(*QWEN_TOKENS)
    config = VideoLlama3Config(
        vision_config=VideoLlama3VisionConfig(**VISION, num_hidden_layers=2, patch_size=14),
        text_config=Qwen2Config(**text_fields(tokenizer)),
        **token_ids(tokenizer, image_token_id="<|image_pad|>", video_token_id="<|video_pad|>"),
    )
    processor = VideoLlama3Processor(
        VideoLlama3ImageProcessor(),
        tokenizer,
        VideoLlama3VideoProcessor(),
        CHAT_ML % "<|video_pad|>\n",
    )
    return config, processor


def llava_next_video() -> tuple[Any, Any]:
    """LLaVA-NeXT-Video: pooled patches; Vicuna's form, in which an answer begins with a blank."""
    tokenizer = toy_tokenizer(
        *("<image>", "<video>"),
        # A blank and a letter are one token, as in Llama's vocabulary.
        merges=tuple(("\u0120", letter) for letter in "ABCDEFGH"),
        vicuna=True,
    )
    side = {"height": 28, "width": 28}
    config = LlavaNextVideoConfig(
        vision_config=CLIPVisionConfig(
            **VISION, num_hidden_layers=2, image_size=28, patch_size=7, projection_dim=16
        ),
        text_config=LlamaConfig(**text_fields(tokenizer)),
        image_grid_pinpoints=[[28, 28]],
        image_seq_length=16,
        video_seq_length=8,
        **token_ids(tokenizer, image_token_index="<image>", video_token_index="<video>"),
    )
    processor = LlavaNextVideoProcessor(
        LlavaNextVideoVideoProcessor(size={"shortest_edge": 28}, crop_size=side),
        LlavaNextImageProcessor(
            size={"shortest_edge": 28}, crop_size=side, image_grid_pinpoints=[[28, 28]]
        ),
        tokenizer,
        patch_size=7,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_VICUNA,
    )
    return config, processor


def video_llava() -> tuple[Any, Any]:
    """Video-LLaVA: all patches of all frames; its repository has no chat template."""
    tokenizer = toy_tokenizer("<image>", "<video>", vicuna=True)
    side = {"height": 28, "width": 28}
    config = VideoLlavaConfig(
        vision_config=CLIPVisionConfig(
            **VISION, num_hidden_layers=2, image_size=28, patch_size=14, projection_dim=16
        ),
        text_config=LlamaConfig(**text_fields(tokenizer)),
        image_seq_length=4,
        video_seq_length=40,
        **token_ids(tokenizer, image_token_index="<image>", video_token_index="<video>"),
    )
    processor = VideoLlavaProcessor(
        VideoLlavaImageProcessor(size={"shortest_edge": 28}, crop_size=side),
        VideoLlavaVideoProcessor(size={"shortest_edge": 28}, crop_size=side),
        tokenizer,
        patch_size=14,
    )
    return config, processor


BUILDERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "internvl3": internvl3,
    "llava_onevision": llava_onevision,
    "videollama3": videollama3,
    "llava_next_video": llava_next_video,
    "video_llava": video_llava,
}
"""By the name of the preset."""


def write_tiny_video_model(build: Callable[[], tuple[Any, Any]], folder: Path) -> str:
    """Write a tiny model into a folder, float32, always the same."""
    config, processor = build()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        auto: Any = AutoModelForImageTextToText
        auto.from_config(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)
