"""Sampling is arithmetic on time: laws for any timestamps, and cases worked out by hand."""

import numpy as np
import pytest

from vidreason.config import merge_config
from vidreason.video.sampling import (
    SamplingConfig,
    clip_frame_indices,
    clip_spans,
    frame_indices_at,
    frame_times,
    key_frame_positions,
    resolve_span,
)


def random_videos(count: int = 60):
    """Timestamps and durations of made-up videos, a third of them with variable frame rate."""
    generator = np.random.default_rng(0)
    for number in range(count):
        num_frames = int(generator.integers(1, 200))
        if number % 3 == 0:
            steps = generator.choice([0.001, 0.04, 0.5, 3.0], size=num_frames)
        else:
            steps = np.full(num_frames, 1 / generator.choice([8, 24, 25, 30000 / 1001, 60]))
        edges = np.concatenate([[0.0], np.cumsum(steps)])
        yield edges[:-1], float(edges[-1]), generator


def test_samples_are_the_frames_shown_at_their_times_and_never_go_back() -> None:
    for timestamps, duration, generator in random_videos():
        config = SamplingConfig(
            num_clips=int(generator.integers(1, 7)),
            frames_per_clip=int(generator.integers(1, 17)),
            num_key_frames=1,
        )
        start, end = np.sort(generator.uniform(0, duration, size=2))
        for span in ((None, None), (float(start), float(end) + 1e-6)):
            indices = clip_frame_indices(timestamps, duration, config, *span)
            assert indices.shape == (config.num_clips, config.frames_per_clip)
            assert indices.dtype == np.int64
            flat = indices.reshape(-1)
            assert (np.diff(flat) >= 0).all()
            assert flat[0] >= 0
            assert flat[-1] < len(timestamps)

            first, last = resolve_span(duration, *span)
            times = first + frame_times(last - first, config).reshape(-1)
            assert (times > first).all()
            assert (times < last).all()
            for time, index in zip(times, flat, strict=True):
                assert timestamps[index] <= time + 1e-9
                assert index + 1 == len(timestamps) or timestamps[index + 1] > time


def test_with_as_many_frames_as_samples_each_is_taken_once() -> None:
    config = SamplingConfig(num_clips=4, frames_per_clip=8)
    timestamps = np.arange(32) / 25
    indices = clip_frame_indices(timestamps, 32 / 25, config)
    np.testing.assert_array_equal(indices, np.arange(32).reshape(4, 8))


def test_fewer_frames_than_samples_repeat() -> None:
    config = SamplingConfig(num_clips=2, frames_per_clip=3, num_key_frames=0)
    indices = clip_frame_indices(np.array([0.0, 1.0]), 2.0, config)
    np.testing.assert_array_equal(indices, [[0, 0, 0], [1, 1, 1]])
    single = clip_frame_indices(np.array([0.0]), 0.04, config)
    np.testing.assert_array_equal(single, np.zeros((2, 3)))


def test_variable_frame_rate_is_sampled_by_time_not_by_number() -> None:
    timestamps = np.array([0.0, 0.1, 0.2, 0.3, 9.0])
    config = SamplingConfig(num_clips=1, frames_per_clip=5, num_key_frames=1)
    indices = clip_frame_indices(timestamps, 10.0, config)  # looks at 1, 3, 5, 7 and 9 seconds
    np.testing.assert_array_equal(indices, [[3, 3, 3, 3, 4]])


def test_a_span_is_sampled_inside_and_a_late_end_is_the_videos_end() -> None:
    timestamps = np.arange(100) / 10
    config = SamplingConfig(num_clips=2, frames_per_clip=2, num_key_frames=1)
    indices = clip_frame_indices(timestamps, 10.0, config, 4.0, 8.0)
    np.testing.assert_array_equal(indices, [[45, 55], [65, 75]])
    late = clip_frame_indices(timestamps, 10.0, config, 4.0, 60.0)
    np.testing.assert_array_equal(late, clip_frame_indices(timestamps, 10.0, config, 4.0))
    assert resolve_span(10.0, 4.0, 60.0) == (4.0, 10.0)


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (-1.0, None, "start_seconds must be at least 0.*found -1.0"),
        (10.0, None, "before the video's end at 10.0, found 10.0"),
        (float("nan"), None, "found nan"),
        (5.0, 5.0, "end_seconds must be after start_seconds = 5.0, found 5.0"),
        (5.0, float("nan"), "found nan"),
    ],
)
def test_spans_without_video_are_refused(start: float, end: float | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        clip_frame_indices(np.arange(100) / 10, 10.0, SamplingConfig(), start, end)


def test_the_frame_shown_at_a_time_is_the_last_that_has_appeared() -> None:
    timestamps = np.array([0.0, 0.04, 0.08])
    seconds = [0.0, 0.039, 0.04, 0.0799999, 0.08, 5.0]
    np.testing.assert_array_equal(frame_indices_at(timestamps, seconds), [0, 0, 1, 1, 2, 2])
    # 0.1 + 0.2 is a little less or more than 0.3; a timestamp's own time must find its frame.
    ticks = np.arange(1000)
    np.testing.assert_array_equal(
        frame_indices_at(ticks * 1001 / 30000, ticks * (1001 / 30000)), ticks
    )
    with pytest.raises(ValueError, match=r"no frame is shown at -0\.5"):
        frame_indices_at(timestamps, [0.0, -0.5])
    with pytest.raises(ValueError, match="timestamps is empty"):
        frame_indices_at(np.array([]), [0.0])


def test_clip_spans_fill_the_span() -> None:
    spans = clip_spans(10.0, 4)
    np.testing.assert_allclose(spans, [[0, 2.5], [2.5, 5], [5, 7.5], [7.5, 10]])
    for num_clips in (1, 3, 7):
        spans = clip_spans(0.7, num_clips)
        assert spans[0, 0] == 0
        assert spans[-1, 1] == 0.7
        np.testing.assert_array_equal(spans[1:, 0], spans[:-1, 1])
        times = frame_times(0.7, SamplingConfig(num_clips=num_clips, num_key_frames=1))
        assert (times > spans[:, :1]).all()
        assert (times < spans[:, 1:]).all()


def test_key_frames_are_different_and_evenly_spread_over_what_the_encoder_sees() -> None:
    assert key_frame_positions(SamplingConfig()) == [(0, 4), (1, 4), (2, 4), (3, 4)]
    for num_clips in range(1, 5):
        for frames_per_clip in (1, 3, 8):
            num_frames = num_clips * frames_per_clip
            for num_key_frames in range(num_frames + 1):
                config = SamplingConfig(
                    num_clips=num_clips,
                    frames_per_clip=frames_per_clip,
                    num_key_frames=num_key_frames,
                )
                positions = key_frame_positions(config)
                numbers = [clip * frames_per_clip + frame for clip, frame in positions]
                assert len(set(numbers)) == num_key_frames
                assert numbers == sorted(numbers)
                assert all(0 <= number < num_frames for number in numbers)
                gaps = np.diff(numbers)
                assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_clips": 0}, "perceiver.sampling.num_clips is 0; it must be from 1 to 65,536"),
        (
            {"frames_per_clip": 0},
            "perceiver.sampling.frames_per_clip is 0; it must be from 1 to 8,192",
        ),
        ({"num_key_frames": 33}, "num_key_frames is 33.*num_clips \\* frames_per_clip = 32"),
        ({"num_key_frames": -1}, "num_key_frames is -1"),
    ],
)
def test_wrong_numbers_are_named(fields: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplingConfig(**fields)


def test_the_config_loads() -> None:
    config = merge_config(SamplingConfig, [], ["num_clips=2"])
    assert (config.num_clips, config.frames_per_clip, config.num_key_frames) == (2, 8, 4)
