"""Chat templates in the style of released models: what is learnt, and where an answer ends."""

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tests.reasoning.chat_families import family_tokenizer
from vidreason.reasoning.decoding import DecodingConfig, generate_ids
from vidreason.reasoning.text_batch import pad_token_id
from vidreason.reasoning.tokenization import (
    IGNORE_INDEX,
    encode_example,
    encode_prompt,
    end_of_turn_id,
)

ENDS = {
    "llama-3": "<|eot_id|>",
    "qwen2.5": "<|im_end|>",
    "smollm2": "<|im_end|>",
    "plain": "<|endoftext|>",
    "plain-without-bos": "</s>",
}


@pytest.fixture(scope="module", params=ENDS)
def family(request):
    return request.param, family_tokenizer(request.param), ENDS[request.param]


def test_targets_are_the_response_and_the_end_of_turn(family):
    _, tokenizer, end = family
    prompt_ids = encode_prompt(tokenizer, "Why did it fall?")
    encoded = encode_example(tokenizer, "Why did it fall?", "It was pushed.", max_tokens=300)
    assert encoded.input_ids[: len(prompt_ids)] == prompt_ids
    assert encoded.labels[: len(prompt_ids)] == [IGNORE_INDEX] * len(prompt_ids)
    targets = encoded.labels[len(prompt_ids) :]
    assert targets == encoded.input_ids[len(prompt_ids) :]
    assert tokenizer.decode(targets).strip() == f"It was pushed.{end}"
    assert targets[-1] == end_of_turn_id(tokenizer) == tokenizer.convert_tokens_to_ids(end)
    # A pad token that is also the end of turn is learnt where it ends a turn.
    assert pad_token_id(tokenizer) in (0, tokenizer.pad_token_id)


def test_prompts_have_the_families_form(family):
    name, tokenizer, _ = family
    expected = {
        "llama-3": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "qwen2.5": "<|im_start|>system\nYou are Qwen.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n"
        "<|im_start|>assistant\n",
        "smollm2": "<|im_start|>system\nYou are SmolLM.<|im_end|>\n<|im_start|>user\nWhy?"
        "<|im_end|>\n<|im_start|>assistant\n",
        "plain": "<|endoftext|>User: Why?\nAssistant:",
        "plain-without-bos": "User: Why?\nAssistant:",
    }
    ids = encode_prompt(tokenizer, "Why?")
    assert tokenizer.decode(ids) == expected[name]
    if name in ("llama-3", "plain"):
        assert ids.count(tokenizer.bos_token_id) == 1


class SaysThenStops(torch.nn.Module):
    """Stands in for a model of transformers whose ``generate`` chooses these tokens."""

    def __init__(self, ids):
        super().__init__()
        self.ids = ids

    def generate(self, *, generation_config, **_):
        stops = set(generation_config.eos_token_id)
        last = next(place for place, token in enumerate(self.ids) if token in stops)
        padding = [generation_config.pad_token_id] * (len(self.ids) - last - 1)
        return torch.tensor([self.ids[: last + 1] + padding])


def test_an_answer_ends_at_the_end_of_turn(family):
    _, tokenizer, end = family
    said = tokenizer("So.", add_special_tokens=False)["input_ids"]
    stop = end_of_turn_id(tokenizer)
    model = SaysThenStops([*said, stop, *said])
    decoding = DecodingConfig(max_new_tokens=9)
    ids = generate_ids(model, torch.zeros(1, 1, 2), torch.ones(1, 1), decoding, [stop])
    assert tokenizer.decode(ids[0]) == "So."
    assert end not in tokenizer.decode(ids[0])


def test_a_sentencepiece_style_tokenizer_keeps_the_prompt_a_prefix():
    # Pieces carry their leading space, and the first word of a text gets one.
    words = ["<unk>", "<s>", "</s>", "\u2581", "\u2581User:", "\u2581Why?", "\n", "Assistant:"]
    words += ["\u2581So", "\u2581it", "\u2581is.", "\n\u2581", "\u2581Assistant:"]
    letters = sorted({c for w in words[3:] for c in w} - set(words))
    vocabulary = [(word, -2.0) for word in words] + [(letter, -9.0) for letter in letters]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in ("<unk>", "<s>", "</s>")])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    prompt_ids = encode_prompt(wrapped, "Why?")
    encoded = encode_example(wrapped, "Why?", "So it is.", max_tokens=50)
    assert encoded.input_ids[: len(prompt_ids)] == prompt_ids
    assert prompt_ids.count(1) == 1
    assert wrapped.decode(encoded.labels[len(prompt_ids) :]).strip() == "So it is.</s>"
    assert 0 not in encoded.input_ids
