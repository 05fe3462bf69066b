"""Lessons on imagined videos: their texts, what is left out, resuming, and what is learnt."""

import random
from collections import Counter, defaultdict
from itertools import islice
from statistics import fmean

import pytest
import torch
from torch.utils.data import DataLoader

from tests.microworld.perfect_tokens import WIDTH, perceived
from vidreason.fusion.config import FusionConfig
from vidreason.microworld.corpora import instructions
from vidreason.microworld.imagination import Imagination
from vidreason.microworld.imagined_tuning import (
    DROPPED_SHARE,
    PERCEIVED_SHARE,
    Lessons,
    texts_about,
    tune_reasoner,
)
from vidreason.microworld.language import next_sentence
from vidreason.microworld.parts import LANGUAGE_MODEL_FOLDER
from vidreason.microworld.scenes import draw_rollouts
from vidreason.model import ReasonerConfig, build_reasoner
from vidreason.reasoning.language_model import LanguageModelConfig, LoraSettings
from vidreason.reasoning.predictions import parse_predictions
from vidreason.reasoning.prompts import CAPTION_PROMPT, FUTURE_PREDICTION_PROMPT
from vidreason.reasoning.tokenization import EncodedText


@pytest.fixture(scope="module")
def videos():
    generator = random.Random(0)
    stories = [rollout for _, rollout in draw_rollouts("train", 40)]
    return [(perceived(story, 0.2, generator), story) for story in stories]


@pytest.fixture(scope="module")
def imagination(videos):
    return Imagination(videos)


@pytest.fixture
def reasoner():
    torch.manual_seed(0)
    config = ReasonerConfig(
        fusion=FusionConfig(num_queries=8, width=32, num_layers=1, num_heads=2),
        language_model=LanguageModelConfig(
            name_or_path=str(LANGUAGE_MODEL_FOLDER), dtype="float32"
        ),
        lora=LoraSettings(rank=2, alpha=4),
    )
    return build_reasoner(config, WIDTH)


def lessons(imagination, videos, encode, **options):
    options = {"batch_size": 10, "texts_per_video": 2, "seed": 3} | options
    return Lessons(imagination, [story for _, story in videos], videos, encode, **options)


def encoded(prompt, response, earlier_turns):
    """As many tokens as there are letters in the response."""
    return EncodedText([1] + [2] * len(response), [-100] + [2] * len(response))


def test_every_video_has_its_prediction_and_other_true_texts(videos):
    rollouts = [story for _, story in videos]
    texts = texts_about(rollouts, 3, random.Random(0))
    assert [text.video for text in texts] == [n for n in range(len(rollouts)) for _ in range(3)]
    for video, prompt, response, earlier_turns in texts[::3]:
        assert (prompt, earlier_turns) == (FUTURE_PREDICTION_PROMPT, ())
        first = parse_predictions(response).items[0].event
        assert first == next_sentence(rollouts[video], rollouts[video].next_event())
    kinds = Counter(text.prompt.split()[0] for text in texts)
    assert len(kinds) >= 5  # questions begin in many ways
    assert kinds[CAPTION_PROMPT.split()[0]] < len(rollouts)
    judged = Counter(text.response for text in texts if "\nIs this right: " in text.prompt)
    assert set(judged) == {"yes", "no"}


def test_some_questions_come_after_others_about_the_same_video(videos):
    rollouts = [story for _, story in videos]
    texts = texts_about(rollouts, 6, random.Random(0))
    told = defaultdict(set)
    for video, prompt, response in instructions(rollouts, random.Random(0)):
        told[video].add((prompt, response))
    later = [text for text in texts if text.earlier_turns]
    assert 0.03 < len(later) / len(texts) < 0.2
    for text in later:
        assert [turn.role for turn in text.earlier_turns] == ["user", "assistant"] * (
            len(text.earlier_turns) // 2
        )
        said = [turn.text for turn in text.earlier_turns]
        pairs = set(zip(said[::2], said[1::2], strict=True))
        assert len(pairs) == len(said) // 2
        assert pairs <= told[text.video] - {(text.prompt, text.response)}
    assert {len(text.earlier_turns) for text in later} == {2, 4, 6}


def test_of_a_share_of_the_videos_something_is_left_out_and_facts_are_of_the_others(
    imagination, videos
):
    num_dropped = num_perceived = 0
    known = {features_sum(tokens.features) for tokens, _ in videos}
    for lesson in islice(lessons(imagination, videos, encoded), 8):
        visual, num_whole = lesson.visual, len(lesson.facts.shapes)
        assert num_whole == 10 - round(DROPPED_SHARE * 10)
        there = visual["kinds"] >= 0
        assert visual["mask"].any(1).all()
        lengths = visual["features"].abs().sum(2).gt(0)
        assert torch.equal(visual["mask"][:num_whole], (lengths & there)[:num_whole])
        num_dropped += int((visual["mask"] != (lengths & there))[num_whole:].any(1).sum())
        rows = zip(visual["features"], lengths, strict=True)
        sums = [features_sum(features[mask]) for features, mask in rows]
        num_perceived += sum(each in known for each in sums)
        assert sorted(lesson.videos.tolist()) == [n for n in range(10) for _ in range(2)]
    assert num_dropped >= 0.5 * DROPPED_SHARE * 80
    assert num_perceived == 8 * round(PERCEIVED_SHARE * 10)


def features_sum(features):
    return round(float(features.double().sum()), 4)


def test_lessons_are_the_same_for_any_workers_and_start(imagination, videos):
    def seen(stream):
        batches = list(islice(stream, 3))
        return [(b.visual["features"], b.visual["mask"], b.text["target_rows"]) for b in batches]

    whole = seen(lessons(imagination, videos, encoded))
    assert len({float(features.sum()) for features, _, _ in whole}) == 3
    later = seen(lessons(imagination, videos, encoded, first=1))
    loaded = seen(DataLoader(lessons(imagination, videos, encoded), None, num_workers=2))
    for ours, theirs in [*zip(later, whole[1:], strict=False), *zip(loaded, whole, strict=True)]:
        assert all(map(torch.equal, ours, theirs))


def tuned(reasoner, imagination, videos, steps, stop_after=None, progress=None, **options):
    run = tune_reasoner(
        *(reasoner, imagination, [story for _, story in videos], videos),
        **{"steps": steps, "batch_size": 4, "num_workers": 0, "report_every": 1} | options,
        progress=progress,
    )
    return [losses for _, losses in islice(run, stop_after)]


def test_an_interrupted_tuning_goes_on_as_if_it_had_not_been(
    reasoner, imagination, videos, tmp_path
):
    start = {name: value.clone() for name, value in reasoner.state_dict().items()}
    losses = tuned(reasoner, imagination, videos, 4)
    assert not reasoner.training
    expected = {name: value.clone() for name, value in reasoner.state_dict().items()}
    changed = {name for name, value in expected.items() if not torch.equal(value, start[name])}
    assert changed
    assert all("lora_" in name or name.startswith("fusion.") for name in changed)
    assert any("lora_" in name for name in changed)
    path = tmp_path / "progress.pt"
    reasoner.load_state_dict(start)
    begun = tuned(reasoner, imagination, videos, 4, 2, path)
    reasoner.load_state_dict(start)
    resumed = tuned(reasoner, imagination, videos, 4, None, path)
    assert begun + resumed == losses
    assert all(torch.equal(value, expected[n]) for n, value in reasoner.state_dict().items())


def test_it_learns_texts_and_facts(reasoner, imagination, videos):
    losses = tuned(reasoner, imagination, videos, 16, batch_size=8, learning_rate=1e-2)
    for name in ("text", "next", "shapes", "events", "numbers"):
        first, last = (fmean(each[name] for each in part) for part in (losses[:3], losses[-6:]))
        assert last < 0.97 * first, name


def test_a_reasoner_without_adapters_is_refused(imagination, videos, tiny_reasoner):
    with pytest.raises(ValueError, match="adapters"):
        tuned(tiny_reasoner, imagination, videos, 1)
