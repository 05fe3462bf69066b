"""Pre-training of the microworld's language model, a small Llama that has never seen a picture.

Its text is a story of a rollout followed by an instruction about it and the right response. The
story stands where the video embeddings will stand later (section 3.3: ``[E_vision; E_text]``), so
what stage 1 has to find are embeddings that say what a story says. Noise on the story's word
embeddings makes the model forgiving towards embeddings that are not quite words, and some
instructions come without a story, so that the model also knows what it is like to be blind.
"""

import math
import random
from collections.abc import Iterator
from itertools import count, islice
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from vidreason.microworld.corpora import instructions
from vidreason.microworld.language import caption
from vidreason.microworld.parts import NUM_LAYERS, WIDTH
from vidreason.microworld.pretraining import autocast, minimise
from vidreason.microworld.scenes import draw_rollout
from vidreason.reasoning.prompts import CAPTION_PROMPT, EVENT_REASONING_PROMPT
from vidreason.reasoning.tokenization import IGNORE_INDEX, encode_example

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_SPECIAL_TOKENS = ("<|pad|>", "<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
_BLIND_SHARE = 0.1
_SCRAMBLED_SHARE = 0.3
"""Documents that are words in random order, to be repeated. Stories are so regular that a small
model is slow to find out that it can read them (measured: 1,200 steps were not enough); random
words can only be repeated by reading them (measured, with the larger initial weights below: 150
steps)."""
_EMBEDDING_NOISE = 0.2
"""Standard deviation of the noise on story embeddings, relative to theirs."""
_ROLLOUTS_PER_BLOCK = 400
_HEAD_WIDTH = 32

Document = tuple[str, str, str]
"""Story, prompt and response."""


def train_tokenizer(vocab_size: int, seed: int = 0) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer on the world's text: any other text is spelled out in bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(_SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (text for document in islice(documents(seed), 20_000) for text in document)
    tokenizer.train_from_iterator([EVENT_REASONING_PROMPT, *texts], trainer)
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, bos_token="<|bos|>", eos_token="<|end|>", pad_token="<|pad|>"
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def documents(seed: int) -> Iterator[Document]:
    """An endless stream of documents about rollouts of the split ``pretraining``."""
    for block in count():
        generator = random.Random(f"pretraining/{seed}/documents/{block}")
        rollouts = [draw_rollout(generator) for _ in range(_ROLLOUTS_PER_BLOCK)]
        stories = [caption(rollout) for rollout in rollouts]
        drawn = instructions(rollouts, generator)
        words = sorted(set(" ".join(stories).split()))
        for _ in range(int(_SCRAMBLED_SHARE * len(drawn))):
            scrambled = " ".join(generator.sample(words, generator.randrange(8, 30)))
            drawn.append((len(stories), CAPTION_PROMPT, scrambled))
            stories.append(scrambled)
        generator.shuffle(drawn)
        for number, prompt, response in drawn:
            blind = number < len(rollouts) and generator.random() < _BLIND_SHARE
            yield "" if blind else stories[number], prompt, response


def build_language_model(
    tokenizer: PreTrainedTokenizerFast,
    seed: int = 0,
    *,
    width: int = WIDTH,
    num_layers: int = NUM_LAYERS,
) -> LlamaForCausalLM:
    """A Llama of random parameters for this tokenizer; two million of them if not said otherwise.

    Raises:
        ValueError: The width is no multiple of the width of an attention head.
    """
    if width < _HEAD_WIDTH or width % _HEAD_WIDTH:
        raise ValueError(
            f"width: expected a multiple of {_HEAD_WIDTH}, an attention head's, found {width}"
        )
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=8 * width // 3,
            num_hidden_layers=num_layers,
            num_attention_heads=width // _HEAD_WIDTH,
            num_key_value_heads=width // _HEAD_WIDTH,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            # About 1 / sqrt(width). The usual 0.02, without random words, did not learn to read.
            initializer_range=0.06 * math.sqrt(WIDTH / width),
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def pretrain_language_model(
    tokenizer: PreTrainedTokenizerFast,
    *,
    steps: int,
    width: int = WIDTH,
    num_layers: int = NUM_LAYERS,
    batch_size: int = 32,
    learning_rate: float = 2e-3,
    seed: int = 0,
    report_every: int = 50,
    start: LlamaForCausalLM | None = None,
) -> Iterator[tuple[int, dict[str, float], LlamaForCausalLM]]:
    """Train a Llama; yields ``(step, losses, model)`` now and then.

    It is ``start``, or one of random weights and the given sizes.
    """
    torch.manual_seed(seed)
    model = start or build_language_model(tokenizer, seed, width=width, num_layers=num_layers)
    model.train()
    batches = _batches(tokenizer, documents(seed + 1), batch_size, random.Random(seed))
    for step, losses in minimise(
        model.parameters(),
        (_losses(model, rows) for rows in batches),
        {"response": 1.0, "story": 0.2},
        steps=steps,
        learning_rate=learning_rate,
        weight_decay=0.05,
        report_every=report_every,
    ):
        yield step, losses, model


_Row = tuple[list[int], list[int], list[int]]


def _batches(
    tokenizer: PreTrainedTokenizerFast,
    stream: Iterator[Document],
    batch_size: int,
    generator: random.Random,
) -> Iterator[list[_Row]]:
    """Batches of rows of similar length: padding would otherwise be half of the work."""
    while True:
        rows = [_encode(tokenizer, document) for document in islice(stream, 8 * batch_size)]
        rows.sort(key=lambda row: len(row[0]) + len(row[1]))
        batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
        generator.shuffle(batches)
        yield from batches


def _encode(tokenizer: PreTrainedTokenizerFast, document: Document) -> _Row:
    story, prompt, response = document
    story_ids: list[int] = tokenizer(story, add_special_tokens=False)["input_ids"]
    text = encode_example(tokenizer, prompt, response, max_tokens=400)
    return story_ids, text.input_ids, text.labels


def _losses(model: LlamaForCausalLM, rows: list[_Row]) -> dict[str, Tensor]:
    """Mean cross-entropy of response tokens and of story tokens."""
    longest = max(len(story) + len(ids) for story, ids, _ in rows)
    pad: Any = model.config.pad_token_id
    input_ids = torch.full((len(rows), longest), pad)
    in_story = torch.zeros(len(rows), longest, dtype=torch.bool)
    labels = torch.full((len(rows), longest), IGNORE_INDEX)
    mask = torch.zeros(len(rows), longest, dtype=torch.int64)
    for row, (story, ids, targets) in enumerate(rows):
        length = len(story) + len(ids)
        input_ids[row, :length] = torch.tensor(story + ids)
        labels[row, len(story) : length] = torch.tensor(targets)
        in_story[row, : len(story)] = True
        mask[row, :length] = 1
    embeddings = model.get_input_embeddings()(input_ids)
    noise = torch.randn_like(embeddings) * (_EMBEDDING_NOISE * embeddings.detach().std())
    embeddings = embeddings + noise * in_story[..., None]
    with autocast():
        logits = model(inputs_embeds=embeddings, attention_mask=mask).logits[:, :-1].float()
    story_labels = torch.where(in_story, input_ids, IGNORE_INDEX)[:, 1:]
    return {
        "response": cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten()),
        # A batch may have no story at all, and a mean of nothing is not a number.
        "story": cross_entropy(logits.flatten(0, 1), story_labels.flatten(), reduction="sum")
        / (story_labels != IGNORE_INDEX).sum().clamp(min=1),
    }
