"""Lessons on imagined videos: pictures, what is left out, resuming, and what is learnt."""

import random
from itertools import islice
from statistics import fmean

import pytest
import torch
from torch.utils.data import DataLoader

from tests.microworld.perfect_tokens import WIDTH, perceived
from vidreason.fusion.config import FusionConfig
from vidreason.microworld.imagination import Imagination
from vidreason.microworld.imagined_tuning import (
    BLIND_SHARE,
    DROPPED_SHARE,
    PERCEIVED_SHARE,
    PICTURE_SHARE,
    Lessons,
    answer_weights,
    tune_reasoner,
)
from vidreason.microworld.parts import LANGUAGE_MODEL_FOLDER
from vidreason.microworld.scenes import draw_rollouts
from vidreason.model import ReasonerConfig, build_reasoner
from vidreason.reasoning.language_model import LanguageModelConfig, LoraSettings
from vidreason.reasoning.text_batch import collate_texts
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


def test_of_a_share_of_the_videos_something_is_left_out_and_facts_are_of_the_others(
    imagination, videos
):
    num_dropped = num_perceived = 0
    num_pictures = round(PICTURE_SHARE * 15)
    num_videos = 15 - num_pictures
    num_seen = num_videos - round(BLIND_SHARE * num_videos)
    assert num_seen < num_videos
    known = {features_sum(tokens.features) for tokens, _ in videos}
    for lesson in islice(lessons(imagination, videos, encoded, batch_size=15), 8):
        visual, num_whole = lesson.visual, len(lesson.facts.shapes)
        assert num_whole == num_videos - round(DROPPED_SHARE * num_videos)
        there = visual["kinds"] >= 0
        assert visual["mask"][:num_seen].any(1).all()
        assert not visual["mask"][num_seen:num_videos].any()
        lengths = visual["features"].abs().sum(2).gt(0)
        differs = (visual["mask"] != (lengths & there)).any(1)
        assert not differs[:num_whole].any()
        assert not differs[num_videos:].any()
        num_dropped += int(differs.sum())
        rows = zip(visual["features"], lengths, strict=True)
        sums = [features_sum(features[mask]) for features, mask in rows]
        num_perceived += sum(each in known for each in sums)
        assert sorted(lesson.videos.tolist()) == [n for n in range(15) for _ in range(2)]
        # A picture is a video of one moment (of which all may be missed), the others are not.
        last = [
            max([0.0, *spans[mask].flatten().tolist()])
            for spans, mask in zip(visual["spans"], lengths, strict=True)
        ]
        assert [time > 0 for time in last] == [True] * num_videos + [False] * num_pictures
    assert num_dropped >= 0.5 * DROPPED_SHARE * 8 * num_videos
    assert num_perceived == 8 * round(PERCEIVED_SHARE * num_videos)


def test_stories_of_which_no_picture_can_be_asked_are_refused(imagination, videos, monkeypatch):
    monkeypatch.setattr("vidreason.microworld.imagined_tuning.looks", lambda *_: iter(()))
    with pytest.raises(ValueError, match="no picture of them"):
        next(iter(lessons(imagination, videos, encoded)))


def test_an_answer_counts_as_the_root_of_its_length():
    # Two answers of a conversation, of 1 and 4 tokens, and one of 9.
    conversation = EncodedText([1] * 8, [-100, 2, -100, 2, 2, 2, 2, -100])
    text = collate_texts([conversation, EncodedText([1] * 10, [-100] + [2] * 9)])
    weights = answer_weights(text)
    assert weights.mean().item() == pytest.approx(1)
    sums = [weights[part].sum().item() for part in (slice(1), slice(1, 5), slice(5, 14))]
    assert [each / sums[0] for each in sums] == pytest.approx([1, 2, 3])


def features_sum(features):
    return round(float(features.double().sum()), 4)


def test_lessons_are_the_same_for_any_workers_and_start(imagination, videos):
    def seen(stream):
        batches = list(islice(stream, 3))
        return [(b.visual["features"], b.visual["mask"], b.text["target_rows"]) for b in batches]

    whole = seen(lessons(imagination, videos, encoded))
    assert len({float(features.sum()) for features, _, _ in whole}) == 3
    later = seen(lessons(imagination, videos, encoded, numbers=(1,)))
    loaded = seen(DataLoader(lessons(imagination, videos, encoded), None, num_workers=2))
    even = seen(lessons(imagination, videos, encoded, numbers=(0, 0, 2)))
    odd = seen(lessons(imagination, videos, encoded, numbers=(0, 1, 2)))
    same = [*zip(later, whole[1:], strict=False), *zip(loaded, whole, strict=True)]
    same += [(even[0], whole[0]), (odd[0], whole[1]), (even[1], whole[2])]
    for ours, theirs in same:
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
    losses = tuned(
        *(reasoner, imagination, videos, 16),
        batch_size=8,
        batches_per_step=1,
        learning_rate=1e-2,
    )
    for name in ("text", "next", "shapes", "events", "numbers"):
        first, last = (fmean(each[name] for each in part) for part in (losses[:3], losses[-6:]))
        assert last < 0.97 * first, name


def test_a_reasoner_without_adapters_is_refused(imagination, videos, tiny_reasoner):
    with pytest.raises(ValueError, match="adapters"):
        tuned(tiny_reasoner, imagination, videos, 1)
