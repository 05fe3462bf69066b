"""Tuning of a trained reasoner on imagined videos, each of which it sees once.

What limits a reasoner of the microworld is the number of its videos, and files hold only so many.
Here the videos are imagined while it trains (``imagination.py``), with a few perceived ones among
them, which have clips. Fusion core and adapters learn to predict, to explain, to describe and to
answer, as in stage 2 (section 3.4.2). Heads learn facts beside the language model (``facts.py``):
in the stages, where there are none, the fusion core forgets of what comes next what the language
model does not read yet (measured, docs/prediction.md).

Shapes: B videos, R texts about them, Q queries, D width of the embeddings.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from vidreason.example import Turn
from vidreason.fusion.fusion_core import FusionCore
from vidreason.microworld.facts import FACT_WEIGHTS, FactHeads, Facts, facts_of
from vidreason.microworld.imagination import Imagination
from vidreason.microworld.lesson_texts import (
    LessonText,
    question_rates,
    texts_about,
    texts_about_picture,
)
from vidreason.microworld.pretraining import (
    BATCHES_PER_STEP,
    autocast,
    batch_numbers,
    minimise,
)
from vidreason.microworld.simulation import Rollout
from vidreason.microworld.still_images import looks
from vidreason.microworld.symmetries import draw_view
from vidreason.microworld.training_processes import process_rank
from vidreason.model import VideoReasoner
from vidreason.perception.visual_tokens import VisualBatch, VisualTokens, collate_visual_tokens
from vidreason.reasoning.language_model import causal_lm
from vidreason.reasoning.log_likelihoods import row_log_likelihoods
from vidreason.reasoning.text_batch import TextBatch, collate_texts
from vidreason.reasoning.tokenization import EncodedText
from vidreason.training.dropped_tokens import drop_tokens
from vidreason.training.trainable import set_trainable, trainable_names

PERCEIVED_SHARE = 0.1
"""Share of the videos that were perceived; at a quarter, 2,400 of them are learnt by heart."""
DROPPED_SHARE = 0.3
"""Share of the videos of which something is left out, so that the reasoner is less sure of what it
has seen less of; facts are not learnt from these."""
BLIND_SHARE = 0.04
"""Share of the videos of which nothing is left, so that it is the least sure of what it has not
seen at all; they are among those of :data:`DROPPED_SHARE`."""
_DROP = {"clips": 0.3, "objects": 0.15, "moments": 0.7}
"""Probabilities of what is left out of them."""
_WEIGHTS = {"text": 1.0, **{name: 0.2 * weight for name, weight in FACT_WEIGHTS.items()}}
PICTURE_SHARE = 0.1
"""Share of the batch that are pictures, which no facts are learnt from."""
_MAX_PICTURE_TRIES = 1000
"""In about half of the stories there is nothing to ask of a picture."""
_MAX_TEXT_TOKENS = 448
_NUM_RATED = 400
"""Stories whose questions tell how often to ask which."""

Encode = Callable[[str, str, Sequence[Turn]], EncodedText]
"""Encodes a prompt with its response, after earlier turns."""
Perceived = tuple[VisualTokens, Rollout]
"""The tokens of a perceived video, and what happens in it."""


class Lesson(NamedTuple):
    """A batch of B videos with R texts."""

    visual: VisualBatch
    facts: Facts
    """Facts of the first videos, of which nothing is left out."""
    videos: Tensor
    """``(R,)`` int64: of each text, the index of its video."""
    text: TextBatch
    weights: Tensor
    """``(M,)`` float32: of the target tokens; see :func:`answer_weights`."""


class Lessons(IterableDataset[Lesson]):
    """An endless stream of batches, the same for any number of workers.

    Args:
        imagination: Gives the visual tokens of the imagined videos.
        stories: What happens in them, up to symmetries.
        perceived: Perceived videos; maybe none.
        encode: The reasoner's way of encoding a text.
        batch_size: Videos of a batch, pictures included; at least 2.
        texts_per_video: A prediction, and other texts.
        seed: Of all that is drawn.
        numbers: Arguments of :func:`batch_numbers`.
    """

    def __init__(
        self,
        imagination: Imagination,
        stories: Sequence[Rollout],
        perceived: Sequence[Perceived],
        encode: Encode,
        *,
        batch_size: int,
        texts_per_video: int,
        seed: int,
        numbers: tuple[int, ...] = (0,),
    ) -> None:
        self.imagination = imagination
        self.stories = stories
        self.perceived = perceived
        generator = random.Random(f"question rates/{seed}")
        some = [draw_view(story, generator) for story in generator.choices(stories, k=_NUM_RATED)]
        self.rates = question_rates(some, generator)
        self.encode = encode
        self.batch_size = batch_size
        self.texts_per_video = texts_per_video
        self.seed = seed
        self.numbers = numbers

    def __iter__(self) -> Iterator[Lesson]:
        for number in batch_numbers(*self.numbers):
            yield self._lesson(number)

    def _lesson(self, number: int) -> Lesson:
        generator = random.Random(f"lesson/{self.seed}/{number}")
        num_videos = self.batch_size - round(PICTURE_SHARE * self.batch_size)
        videos = self._videos(num_videos, generator)
        rollouts = [rollout for _, rollout in videos]
        texts = texts_about(rollouts, self.texts_per_video, generator, self.rates)
        pictures = []
        for video in range(num_videos, self.batch_size):
            tokens, about = self._picture(video, generator)
            pictures.append(tokens)
            texts += about
        visual = collate_visual_tokens([*(tokens for tokens, _ in videos), *pictures])
        num_whole = num_videos - round(DROPPED_SHARE * num_videos)
        first = number * self.batch_size
        mask = drop_tokens(visual, _DROP, self.seed, 0, first)["mask"]
        for whole in (slice(num_whole), slice(num_videos, None)):
            mask[whole] = visual["mask"][whole]
        mask[num_videos - round(BLIND_SHARE * num_videos) : num_videos] = False
        facts = zip(*map(facts_of, rollouts[:num_whole]), strict=True)
        text = collate_texts([self.encode(*each[1:]) for each in texts])
        return Lesson(
            visual=VisualBatch(**{**visual, "mask": mask}),
            facts=Facts(*map(torch.stack, facts)),
            videos=torch.tensor([each.video for each in texts]),
            text=text,
            weights=answer_weights(text),
        )

    def _videos(self, number: int, generator: random.Random) -> list[Perceived]:
        """Return perceived and imagined videos in random order."""
        num_perceived = round(PERCEIVED_SHARE * number) if self.perceived else 0
        videos = generator.choices(self.perceived, k=num_perceived) if num_perceived else []
        for story in generator.choices(self.stories, k=number - num_perceived):
            rollout = draw_view(story, generator)
            videos.append((self.imagination.tokens(rollout, generator), rollout))
        generator.shuffle(videos)
        return videos

    def _picture(
        self, video: int, generator: random.Random
    ) -> tuple[VisualTokens, list[LessonText]]:
        """Return an imagined picture, the batch's ``video``-th, of which something can be asked."""
        for _ in range(_MAX_PICTURE_TRIES):
            rollout = draw_view(generator.choice(self.stories), generator)
            questions = list(looks(rollout, generator))
            if questions:
                break
        else:
            raise ValueError("stories: no picture of them shows two objects of which one can ask")
        tokens = self.imagination.picture_tokens(rollout, questions[0].time, generator)
        number = self.texts_per_video
        return tokens, texts_about_picture(video, rollout, questions, number, generator)


def answer_weights(text: TextBatch) -> Tensor:
    """Return weights of the target tokens by which an answer counts as the root of its length.

    By tokens alone, predictions count 53% and all questions 24%, because answers are short; by the
    root 44 and 42% (measured, 120 stories). By answers alone, predictions would be left 31%.

    Returns:
        Shape ``(M,)``, float32, with mean 1.
    """
    rows, columns = text["target_rows"], text["target_columns"]
    # An answer ends where the row does, or before the next question.
    begins = (rows.diff() != 0) | (columns.diff() > 1)
    answers = torch.cat([torch.zeros(1, dtype=torch.int64), begins.cumsum(0)])  # (M,) their numbers
    weights = answers.bincount()[answers].float().rsqrt()
    return weights / weights.mean()


def tune_reasoner(
    reasoner: VideoReasoner,
    imagination: Imagination,
    stories: Sequence[Rollout],
    perceived: Sequence[Perceived],
    *,
    steps: int,
    batch_size: int = 32,
    batches_per_step: int = BATCHES_PER_STEP,
    texts_per_video: int = 2,
    learning_rate: float = 5e-4,
    num_workers: int = 1,
    seed: int = 0,
    report_every: int = 50,
    progress: Path | None = None,
) -> Iterator[tuple[int, dict[str, float]]]:
    """Train the fusion core and the adapters of ``reasoner`` in place; yield losses now and then.

    Args:
        reasoner: A trained one, with adapters.
        imagination: Gives the visual tokens of the imagined videos.
        stories: What happens in training videos.
        perceived: Perceived training videos, which are shown beside the imagined ones.
        steps: Optimizer steps.
        batch_size: Videos of a batch.
        batches_per_step: Batches whose gradients are averaged.
        texts_per_video: Texts about each, a prediction among them.
        learning_rate: The highest.
        num_workers: Processes that imagine; 0 for none beside the training one.
        seed: Of the batches and of the heads.
        report_every: Steps between two reports.
        progress: File that an interrupted call leaves and a later one goes on from.

    Yields:
        Step and losses: of a text's token as ``text``, of the heads by their names.

    Raises:
        ValueError: The reasoner has no adapters, or no queries to learn with.
    """
    if not isinstance(reasoner.fusion, FusionCore):
        kind = reasoner.config.fusion.kind
        raise ValueError(f"reasoner.fusion.kind is {kind!r}; imagined videos are for 'qformer'")
    torch.manual_seed(seed)
    heads = FactHeads(reasoner.fusion)
    model = causal_lm(reasoner.language_model)
    set_trainable(reasoner, trainable_names(reasoner, "instruction"))
    reasoner.train()

    def losses_from(first: int) -> Iterator[dict[str, Tensor]]:
        lessons = Lessons(
            *(imagination, stories, perceived, partial(_encode, reasoner)),
            batch_size=batch_size,
            texts_per_video=texts_per_video,
            seed=seed,
            numbers=(first, *process_rank()),
        )
        for lesson in DataLoader(lessons, batch_size=None, num_workers=num_workers):
            with autocast():
                embeddings = reasoner.fusion(lesson.visual)  # (B, Q, D)
                # Each video is fused once for all texts about it: (R, Q, D)
                values = row_log_likelihoods(model, embeddings[lesson.videos], lesson.text)
                known = embeddings[: len(lesson.facts.shapes)]
                losses = heads.losses(known, lesson.facts)
            yield {"text": -(lesson.weights * values).mean(), **losses}

    trained = [parameter for parameter in reasoner.parameters() if parameter.requires_grad]
    yield from minimise(
        [*trained, *heads.parameters()],
        losses_from,
        _WEIGHTS,
        steps=steps,
        learning_rate=learning_rate,
        weight_decay=0.05,
        report_every=report_every,
        batches_per_step=batches_per_step,
        progress=progress,
    )
    reasoner.eval()


def _encode(
    reasoner: VideoReasoner, prompt: str, response: str, earlier_turns: Sequence[Turn]
) -> EncodedText:
    return reasoner.encode_example(prompt, response, _MAX_TEXT_TOKENS, earlier_turns)
