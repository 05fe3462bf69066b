"""From examples to batches; an unreadable video keeps its place and teaches nothing."""

import pickle
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from data_modules.training_data import move_batch
from data_modules.video_text import Collator, VideoTextDataset
from vidreason.example import Example
from vidreason.perception.visual_tokens import VisualTokens
from vidreason.reasoning.tokenization import encode_prompt
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
    batch = Collator(visual_dim=6)([data[0], data[1]])
    assert batch["ids"] == ["webvid:train:0", "webvid:train:1"]
    assert batch["failures"] == []
    assert batch["visual"]["mask"].sum(dim=1).tolist() == [2, 3]
    prompt = encode_prompt(tiny_tokenizer, "Describe the video.")
    text = batch["text"]
    starts = [0, *text["lengths"].cumsum(0).tolist()]
    assert starts[-1] == len(text["input_ids"])
    assert text["longest"] == max(text["lengths"])
    for row, response in enumerate(e.response for e in examples):
        ids = text["input_ids"][starts[row] : starts[row + 1]].tolist()
        in_row = text["target_rows"] == row
        targets = text["target_ids"][in_row].tolist()
        columns = text["target_columns"][in_row].tolist()
        # All but the last token are there to predict from; the targets follow the prompt.
        assert ids == prompt + targets[:-1]
        assert columns == [len(prompt) + number for number in range(len(targets))]
        assert tiny_tokenizer.decode(targets[:-1]) == response


def test_an_unreadable_video_keeps_its_position_without_tokens_and_targets(
    make_visual_tokens: MakeTokens, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    data = dataset(make_visual_tokens, tiny_tokenizer, [example(n) for n in range(4)])
    collator = Collator(visual_dim=6)
    batch = collator([data[index] for index in range(4)])
    assert batch["ids"][2] == "webvid:train:2"
    assert not batch["visual"]["mask"][2].any()
    assert sorted(set(batch["text"]["target_rows"].tolist())) == [0, 1, 3]
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
    batch = Collator(visual_dim=6)([data[1], stored])
    assert batch["visual"]["features"].dtype == torch.bfloat16


def test_a_batch_moves_with_its_tensors_alone_and_not_within_the_host(
    make_visual_tokens: MakeTokens, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    data = dataset(make_visual_tokens, tiny_tokenizer, [example(0)])
    batch = Collator(visual_dim=6)([data[0]])
    assert move_batch(batch, torch.device("cpu")) is batch
    moved = move_batch(batch, torch.device("meta"))
    assert all(tensor.is_meta for tensor in moved["visual"].values())
    assert moved["text"]["target_ids"].is_meta
    assert moved["text"]["longest"] == batch["text"]["longest"]
    assert moved["ids"] == ["webvid:train:0"]


def test_errors(make_visual_tokens: MakeTokens, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    data = dataset(make_visual_tokens, tiny_tokenizer, [example(0), example(1, response="")])
    with pytest.raises(ValueError, match=r"'webvid:train:1' has no response"):
        data[1]
    with pytest.raises(ValueError, match="width 6, expected 5"):
        Collator(visual_dim=5)([data[0]])
