"""From examples to batches; an unreadable video keeps its place and teaches nothing."""

import pickle
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from data_modules.video_text import Collator, VideoTextDataset
from vidreason.example import Example
from vidreason.perception.visual_tokens import VisualTokens
from vidreason.reasoning.text_batch import pad_token_id
from vidreason.reasoning.tokenization import IGNORE_INDEX, encode_prompt
from vidreason.video.reader import VideoReadError

MakeTokens = Callable[..., VisualTokens]


def example(number: int, response: str = "A ball rolls.") -> Example:
    return Example(
        id=f"webvid:train:{number}",
        corpus="webvid",
        media=f"/v/{number}.mp4",
        video_id=str(number),
        start_seconds=float(number),
        prompt="Describe the video.",
        response=response,
    )


def dataset(
    make: MakeTokens, tokenizer: PreTrainedTokenizerFast, examples: list[Example]
) -> VideoTextDataset:
    def source(media: str, start: float | None, end: float | None) -> VisualTokens:
        assert (start, end) == (float(media[3]), None)
        if media == "/v/2.mp4":
            raise VideoReadError(media, "truncated", "moov atom not found")
        return make(2, int(media[3]), seed=int(media[3]), visual_dim=6)

    return VideoTextDataset(examples, source, tokenizer, max_text_tokens=128)


def test_a_batch_holds_ids_tokens_and_labels_on_the_response_only(
    make_visual_tokens: MakeTokens, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    examples = [example(0), example(1, "A much longer caption of the video.")]
    data = dataset(make_visual_tokens, tiny_tokenizer, examples)
    collator = Collator(visual_dim=6, pad_token_id=pad_token_id(tiny_tokenizer))
    batch = collator([data[0], data[1]])
    assert batch["ids"] == ["webvid:train:0", "webvid:train:1"]
    assert batch["failures"] == []
    assert batch["visual"]["mask"].sum(dim=1).tolist() == [2, 3]
    prompt = encode_prompt(tiny_tokenizer, "Describe the video.")
    for row, text in enumerate(e.response for e in examples):
        length = int(batch["attention_mask"][row].sum())
        labels, ids = batch["labels"][row], batch["input_ids"][row]
        assert ids[: len(prompt)].tolist() == prompt
        assert (labels[: len(prompt)] == IGNORE_INDEX).all()
        assert (labels[length:] == IGNORE_INDEX).all()
        assert torch.equal(labels[len(prompt) : length], ids[len(prompt) : length])
        assert tiny_tokenizer.decode(ids[len(prompt) : length - 1]) == text
        assert (ids[length:] == tiny_tokenizer.pad_token_id).all()


def test_an_unreadable_video_keeps_its_place_without_tokens_and_targets(
    make_visual_tokens: MakeTokens, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    data = dataset(make_visual_tokens, tiny_tokenizer, [example(n) for n in range(4)])
    collator = Collator(visual_dim=6, pad_token_id=0)
    batch = collator([data[index] for index in range(4)])
    assert batch["ids"][2] == "webvid:train:2"
    assert not batch["visual"]["mask"][2].any()
    assert (batch["labels"][2] == IGNORE_INDEX).all()
    (failure,) = batch["failures"]
    assert tuple(failure) == (
        *("webvid:train:2", "/v/2.mp4"),
        *("truncated", "moov atom not found"),
    )
    alone = collator([data[2]])
    assert alone["visual"]["features"].shape == (1, 1, 6)
    assert not alone["visual"]["mask"].any()
    # It has to reach the main process out of a worker.
    assert pickle.loads(pickle.dumps(batch["failures"])) == batch["failures"]


def test_a_bfloat16_store_next_to_an_unreadable_video(
    make_visual_tokens: MakeTokens, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    data = dataset(make_visual_tokens, tiny_tokenizer, [example(1), example(2)])
    tokens = make_visual_tokens(2, 1, visual_dim=6)
    stored = replace(data[0], tokens=replace(tokens, features=tokens.features.bfloat16()))
    batch = Collator(visual_dim=6, pad_token_id=0)([data[1], stored])
    assert batch["visual"]["features"].dtype == torch.bfloat16


def test_errors(make_visual_tokens: MakeTokens, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    data = dataset(make_visual_tokens, tiny_tokenizer, [example(0), example(1, response="")])
    with pytest.raises(ValueError, match=r"'webvid:train:1' has no response"):
        data[1]
    with pytest.raises(ValueError, match="width 6, expected 5"):
        Collator(visual_dim=5, pad_token_id=0)([data[0]])
