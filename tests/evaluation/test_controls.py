"""Control runs: what is taken away, and that the rest stays."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, get_args

import pytest
import torch

from vidreason.baselines.frame_controls import controlled_frames
from vidreason.evaluation.benchmark import evaluate_examples
from vidreason.evaluation.config import Control, EvaluationConfig
from vidreason.evaluation.controls import controlled_source
from vidreason.evaluation.reasoner_answerer import reasoner_answerer
from vidreason.example import Example
from vidreason.fusion.fusion_core import FusionConfig
from vidreason.model import DecodingConfig, ReasonerConfig, build_reasoner
from vidreason.perception.visual_tokens import CLIP_TOKEN, OBJECT_TOKEN, VisualTokens
from vidreason.reasoning.language_model import LanguageModelConfig
from vidreason.video.failures import VideoReadError

MakeTokens = Callable[..., VisualTokens]
NUM_VIDEOS = 7
IN_ORDER_AND_NOT: tuple[Control, ...] = ("none", "shuffled_frames")


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
    true, result = source("/v/1.mp4", None, None), random("/v/1.mp4", None, None)
    assert result.features.shape == true.features.shape
    assert result.features.mean() == pytest.approx(float(true.features.mean()), abs=0.2)
    assert result.features.std() == pytest.approx(float(true.features.std()), rel=0.05)
    both = torch.stack([result.features.flatten(), true.features.flatten()])
    assert abs(torch.corrcoef(both)[0, 1]) < 0.1
    objects = true.kinds == OBJECT_TOKEN
    assert torch.equal(result.kinds, true.kinds)
    assert torch.equal(result.spans, true.spans)
    assert torch.equal(result.boxes[~objects], true.boxes[~objects])
    assert not torch.isclose(result.boxes[objects], true.boxes[objects]).all(dim=1).any()
    assert (result.boxes[:, :2] <= result.boxes[:, 2:]).all()
    assert set(result.masks) == {None}


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
    assert all(given[media] is not one for media, one in source.by_media.items())
    assert {id(tokens) for tokens in given.values()} == {id(t) for t in source.by_media.values()}


def test_shuffled_needs_two_videos(make_visual_tokens: MakeTokens) -> None:
    with pytest.raises(ValueError, match="all questions are about one: add a question"):
        controlled_source(Source(make_visual_tokens), questions(1), "shuffled")


def test_shuffled_takes_a_span_that_the_other_video_has(make_visual_tokens: MakeTokens) -> None:
    spans = []

    def source(media: str, start: float | None, end: float | None) -> VisualTokens:
        spans.append((media, start, end))
        return make_visual_tokens(1, 0)

    examples = [replace(e, start_seconds=float(e.video_id), end_seconds=9.0) for e in questions(2)]
    controlled_source(source, examples, "shuffled")("/v/0.mp4", 0.0, 9.0)
    # Its own first, which must be readable under every control.
    assert spans == [("/v/0.mp4", 0.0, 9.0), ("/v/1.mp4", 1.0, 9.0)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("is_of_frames", [False, True])
def test_a_missing_video_makes_its_own_questions_unreadable_and_no_others(
    is_of_frames: bool, seed: int
) -> None:
    missing = {"/v/2.mp4", "/v/3.mp4"}

    def source(media: str, *_: Any) -> str:
        if media in missing:
            raise VideoReadError(media, "missing")
        return media

    shuffled: Callable[..., Any]
    if is_of_frames:
        frames = controlled_frames(source, questions(), "shuffled", seed)  # type: ignore
        shuffled = lambda *span: frames(*span, lambda available: [])  # noqa: E731
    else:
        shuffled = controlled_source(source, questions(), "shuffled", seed)  # type: ignore
    given = {}
    for media in (f"/v/{n}.mp4" for n in range(NUM_VIDEOS)):
        if media in missing:
            with pytest.raises(VideoReadError, match=media):
                shuffled(media, None, None)
        else:
            given[media] = shuffled(media, None, None)
    assert all(stand_in != media for media, stand_in in given.items())
    assert not missing & set(given.values())


def test_no_other_video_that_can_be_read_is_an_error() -> None:
    def source(media: str, *_: Any) -> str:
        if media != "/v/0.mp4":
            raise VideoReadError(media, "missing")
        return media

    shuffled = controlled_source(source, questions(3), "shuffled")  # type: ignore
    with pytest.raises(VideoReadError, match=r"/v/[12].mp4"):
        shuffled("/v/0.mp4", None, None)


@pytest.mark.parametrize("seed", range(5))
def test_each_span_has_a_stand_in_of_another_file(seed: int) -> None:
    spans = [("a", 0.0, 2.0), ("a", 2.0, 4.0), ("a", None, None), ("b", 0.0, 1.0), ("c", None, 9.0)]
    examples = [
        replace(questions(1)[0], id=f"{k}-{n}", media=media, start_seconds=start, end_seconds=end)
        for n, (media, start, end) in enumerate(spans)
        for k in range(2)
    ]
    shuffled = controlled_source(lambda *span: span, examples, "shuffled", seed)  # type: ignore
    given = {span: shuffled(*span) for span in spans}
    assert all(stand_in[0] != span[0] for span, stand_in in given.items())
    assert set(given.values()) <= set(spans)
    # The video before `a` in the circle takes one of its spans; the three of `a` take others' own.
    assert {stand_in[0] for stand_in in given.values()} == {"a", "b", "c"}


def test_spans_of_a_file_have_stand_ins_of_their_own() -> None:
    examples = [
        replace(questions(1)[0], id=f"{media}{n}", media=media, start_seconds=n, end_seconds=n + 1)
        for media in "ab"
        for n in range(3)
    ]
    shuffled = controlled_source(lambda *span: span, examples, "shuffled")  # type: ignore
    given = [shuffled(media, n, n + 1) for media in "ab" for n in range(3)]
    assert given == [(media, n, n + 1) for media in "ba" for n in range(3)]


def timed(num_clips: int, key_frames: list[tuple[float, int]]) -> VisualTokens:
    """Equal clips of 2 seconds, then so many objects at each time; feature 0 numbers the tokens."""
    times = [time for time, number in key_frames for _ in range(number)]
    total = num_clips + len(times)
    starts = 2.0 * torch.arange(num_clips)
    moments = torch.tensor(times)
    return VisualTokens(
        features=torch.arange(total)[:, None] * torch.ones(1, 3),
        kinds=torch.tensor([CLIP_TOKEN] * num_clips + [OBJECT_TOKEN] * len(times)),
        spans=torch.cat([torch.stack([starts, starts + 2], 1), torch.stack([moments, moments], 1)]),
        boxes=torch.arange(total)[:, None] * torch.full((1, 4), 0.01),
        areas=torch.arange(total) * 0.01,
        track_ids=torch.tensor([-1] * num_clips + list(range(len(times)))),
        masks=(None,) * num_clips + ({"size": [1, 1], "counts": [0, 1]},) * len(times),
        duration_seconds=2.0 * num_clips,
    )


def under(control: Control, tokens: VisualTokens, seed: int = 0, media: str = "v") -> VisualTokens:
    return controlled_source(lambda *_: tokens, [], control, seed)(media, None, None)


def numbers(tokens: VisualTokens) -> list[int]:
    """Which of the video's tokens these are; all that belongs to a token has come with it."""
    assert torch.equal(tokens.boxes[:, 0], tokens.features[:, 0] * 0.01)
    assert torch.equal(tokens.areas, tokens.features[:, 0] * 0.01)
    assert [mask is None for mask in tokens.masks] == (tokens.kinds == CLIP_TOKEN).tolist()
    return [int(value) for value in tokens.features[:, 0].tolist()]


@pytest.mark.parametrize(
    ("control", "num_clips", "key_frames", "expected"),
    [
        # The middle clip and one key frame.
        ("single_frame", 3, [(1.0, 2), (3.25, 2), (5.0, 1)], [1, 5, 6]),
        # Of two middles, the earlier.
        ("single_frame", 4, [(1.0, 1), (3.0, 1), (5.0, 1), (7.0, 1)], [1, 5]),
        # 0.5 before the clip's middle, 1 after.
        ("single_frame", 4, [(1.0, 1), (3.5, 2), (2.0, 1)], [1, 5, 6]),
        ("single_frame", 4, [], [1]),
        ("single_frame", 1, [(0.25, 1), (1.25, 2)], [0, 2, 3]),
        # What ends by the middle.
        ("half_frames", 4, [(1.0, 2), (4.0, 1), (4.25, 1), (7.0, 1)], [0, 1, 4, 5, 6]),
        # The middle clip knows of the second half.
        ("half_frames", 3, [(2.5, 1), (3.5, 1)], [0, 3]),
        ("half_frames", 1, [(0.5, 1), (1.5, 1)], [1]),
        ("half_frames", 1, [(1.5, 1)], []),
    ],
)
def test_a_part_of_the_video_is_kept_as_it_is(
    control: str, num_clips: int, key_frames: list[tuple[float, int]], expected: list[int]
) -> None:
    tokens = timed(num_clips, key_frames)
    result = under(control, tokens)
    assert numbers(result) == expected
    assert torch.equal(result.spans, tokens.spans[expected])
    assert result.duration_seconds == tokens.duration_seconds
    assert len(under(control, tokens.without_tokens())) == 0


def test_half_of_a_video_of_odd_length_holds_its_clips_in_single_precision() -> None:
    tokens = timed(2, [])
    rounded = replace(tokens, spans=tokens.spans * 1.0000005)
    assert numbers(under("half_frames", rounded)) == [0]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("num_clips", [2, 3, 5])
def test_shuffled_frames_exchange_times_and_nothing_else(num_clips: int, seed: int) -> None:
    # Each key frame a quarter into its clip; the last clip has none.
    tokens = timed(num_clips, [(2.0 * clip + 0.5, 1 + clip % 2) for clip in range(num_clips - 1)])
    result = under("shuffled_frames", tokens, seed)
    order = numbers(result)
    assert sorted(order) == list(range(len(tokens)))
    assert order[:num_clips] != list(range(num_clips))
    # Slots stay, and with them the order of tokens by time.
    assert torch.equal(result.spans[:num_clips], tokens.spans[:num_clips])
    assert torch.equal(result.kinds, tokens.kinds)
    assert (result.spans[num_clips:].diff(dim=0) >= 0).all()
    # A key frame is still a quarter into its own clip.
    new_start = {number: float(result.spans[position, 0]) for position, number in enumerate(order)}
    for number in range(num_clips, len(tokens)):
        home = int(tokens.spans[number, 0] // 2)
        assert new_start[number] == new_start[home] + 0.5


def test_key_frames_of_one_clip_exchange_their_places_in_it() -> None:
    tokens = timed(2, [(0.25, 2), (0.5, 1), (1.5, 1), (2.5, 1)])
    orders = set()
    for seed in range(40):
        result = under("shuffled_frames", tokens, seed)
        order = numbers(result)
        assert order[:3] == [1, 0, 6]  # two clips change sides, the lone key frame of one with it
        # 2.5 has become 0.5; the others are in the second half, one of the moments twice.
        times = result.spans[2:, 0].tolist()
        assert times == sorted(times)
        assert set(times) == {0.5, 2.25, 2.5, 3.5}
        orders.add(tuple(order[3:]))
    assert len(orders) == 6  # all orders of three moments; two objects of a moment stay together
    assert all(abs(order.index(2) - order.index(3)) == 1 for order in orders)


def test_one_clip_still_has_key_frames_to_exchange() -> None:
    for seed in range(20):
        result = under("shuffled_frames", timed(1, [(0.5, 1), (1.0, 1)]), seed)
        assert numbers(result) == [0, 2, 1]
    still = timed(1, [(0.5, 2)])
    assert numbers(under("shuffled_frames", still)) == [0, 1, 2]  # there is nothing to exchange
    assert len(under("shuffled_frames", timed(2, []).without_tokens())) == 0


def test_shuffled_frames_are_a_function_of_seed_and_video() -> None:
    tokens = timed(8, [])
    state = torch.random.get_rng_state()
    first = numbers(under("shuffled_frames", tokens))
    assert numbers(under("shuffled_frames", tokens)) == first
    assert numbers(under("shuffled_frames", tokens, seed=1)) != first
    assert numbers(under("shuffled_frames", tokens, media="w")) != first
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("positions", ["none", "full"])
def test_order_reaches_the_model_by_token_positions_alone(
    make_visual_tokens: MakeTokens,
    tiny_language_model_folder: str,
    positions: Literal["none", "full"],
) -> None:
    torch.manual_seed(0)
    fusion = FusionConfig(
        num_queries=4, width=32, num_layers=2, num_heads=4, token_positions=positions
    )
    reasoner = build_reasoner(
        ReasonerConfig(
            fusion=fusion,
            language_model=LanguageModelConfig(
                name_or_path=tiny_language_model_folder, dtype="float32"
            ),
        ),
        visual_dim=make_visual_tokens(1, 0).features.shape[1],
        device="cpu",
    )
    question = replace(questions(1)[0], options=("one", "two", "three"), answer_index=0)
    tokens = make_visual_tokens(4, 5)
    scores = [
        evaluate_examples(
            reasoner_answerer(
                reasoner,
                lambda *_: tokens,
                [question],
                EvaluationConfig(),
                DecodingConfig(),
                control,
            ),
            [question],
            EvaluationConfig(),
        )[0].option_log_likelihoods
        for control in IN_ORDER_AND_NOT
    ]
    same = scores[1] == pytest.approx(scores[0], abs=1e-5)
    assert same == (positions == "none")


def test_controls_reach_worker_processes() -> None:
    for control in get_args(Control)[1:]:
        assert callable(pickle.loads(pickle.dumps(controlled_source(print, questions(), control))))
