"""Tiny random models of transformers for each part of program synthesis, as folders."""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, processors
from transformers import (
    BertConfig,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPVisionConfig,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    DPTImageProcessor,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessor,
    Owlv2Processor,
    PreTrainedTokenizerFast,
    SwinConfig,
)

TEXT = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
VISION = TEXT | {"image_size": 32, "patch_size": 16}
CHAT_TEMPLATE = (
    "{% for message in messages %}<|user|>{% for part in message['content'] %}"
    "{{ '<image>\n' if part['type'] == 'image' else part['text'] }}{% endfor %}"
    "<|end_of_turn|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def write_clip(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    ids = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id}
    text = TEXT | ids | {"vocab_size": len(tokenizer), "max_position_embeddings": 77}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=16))
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    _write(folder, model, CLIPProcessor(CLIPImageProcessor(**sizes), _short(tokenizer, 77)))


def write_owl(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    ids = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id}
    text = TEXT | ids | {"vocab_size": len(tokenizer), "max_position_embeddings": 16}
    config = Owlv2Config(text_config=text, vision_config=VISION, projection_dim=16)
    model = Owlv2ForObjectDetection(config)
    sizes = {"size": {"height": 32, "width": 32}}
    _write(folder, model, Owlv2Processor(Owlv2ImageProcessor(**sizes), _short(tokenizer, 16)))


def write_depth(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    backbone = Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=16,
        patch_size=14,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
    )
    sizes = {"size": {"height": 28, "width": 28}, "ensure_multiple_of": 14}
    _write(folder, DepthAnythingForDepthEstimation(config), DPTImageProcessor(**sizes))


def write_blip2(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    size = len(tokenizer) + 1  # and the token for the picture, which the processor adds
    config = Blip2Config(
        vision_config=VISION,
        qformer_config=TEXT | {"encoder_hidden_size": 16, "vocab_size": size},
        text_config={
            "model_type": "opt",
            "vocab_size": size,
            "hidden_size": 16,
            "word_embed_proj_dim": 16,
            "ffn_dim": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "max_position_embeddings": 256,
            "pad_token_id": tokenizer.pad_token_id,
        },
        num_query_tokens=4,
        image_token_index=size - 1,
    )
    sizes = {"size": {"height": 32, "width": 32}}
    processor = Blip2Processor(BlipImageProcessor(**sizes), tokenizer, num_query_tokens=4)
    _write(folder, Blip2ForConditionalGeneration(config), processor)


def write_llava(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer = _with_image_token(tokenizer)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION),
        text_config=LlamaConfig(vocab_size=len(tokenizer), num_key_value_heads=2, **TEXT),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=4,
        vision_feature_layer=-1,
    )
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    processor = LlavaProcessor(
        CLIPImageProcessor(**sizes),
        tokenizer,
        patch_size=16,
        vision_feature_select_strategy="default",
        chat_template=CHAT_TEMPLATE,
        num_additional_image_tokens=1,
    )
    _write(folder, LlavaForConditionalGeneration(config), processor)


def write_grounding_dino(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    # The tokens that cut the text into names are BERT's: [CLS], [SEP], "." and "?".
    copied = _copied(tokenizer)
    backbone = SwinConfig(
        image_size=32,
        patch_size=2,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 1, 1],
        window_size=2,
        out_features=["stage2", "stage3", "stage4"],
    )
    text = BertConfig(vocab_size=1200, max_position_embeddings=256, **TEXT)
    config = GroundingDinoConfig(
        backbone_config=backbone,
        text_config=text,
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_queries=6,
        max_text_len=32,
    )
    sizes = {"size": {"shortest_edge": 32, "longest_edge": 64}}
    processor = GroundingDinoProcessor(GroundingDinoImageProcessor(**sizes), copied)
    _write(folder, GroundingDinoForObjectDetection(config), processor)


def _with_image_token(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    return _copied(tokenizer, extra_special_tokens={"image_token": "<image>"})


def _short(tokenizer: PreTrainedTokenizerFast, length: int) -> PreTrainedTokenizerFast:
    """Return the tokenizer with a longest text, which ends with the token that CLIP pools at."""
    return _copied(tokenizer, ends=True, model_max_length=length)


def _copied(
    tokenizer: PreTrainedTokenizerFast, ends: bool = False, **options: Any
) -> PreTrainedTokenizerFast:
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    if ends:
        names = [tokenizer.bos_token, tokenizer.eos_token]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{names[0]} $A {names[1]}",
            special_tokens=[(name, backend.token_to_id(name)) for name in names],
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=tokenizer.bos_token,
        eos_token=tokenizer.eos_token,
        pad_token=tokenizer.pad_token,
        **options,
    )


def _write(folder: Path, model: Any, processor: Any) -> None:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
