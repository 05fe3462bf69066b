"""The language model that writes the microworld's programs: a small Llama, trained on pairs.

A pair is a question of the training split and the program that its form has, see
:mod:`vidreason.microworld.program_templates`: no answer, no option and nothing of the video. A word
of a question is a token; so are a name, such as "red circle", a line of a program up to a colour in
it, and what follows a name.
"""

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from vidreason.baselines.viper.api_prompt import QUESTION_MARK, filled_prompt
from vidreason.microworld.language import a
from vidreason.microworld.language_pretraining import CHAT_TEMPLATE, build_language_model
from vidreason.microworld.pretraining import autocast, minimise
from vidreason.microworld.program_templates import write_program
from vidreason.microworld.simulation import COLORS, SHAPES, SIDES
from vidreason.reasoning.tokenization import IGNORE_INDEX, encode_example

PROMPT = QUESTION_MARK
"""All that the language model is told: its weights know the functions, and programs get the
possible answers when they run."""
WIDTH = 128
NUM_LAYERS = 2
MAX_TOKENS = 1024
"""Longest question with its program."""

_UNKNOWN = "<|unk|>"
_SPECIAL_TOKENS = (
    *("<|pad|>", "<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", _UNKNOWN),
)
_COLORS = "|".join(COLORS)
_SIDES = "|".join(SIDES)
_MOVES = "enters from|leaves on"
_PIECE = "|".join(
    (
        # A name is one token: of two, the second was often that of another name.
        rf"\b(?:{_COLORS}) (?:{'|'.join(SHAPES)}|object)(?=\b|\d)",
        rf"\b(?:{_COLORS})\b",
        rf" (?:{_MOVES}) the (?:{_SIDES})\b",
        rf"\n[^\n]*?(?=\b(?:{_COLORS})\b|\n|$)",  # a line of a program up to a colour
        rf"[^\n\w ][^\n\d]*?(?=\b(?:{_COLORS})\b|\n|\d|$)",  # what follows a name or a number
        rf" ?(?!(?:{_COLORS})\b)[A-Za-z_]+",
        r"\d|\s",
    )
)
"""Texts that are a token."""

Pair = tuple[str, str]
"""Question and program."""


def program_pairs(questions: Iterable[str]) -> list[Pair]:
    """Return each question of the world once, with its program, in the order of the texts.

    Args:
        questions: As :func:`vidreason.baselines.questions.bare_question` gives them; those that no
            template knows are left out.
    """
    pairs = []
    for question in sorted(set(questions)):
        program = write_program(question)
        if program is not None:
            pairs.append((question, program))
    return pairs


def program_tokenizer(pairs: Sequence[Pair]) -> PreTrainedTokenizerFast:
    """Return a tokenizer whose words are those of the pairs; others are unknown."""
    split = pre_tokenizers.Split(Regex(_PIECE), behavior="isolated")
    words = Counter(
        word
        for question, program in pairs
        for text in (filled_prompt(PROMPT, question, ()), program)
        for word, _ in split.pre_tokenize_str(text)
    )
    vocabulary = [*_SPECIAL_TOKENS, *sorted(words)]
    tokenizer = Tokenizer(
        models.WordLevel({word: n for n, word in enumerate(vocabulary)}, unk_token=_UNKNOWN)
    )
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(list(_SPECIAL_TOKENS))
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token="<|bos|>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        unk_token=_UNKNOWN,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def train_program_model(
    tokenizer: PreTrainedTokenizerFast,
    pairs: Sequence[Pair],
    *,
    steps: int,
    batch_size: int = 16,
    learning_rate: float = 3e-3,
    seed: int = 0,
) -> Iterator[tuple[int, dict[str, float], LlamaForCausalLM]]:
    """Train a Llama to write programs; yields ``(step, losses, model)`` now and then.

    Args:
        tokenizer: Of :func:`program_tokenizer`.
        pairs: What it learns.
        steps: Optimizer steps.
        batch_size: Pairs a step.
        learning_rate: The highest.
        seed: Of weights and batches.
    """
    model = build_language_model(
        tokenizer, seed, width=WIDTH, num_layers=NUM_LAYERS, max_tokens=MAX_TOKENS
    )
    model.train()
    batches = _batches(tokenizer, pairs, batch_size, random.Random(seed))
    for step, losses in minimise(
        model.parameters(),
        lambda _: ({"program": _loss(model, rows)} for rows in batches),
        {"program": 1.0},
        steps=steps,
        learning_rate=learning_rate,
        weight_decay=0.05,
        report_every=50,
    ):
        yield step, losses, model


_Row = tuple[list[int], list[int]]


def _batches(
    tokenizer: PreTrainedTokenizerFast,
    pairs: Sequence[Pair],
    batch_size: int,
    generator: random.Random,
) -> Iterator[list[_Row]]:
    """Draw a program's kind first, so that rare kinds are learnt as well; then a pair of it.

    Pairs of one kind differ in names alone: their programs have the same lines. Colours and
    sides are exchanged, as the world's symmetries do: what stands in a question has to be read.
    """
    kinds: dict[str, list[Pair]] = {}
    for pair in pairs:
        kinds.setdefault(_without_texts(pair[1]), []).append(pair)
    names = sorted(kinds)
    while True:
        drawn = [generator.choice(kinds[generator.choice(names)]) for _ in range(8 * batch_size)]
        rows = []
        for drawn_question, _ in drawn:
            question = _exchanged(drawn_question, generator)
            program = write_program(question)
            assert program is not None, question  # of the same form as the one drawn
            prompt = filled_prompt(PROMPT, question, ())
            text = encode_example(tokenizer, prompt, program, max_tokens=MAX_TOKENS)
            rows.append((text.input_ids, text.labels))
        # Rows of similar length: padding would otherwise be much of the work.
        rows.sort(key=lambda row: len(row[0]))
        batches = [rows[first : first + batch_size] for first in range(0, len(rows), batch_size)]
        generator.shuffle(batches)
        yield from batches


def _exchanged(question: str, generator: random.Random) -> str:
    """Exchange the colours of a question, and the sides of its events."""
    sides = dict(zip(SIDES, generator.sample(SIDES, len(SIDES)), strict=True))
    question = re.sub(
        rf"\b({_MOVES}) the ({_SIDES})\b",
        lambda match: f"{match[1]} the {sides[match[2]]}",
        question,
    )
    colors = dict(zip(COLORS, generator.sample(COLORS, len(COLORS)), strict=True))

    def renamed(match: re.Match[str]) -> str:
        color = colors[match[2]]
        return a(color) if match[1] else color  # an orange one, a red one

    return re.sub(rf"\b(an? )?({_COLORS})\b", renamed, question)


def _without_texts(program: str) -> str:
    """The lines of a program alone: texts in it, such as names and events, come from a question."""
    return re.sub(r'"[^"\n]*"', '""', program)


def _loss(model: LlamaForCausalLM, rows: Sequence[_Row]) -> Tensor:
    """Mean cross-entropy of the programs' tokens."""
    ids = pad_sequence([torch.tensor(row) for row, _ in rows], batch_first=True)  # (B, T)
    labels = pad_sequence(
        [torch.tensor(row) for _, row in rows], batch_first=True, padding_value=IGNORE_INDEX
    )
    # Padding is at the end: no token looks at it.
    with autocast():
        loss: Tensor = model(input_ids=ids, labels=labels).loss
    return loss
