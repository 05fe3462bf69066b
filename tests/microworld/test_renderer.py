from pathlib import Path

import av
import numpy as np

from vidreason.microworld.renderer import (
    FRAME_SIZE,
    FRAMES_PER_SECOND,
    frame_times,
    render_frame,
    render_masks,
    render_wall,
    write_video,
)
from vidreason.microworld.scenes import draw_rollouts
from vidreason.microworld.simulation import ARENA, VIDEO_SECONDS


def test_masks_lie_where_the_colours_are_and_never_overlap():
    for _, rollout in draw_rollouts("masks", 10):
        frame = render_frame(rollout, 2.0).astype(int)
        floor = rollout.scene.background
        masks = render_masks(rollout, 2.0)
        assert sum(mask.astype(int) for mask in masks.values()).max() <= 1
        covered = np.any(list(masks.values()), axis=0) | render_wall(rollout)
        # Anti-aliased rims aside, everything else is floor.
        is_floor = np.abs(frame - floor).max(axis=2) == 0
        assert (is_floor == ~covered).mean() > 0.97
        for color, mask in masks.items():
            x, y, _, _ = rollout.state(color, 2.0)
            rows, columns = np.nonzero(mask)
            if 10 < x < ARENA - 10 and 10 < y < ARENA - 10 and mask.sum() > 300:
                scale = FRAME_SIZE / ARENA
                assert abs(columns.mean() / scale - x) < 2.5
                assert abs(rows.mean() / scale - y) < 2.5


def test_a_video_is_h264_with_the_rendered_frames_and_the_same_bytes_again(tmp_path: Path):
    _, rollout = next(draw_rollouts("video", 1))
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
