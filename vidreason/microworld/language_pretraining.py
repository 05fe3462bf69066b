"""Pre-training of the microworld's language model, a small Llama that has never seen a picture.

Its text is a story of a rollout followed by an instruction about it and the right response. The
story stands where the video embeddings will stand later (section 3.3: ``[E_vision; E_text]``), a
sentence an embedding, each eighth of which is that part of one word's embedding. So what stage 1
has to find is, for each thing and event of a video, one embedding that holds what is to be said
about it; as word after word, in order, it did not find them (measured: 300 steps lowered the loss
of a caption's token from 2.0 to 1.9). Sentences stand in any order, some again, and noise makes the
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
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from vidreason.microworld.language import WAYS, next_sentence, story
from vidreason.microworld.lesson_texts import LessonText, question_rates, texts_about
from vidreason.microworld.parts import NUM_LAYERS, WIDTH
from vidreason.microworld.pretraining import BATCHES_PER_STEP, autocast, minimise
from vidreason.microworld.scenes import draw_rollout
from vidreason.microworld.simulation import SHAPES
from vidreason.microworld.training_processes import process_rank
from vidreason.reasoning.log_likelihoods import row_log_likelihoods
from vidreason.reasoning.packed_attention import offer_packed_attention
from vidreason.reasoning.prompts import EVENT_REASONING_PROMPT, FUTURE_PREDICTION_PROMPT
from vidreason.reasoning.text_batch import collate_texts
from vidreason.reasoning.tokenization import EncodedText, encode_example

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
_NUM_SENTENCES = 32
"""Embeddings that a story is told in, as many as the fusion core has queries."""
_MAX_WORDS = 8
"""Tokens of a sentence that an embedding can tell; no sentence of 150 videos had more."""
_EMBEDDING_NOISE = 0.2
"""Standard deviation of the noise on story embeddings, relative to the words'."""
_TEXTS_PER_STORY = 8
"""Texts about a story: its caption, which asks for everything that can be read, a prediction, and
others of all forms. Of each of these the model has to see thousands before it answers it (measured,
docs/prediction.md)."""
_MAX_TOKENS = 448  # of a text
_ROLLOUTS_PER_BLOCK = 400  # drawn from one seed
_DOCUMENTS_PER_BLOCK = _ROLLOUTS_PER_BLOCK * _TEXTS_PER_STORY
"""Documents of a block that are learnt, so that a batch's number tells which block it is in."""
_HEAD_WIDTH = 32  # channels of an attention head


class Document(NamedTuple):
    """A story, and a text about it."""

    sentences: list[str]
    """The story; none for a blind document."""
    text: LessonText


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
        for document in islice(documents(seed), 20_000)
        for text in (*document.sentences, document.text.prompt, document.text.response)
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
        yield from _block(seed, block)


def _block(seed: int, number: int) -> Iterator[Document]:
    """Yield the documents of one block, ``_DOCUMENTS_PER_BLOCK`` or more."""
    generator = random.Random(f"pretraining/{seed}/documents/{number}")
    rollouts = [draw_rollout(generator) for _ in range(_ROLLOUTS_PER_BLOCK)]
    stories = [[f" {text}." for text in story(rollout)] for rollout in rollouts]
    # As a prediction begins, which makes it easy to find.
    next_sentences = [f"1. {next_sentence(each, each.next_event())}." for each in rollouts]
    rates = question_rates(rollouts, generator)
    drawn = texts_about(
        rollouts, _TEXTS_PER_STORY, generator, rates, always=("prediction", "caption")
    )
    generator.shuffle(drawn)
    for text in drawn:
        if generator.random() < _BLIND_SHARE:
            yield Document([], text)
            continue
        is_foreseen = generator.random() < _FORESEEN_SHARE
        told = stories[text.video]
        foreseen = [*told, next_sentences[text.video]]
        yield Document(foreseen if is_foreseen else told, text)
        if text.prompt == FUTURE_PREDICTION_PROMPT and not is_foreseen:
            # Again, to be read and not reckoned: so few words of a few documents would not be
            # enough to learn where to look for them.
            yield Document(foreseen, text)


def build_language_model(
    tokenizer: PreTrainedTokenizerFast,
    seed: int = 0,
    *,
    width: int = WIDTH,
    num_layers: int = NUM_LAYERS,
    max_tokens: int = 512,
) -> LlamaForCausalLM:
    """A Llama of random parameters for this tokenizer; three million of them if not said otherwise.

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


def deepened(model: LlamaForCausalLM, num_layers: int) -> LlamaForCausalLM:
    """Return a model of more layers that says the same: those that are new add nothing at first.

    Args:
        model: Its layers are spread evenly over those of the result.
        num_layers: Of the result.

    Raises:
        ValueError: The model has more layers.
    """
    num_old = model.config.num_hidden_layers
    if num_layers < num_old:
        raise ValueError(
            f"num_layers: expected at least {num_old}, as many as the model to start from has, "
            f"found {num_layers}"
        )
    config = LlamaConfig(**{**model.config.to_dict(), "num_hidden_layers": num_layers})
    deeper = LlamaForCausalLM(config)
    deeper.model.embed_tokens.load_state_dict(model.model.embed_tokens.state_dict())
    deeper.model.norm.load_state_dict(model.model.norm.state_dict())
    old = {number * num_layers // num_old: layer for number, layer in enumerate(model.model.layers)}
    for number, layer in enumerate(deeper.model.layers):
        if number in old:
            layer.load_state_dict(old[number].state_dict())
        else:
            nn.init.zeros_(layer.self_attn.o_proj.weight)
            nn.init.zeros_(layer.mlp.down_proj.weight)
    return deeper


def pretrain_language_model(
    tokenizer: PreTrainedTokenizerFast,
    *,
    steps: int,
    width: int = WIDTH,
    num_layers: int = NUM_LAYERS,
    batch_size: int = 32,
    batches_per_step: int = BATCHES_PER_STEP,
    learning_rate: float = 2e-3,
    seed: int = 0,
    report_every: int = 50,
    start: LlamaForCausalLM | None = None,
    progress: Path | None = None,
) -> Iterator[tuple[int, dict[str, float], LlamaForCausalLM]]:
    """Train a Llama; yields ``(step, losses, model)`` now and then.

    Args:
        tokenizer: Of :func:`train_tokenizer`.
        steps: Optimizer steps.
        width: Of a new model.
        num_layers: Of the result.
        batch_size: Documents of a batch; it divides ``_DOCUMENTS_PER_BLOCK``.
        batches_per_step: Batches whose gradients are averaged.
        learning_rate: The highest.
        seed: Of the documents, and of random weights.
        report_every: Steps between two reports.
        start: The model to go on from, to which layers are added; None for random weights.
        progress: File that an interrupted call leaves and a later one goes on from.

    Raises:
        ValueError: Batches of this size do not fill a block of documents.
    """
    if _DOCUMENTS_PER_BLOCK % batch_size:
        raise ValueError(
            f"batch_size is {batch_size}; it must be a divisor of {_DOCUMENTS_PER_BLOCK:,}, the "
            "documents of a block"
        )
    torch.manual_seed(seed)
    if start is None:
        model = build_language_model(tokenizer, seed, width=width, num_layers=num_layers)
    else:
        model = deepened(start, num_layers)
    with torch.device("meta"):
        structure = LlamaForCausalLM(model.config)
    offer_packed_attention(model, structure)
    model.train()

    def losses_from(first: int) -> Iterator[dict[str, Tensor]]:
        # Drawing a document takes a third of the time that it is learnt in.
        stream = _Batches(tokenizer, seed + 1, batch_size, first, *process_rank())
        for rows in DataLoader(stream, batch_size=None, num_workers=1):
            yield _losses(model, rows)

    for step, losses in minimise(
        model.parameters(),
        losses_from,
        {"response": 1.0},
        steps=steps,
        learning_rate=learning_rate,
        weight_decay=0.05,
        report_every=report_every,
        batches_per_step=batches_per_step,
        progress=progress,
    ):
        yield step, losses, model


class _Row(NamedTuple):
    story: list[list[int]]
    """Token ids of each sentence."""
    text: EncodedText


class _Batches(IterableDataset[list[_Row]]):
    """An endless stream of the batches of one process, for one worker at most.

    Args:
        tokenizer: Encodes the texts.
        seed: Of the documents.
        batch_size: Documents of a batch.
        first: Batches that are skipped.
        rank: Of the process.
        num_processes: That train together, each on blocks of its own: drawing them takes long.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        seed: int,
        batch_size: int,
        first: int,
        rank: int,
        num_processes: int,
    ) -> None:
        self.tokenizer = tokenizer
        self.seed = seed
        self.batch_size = batch_size
        self.first_block, self.skipped = divmod(first, _DOCUMENTS_PER_BLOCK // batch_size)
        self.rank = rank
        self.num_processes = num_processes

    def __iter__(self) -> Iterator[list[_Row]]:
        skipped = self.skipped * self.batch_size
        for turn in count(self.first_block):
            block = _block(self.seed, turn * self.num_processes + self.rank)
            learnt = islice(block, skipped, _DOCUMENTS_PER_BLOCK)
            while batch := list(islice(learnt, self.batch_size)):
                yield [_encode(self.tokenizer, document) for document in batch]
            skipped = 0


def _encode(tokenizer: PreTrainedTokenizerFast, document: Document) -> _Row:
    _, prompt, response, turns = document.text
    text = encode_example(tokenizer, prompt, response, _MAX_TOKENS, earlier_turns=turns)
    return _Row(encode_story(tokenizer, document.sentences), text)


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
    stories = _told(model, [row.story for row in rows])
    with autocast():
        values = row_log_likelihoods(model, stories, collate_texts([row.text for row in rows]))
    return {"response": -values.mean()}


def _told(model: LlamaForCausalLM, stories: Sequence[list[list[int]]]) -> Tensor:
    """Tell each story in any order, with some sentences told again, and noise, ``(B, S, D)``.

    A blind document has nothing but noise.
    """
    embeddings = story_embeddings(model, [row for sentences in stories for row in sentences])
    scale = _EMBEDDING_NOISE * model.model.embed_tokens.weight.detach().std()
    told: Tensor = scale * torch.randn(len(stories), _NUM_SENTENCES, embeddings.shape[1])
    lengths = [len(each) for each in stories]
    for number, rows in enumerate(torch.split(embeddings, lengths)):
        if len(rows):
            told[number] += rows[_any_order(len(rows))]
    return told


def _any_order(num: int) -> Tensor:
    """Return ``_NUM_SENTENCES`` numbers below ``num`` in any order, each at least once."""
    again = torch.randint(num, (_NUM_SENTENCES - num,))
    order = torch.cat([torch.arange(num), again])
    return order[torch.randperm(len(order))]
