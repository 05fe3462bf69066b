"""Pre-training of the microworld's language model, a small Llama that has never seen a picture.

Its text is a story of a rollout followed by an instruction about it and the right response. The
story stands where the video embeddings will stand later (section 3.3: ``[E_vision; E_text]``), a
sentence an embedding, each eighth of which is that part of one word's embedding. So what stage 1
has to find is, for each thing and event of a video, one embedding that holds what is to be said
about it; as word after word, in order, it did not find them (measured: 300 steps lowered the loss
of a caption's token from 2.0 to 1.9). Sentences stand in any order, some twice, and noise makes the
model forgiving towards embeddings that are not quite made of words. Some instructions come without
a story, so that the model also knows what it is like to be blind.

Each word has dimensions of its own, because an attention head reads few: of the sum of all words,
each with random signs, a head with a sixth of the width would see each through the others.

Shapes: B documents, S sentences, W words of a sentence, D width.
"""

import math
import random
from collections.abc import Iterator, Sequence
from itertools import count, islice

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from vidreason.microworld.corpora import instructions
from vidreason.microworld.language import WAYS, next_sentence, story
from vidreason.microworld.parts import NUM_LAYERS, WIDTH
from vidreason.microworld.pretraining import autocast, minimise
from vidreason.microworld.scenes import draw_rollout
from vidreason.microworld.simulation import SHAPES, Rollout
from vidreason.reasoning.prompts import (
    CAPTION_PROMPT,
    EVENT_REASONING_PROMPT,
    FUTURE_PREDICTION_PROMPT,
)
from vidreason.reasoning.tokenization import IGNORE_INDEX, encode_example

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_SPECIAL_TOKENS = ("<|pad|>", "<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
_MOTION = rf" (?:fast|slowly)(?= )| (?:{'|'.join(sorted(WAYS, key=len, reverse=True))}) at(?= )"
"""Speed and direction apart: each pair would be too rare to be learnt."""
_PHRASE = "|".join(
    (
        rf" ?(?:(?:the|an?) )?[a-z]+ (?:{'|'.join(SHAPES)})\b[.?]?",  # an object
        _MOTION,
        r" ?[a-p](?=\d{1,2}\b)",  # a square's column
        r"\d{1,2}\b(?!\.\d)\.?",  # its row
        r"(?: after)? ?\d+\.\d+(?: seconds)?\.?",
        # Words up to an object, a motion, a square, a number, a mark or the end of the line.
        rf" ?(?:(?! the | an? | [a-p]?\d| after \d|{_MOTION})[^\n.,:?()])+[.,:?)]?",
        r"\s|[.,:?()]",
    )
)
"""Phrases that a token is a part of."""
_BLIND_SHARE = 0.1
_FORESEEN_SHARE = 0.5
"""Stories that also tell what happens next. So the model can say it if an embedding holds it, and
the fusion core, which sees more finely than words tell, can learn to reckon it."""
_MAX_SENTENCES = 32
"""Embeddings that a story is told in at most, as many as the fusion core has queries."""
_MAX_WORDS = 8
"""Tokens of a sentence that an embedding can tell; no sentence of 150 videos had more."""
_EMBEDDING_NOISE = 0.2
"""Standard deviation of the noise on story embeddings, relative to theirs."""
_OTHER_INSTRUCTIONS = 2
"""Questions and explanations about a story, beside one prediction and one caption. Most of the
model's use is to know what comes next, and a caption asks for everything that can be read."""
_ROLLOUTS_PER_BLOCK = 400  # drawn from one seed
_HEAD_WIDTH = 32  # channels of an attention head

Document = tuple[list[str], str, str]
"""Sentences of the story, prompt and response."""


def train_tokenizer(vocab_size: int, seed: int = 0) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer on the world's text: any other text is spelled out in bytes.

    A token may be several words ("SuperBPE", Liu et al. 2025), such as `` the red circle``: a
    caption of 70 words has 36 tokens.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PHRASE), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(_SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (
        text
        for sentences, *others in islice(documents(seed), 20_000)
        for text in (*sentences, *others)
    )
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
        stories = [[f" {text}." for text in story(rollout)] for rollout in rollouts]
        # As a prediction begins, which makes it easy to find.
        next_sentences = [f"1. {next_sentence(each, each.next_event())}." for each in rollouts]
        drawn = _some_instructions(rollouts, generator)
        generator.shuffle(drawn)
        for number, prompt, response in drawn:
            if generator.random() < _BLIND_SHARE:
                yield [], prompt, response
                continue
            is_foreseen = generator.random() < _FORESEEN_SHARE
            foreseen = [*stories[number], next_sentences[number]]
            yield foreseen if is_foreseen else stories[number], prompt, response
            if prompt == FUTURE_PREDICTION_PROMPT and not is_foreseen:
                # Again, to be read and not reckoned: so few words of a few documents would not be
                # enough to learn where to look for them.
                yield foreseen, prompt, response


def _some_instructions(
    rollouts: list[Rollout], generator: random.Random
) -> list[tuple[int, str, str]]:
    """Each rollout's prediction and caption, and some of all other instructions."""
    kept: dict[tuple[int, str], tuple[int, str, str]] = {}
    others = []
    for row in instructions(rollouts, generator):
        if row[1] in (FUTURE_PREDICTION_PROMPT, CAPTION_PROMPT):
            kept[row[:2]] = row
        else:
            others.append(row)
    some = generator.sample(others, min(len(others), _OTHER_INSTRUCTIONS * len(rollouts)))
    return [*kept.values(), *some]


def build_language_model(
    tokenizer: PreTrainedTokenizerFast,
    seed: int = 0,
    *,
    width: int = WIDTH,
    num_layers: int = NUM_LAYERS,
    max_tokens: int = 512,
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
            max_position_embeddings=max_tokens,
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
        lambda _: (_losses(model, rows) for rows in batches),
        {"response": 1.0},
        steps=steps,
        learning_rate=learning_rate,
        weight_decay=0.05,
        report_every=report_every,
    ):
        yield step, losses, model


_Row = tuple[list[list[int]], list[int], list[int]]


def _batches(
    tokenizer: PreTrainedTokenizerFast,
    stream: Iterator[Document],
    batch_size: int,
    generator: random.Random,
) -> Iterator[list[_Row]]:
    """Batches of rows of similar length: padding would otherwise be half of the work."""
    while True:
        rows = [_encode(tokenizer, document) for document in islice(stream, 8 * batch_size)]
        rows.sort(key=lambda row: len(row[1]))
        batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
        generator.shuffle(batches)
        yield from batches


def _encode(tokenizer: PreTrainedTokenizerFast, document: Document) -> _Row:
    sentences, prompt, response = document
    text = encode_example(tokenizer, prompt, response, max_tokens=400)
    return encode_story(tokenizer, sentences), text.input_ids, text.labels


def encode_story(tokenizer: PreTrainedTokenizerFast, sentences: Sequence[str]) -> list[list[int]]:
    """Return the token ids of each sentence, at most ``_MAX_WORDS`` of one."""
    return [tokenizer(text, add_special_tokens=False).input_ids[:_MAX_WORDS] for text in sentences]


def story_embeddings(model: LlamaForCausalLM, sentences: Sequence[Sequence[int]]) -> Tensor:
    """Put a part of each word's embedding together for each sentence, ``(S, D)``.

    The first eighth is that of the first word's embedding, the second eighth that of the second's,
    and so on, so that who hits is not who is hit; zeros follow the last word.

    Args:
        model: Whose word embeddings they are.
        sentences: Token ids of S sentences.
    """
    width = model.config.hidden_size
    if not sentences:
        return torch.zeros(0, width)
    ids = torch.full((len(sentences), _MAX_WORDS), -1)
    for row, sentence in zip(ids, sentences, strict=True):
        row[: len(sentence)] = torch.tensor(sentence)
    words = model.get_input_embeddings()(ids.clamp(min=0)) * (ids >= 0)[..., None]  # (S, W, D)
    parts = words.unflatten(2, (_MAX_WORDS, -1)).diagonal(dim1=1, dim2=2)  # (S, D / W, W)
    embeddings: Tensor = parts.transpose(1, 2).flatten(1)
    return embeddings


def _losses(model: LlamaForCausalLM, rows: list[_Row]) -> dict[str, Tensor]:
    """Mean cross-entropy of response tokens."""
    # A row: its story's embeddings, then prompt and response, of which the response is learnt.
    stories = _told(model, [sentences for sentences, _, _ in rows])
    ids = pad_sequence([torch.tensor(ids) for _, ids, _ in rows], batch_first=True)
    words = model.get_input_embeddings()(ids)
    embeddings = [
        torch.cat([told, text[: len(targets)]])
        for told, text, (_, _, targets) in zip(stories, words, rows, strict=True)
    ]
    labels = [
        torch.tensor([IGNORE_INDEX] * len(told) + targets)
        for told, (_, _, targets) in zip(stories, rows, strict=True)
    ]
    mask = [torch.ones(len(row), dtype=torch.int64) for row in labels]
    targets = pad_sequence(labels, batch_first=True, padding_value=IGNORE_INDEX)[:, 1:]
    is_target = targets != IGNORE_INDEX
    with autocast():
        hidden = model.model(
            inputs_embeds=pad_sequence(embeddings, batch_first=True),
            attention_mask=pad_sequence(mask, batch_first=True),
        ).last_hidden_state
        logits = model.lm_head(hidden[:, :-1][is_target])
    return {"response": cross_entropy(logits.float(), targets[is_target])}


def _told(model: LlamaForCausalLM, stories: Sequence[list[list[int]]]) -> list[Tensor]:
    """Tell each story in any order, with some sentences told again, and noise."""
    embeddings = story_embeddings(model, [row for sentences in stories for row in sentences])
    scale = _EMBEDDING_NOISE * embeddings.detach().std()
    told = []
    for rows in torch.split(embeddings, [len(sentences) for sentences in stories]):
        order = _any_order(len(rows))
        told.append(rows[order] + scale * torch.randn(len(order), rows.shape[1]))
    return told


def _any_order(num: int) -> Tensor:
    """Return numbers below ``num`` in any order, some again; none where there are none."""
    if not num:
        return torch.zeros(0, dtype=torch.int64)
    again = torch.randint(num, (int(torch.randint(_MAX_SENTENCES - num + 1, ())),))
    order = torch.cat([torch.arange(num), again])
    return order[torch.randperm(len(order))]
