"""Control runs: what is taken away, and that the rest stays."""

import pickle
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from vidreason.evaluation.controls import controlled_source
from vidreason.example import Example
from vidreason.perception.visual_tokens import OBJECT_TOKEN, VisualTokens

MakeTokens = Callable[..., VisualTokens]
NUM_VIDEOS = 7


class Source:
    """Tokens by the number in the file's name."""

    def __init__(self, make: MakeTokens) -> None:
        self.by_media = {f"/v/{n}.mp4": make(2, 3 + n % 2, seed=n) for n in range(NUM_VIDEOS)}

    def __call__(self, media: str, start: float | None, end: float | None) -> VisualTokens:
        return self.by_media[media]


def questions(num_videos: int = NUM_VIDEOS) -> list[Example]:
    return [
        Example(
            id=f"{n}-{k}",
            corpus="c",
            media=f"/v/{n}.mp4",
            video_id=str(n),
            prompt="p",
            response="r",
        )
        for n in range(num_videos)
        for k in range(2)
    ]


def test_none_is_the_source_itself(make_visual_tokens: MakeTokens) -> None:
    source = Source(make_visual_tokens)
    assert controlled_source(source, questions(), "none") is source


def test_blind_has_no_token_left(make_visual_tokens: MakeTokens) -> None:
    blind = controlled_source(Source(make_visual_tokens), questions(), "blind")
    tokens = blind("/v/1.mp4", None, None)
    assert len(tokens) == 0
    assert tokens.duration_seconds == 8.0


def test_random_keeps_size_and_scale_only(make_visual_tokens: MakeTokens) -> None:
    source = Source(lambda *_, seed: make_visual_tokens(20, 30, seed=seed, visual_dim=64))
    source.by_media = {
        media: replace(tokens, features=tokens.features * 3 + 5)
        for media, tokens in source.by_media.items()
    }
    random = controlled_source(source, questions(), "random", seed=3)
    true, found = source("/v/1.mp4", None, None), random("/v/1.mp4", None, None)
    assert found.features.shape == true.features.shape
    assert found.features.mean() == pytest.approx(float(true.features.mean()), abs=0.2)
    assert found.features.std() == pytest.approx(float(true.features.std()), rel=0.05)
    both = torch.stack([found.features.flatten(), true.features.flatten()])
    assert abs(torch.corrcoef(both)[0, 1]) < 0.1
    objects = true.kinds == OBJECT_TOKEN
    assert torch.equal(found.kinds, true.kinds)
    assert torch.equal(found.spans, true.spans)
    assert torch.equal(found.boxes[~objects], true.boxes[~objects])
    assert not torch.isclose(found.boxes[objects], true.boxes[objects]).all(dim=1).any()
    assert (found.boxes[:, :2] <= found.boxes[:, 2:]).all()
    assert set(found.masks) == {None}


def test_random_is_a_function_of_seed_and_span(make_visual_tokens: MakeTokens) -> None:
    source = Source(make_visual_tokens)

    def features(seed: int, media: str) -> torch.Tensor:
        return controlled_source(source, questions(), "random", seed)(media, None, None).features

    state = torch.random.get_rng_state()
    assert torch.equal(features(0, "/v/1.mp4"), features(0, "/v/1.mp4"))
    assert not torch.equal(features(0, "/v/1.mp4"), features(1, "/v/1.mp4"))
    assert not torch.equal(features(0, "/v/1.mp4"), features(0, "/v/3.mp4"))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_gives_every_video_another_ones_tokens(
    make_visual_tokens: MakeTokens, seed: int
) -> None:
    source = Source(make_visual_tokens)
    shuffled = controlled_source(source, questions(), "shuffled", seed)
    given = {media: shuffled(media, None, None) for media in source.by_media}
    assert all(given[media] is not own for media, own in source.by_media.items())
    assert {id(tokens) for tokens in given.values()} == {id(t) for t in source.by_media.values()}


def test_shuffled_needs_two_videos(make_visual_tokens: MakeTokens) -> None:
    with pytest.raises(ValueError, match="at least two videos to exchange, found 1"):
        controlled_source(Source(make_visual_tokens), questions(1), "shuffled")


def test_shuffled_takes_a_span_that_the_other_video_has(make_visual_tokens: MakeTokens) -> None:
    spans = []

    def source(media: str, start: float | None, end: float | None) -> VisualTokens:
        spans.append((media, start, end))
        return make_visual_tokens(1, 0)

    examples = [replace(e, start_seconds=float(e.video_id), end_seconds=9.0) for e in questions(2)]
    controlled_source(source, examples, "shuffled")("/v/0.mp4", 0.0, 9.0)
    assert spans == [("/v/1.mp4", 1.0, 9.0)]


def test_controls_reach_worker_processes() -> None:
    for control in ("blind", "random", "shuffled"):
        assert callable(pickle.loads(pickle.dumps(controlled_source(print, questions(), control))))
