from pathlib import Path

import av
import numpy as np

from vidreason.microworld.rectangle import Rectangle
from vidreason.microworld.renderer import (
    FRAME_SIZE,
    FRAMES_PER_SECOND,
    frame_times,
    render_bars,
    render_frame,
    render_masks,
    write_video,
)
from vidreason.microworld.simulation import (
    ARENA,
    RADIUS,
    VIDEO_SECONDS,
    Body,
    Rollout,
    Scene,
    simulate,
)


def test_masks_lie_where_the_colours_are_and_never_overlap(rollouts: list[Rollout]):
    for rollout in rollouts[:12]:
        frame = render_frame(rollout, 2.0).astype(int)
        floor = rollout.scene.background
        masks = render_masks(rollout, 2.0)
        assert sum(mask.astype(int) for mask in masks.values()).max() <= 1
        things = [*masks.values(), *render_bars(rollout).values()]
        covered = np.any(things, axis=0)
        # Anti-aliased rims aside, everything else is floor.
        is_floor = np.abs(frame - floor).max(axis=2) == 0
        assert (is_floor == ~covered).mean() > 0.97
        for color, mask in masks.items():
            x, y, _, _ = rollout.state(color, 2.0)
            rows, columns = np.nonzero(mask)
            if (
                10 < x < ARENA - 10
                and 10 < y < ARENA - 10
                and mask.sum() > 300
                and rollout.scene.screen is None
            ):
                scale = FRAME_SIZE / ARENA
                assert abs(columns.mean() / scale - x) < 2.5
                assert abs(rows.mean() / scale - y) < 2.5


def test_the_screen_is_before_bodies_and_wall_and_bodies_are_before_the_wall():
    bars = {
        "wall": Rectangle(left=10.0, right=54.0, top=30.0, bottom=34.0),
        "screen": Rectangle(left=40.0, right=60.0, top=10.0, bottom=60.0),
    }
    bodies = (
        Body(color="red", shape="circle", x=50.0, y=48.0),  # behind the screen
        Body(color="blue", shape="circle", x=40.0 - RADIUS / 2, y=16.0),  # partly
        Body(color="green", shape="circle", x=20.0, y=32.0),
    )
    rollout = simulate(Scene(bodies=bodies, background=230, **bars))
    masks, seen = render_masks(rollout, 0.0), render_bars(rollout)
    assert set(masks) == {"blue", "green"}
    assert set(seen) == {"wall", "screen"}
    assert not any((mask & seen["screen"]).any() for mask in [*masks.values(), seen["wall"]])
    assert (masks["green"] & seen["wall"]).any()
    assert 0.6 < masks["blue"].sum() / masks["green"].sum() < 0.9
    frame = render_frame(rollout, 0.0)
    colors = {tuple(frame[y, x]) for y, x in ((96, 100), (32, 100), (64, 100))}
    assert len(colors) == 1


def test_a_video_is_h264_with_the_rendered_frames_and_the_same_bytes_again(
    tmp_path: Path, rollouts: list[Rollout]
):
    rollout = rollouts[0]
    for name in ("a.mp4", "b.mp4"):
        write_video(rollout, tmp_path / name)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == VIDEO_SECONDS * FRAMES_PER_SECOND
    for frame, time in zip(frames, frame_times(), strict=True):
        difference = np.abs(frame.astype(int) - render_frame(rollout, float(time)))
        # Chroma is stored at half resolution, so rims differ; flat parts hardly do.
        assert np.median(difference) <= 2
        assert difference.mean() < 4
