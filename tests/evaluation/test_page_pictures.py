"""Frames with masks: what a page shows of a span, from the video file and the store."""

import base64
import io

import numpy as np
import pytest
import torch
from coded_video import number_of, write_video
from PIL import Image
from segment_anything.utils.amg import mask_to_rle_pytorch

from vidreason.evaluation.page.pictures import (
    MASK_COLORS,
    PICTURE_SIDE,
    StoredPictures,
    draw_masks,
    key_frames,
)
from vidreason.example import Example
from vidreason.perception.config import VideoEncoderConfig
from vidreason.perception.perceiver import PerceiverConfig
from vidreason.perception.visual_tokens import CLIP_TOKEN, OBJECT_TOKEN, VisualTokens
from vidreason.store.feature_store import StoreConfig
from vidreason.store.visual_token_source import VisualTokenSource
from vidreason.video.failures import VideoReadError
from vidreason.video.reader import DIRECT
from vidreason.video.sampling import SamplingConfig


def test_masks_are_drawn_in_their_tracks_colours():
    frame = np.full((64, 64, 3), 100, dtype=np.uint8)
    masks = [np.zeros((64, 64), dtype=bool) for _ in range(2)]
    masks[0][8:24, 8:24] = True
    masks[1][40:56, 40:56] = True
    picture = draw_masks(frame, [(4, masks[0]), (len(MASK_COLORS) + 1, masks[1])])
    assert picture.size == (256, 256)
    assert picture.getpixel((128, 20)) == (100, 100, 100)
    for mask_color, (first, last) in ((MASK_COLORS[4], (8, 24)), (MASK_COLORS[1], (40, 56))):
        middle = 2 * (first + last)
        color = tuple(int(mask_color[i : i + 2], 16) for i in (1, 3, 5))
        inside = picture.getpixel((middle, middle))
        assert inside == pytest.approx([75 + 0.25 * c for c in color], abs=2)
        assert picture.getpixel((4 * first + 1, middle)) == color  # the outline


def test_a_large_frame_becomes_small():
    picture = draw_masks(np.zeros((90, 1280, 3), dtype=np.uint8), [])
    assert picture.size == (PICTURE_SIDE, 18)


SPAN = (0.4, 1.2)
KEY_FRAMES = {17: 0.28, 27: 0.68}
"""Frames shown at 3/8 and 7/8 of the span, and when they appear in it."""


def span_tokens(mask: np.ndarray) -> VisualTokens:
    """A clip token, and an object with ``mask`` at the second key frame only."""
    (runs,) = mask_to_rle_pytorch(torch.from_numpy(mask)[None])
    seen = KEY_FRAMES[27]
    return VisualTokens(
        features=torch.zeros(2, 8),
        kinds=torch.tensor([CLIP_TOKEN, OBJECT_TOKEN]),
        spans=torch.tensor([[0.0, 0.8], [seen, seen]]),
        boxes=torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 2),
        areas=torch.ones(2),
        track_ids=torch.tensor([-1, 0]),
        masks=(None, runs),
        duration_seconds=0.8,
    )


@pytest.fixture
def source(tmp_path) -> VisualTokenSource:
    config = PerceiverConfig(
        sampling=SamplingConfig(num_clips=2, frames_per_clip=2, num_key_frames=2),
        video_encoder=VideoEncoderConfig(
            name="viclip", allow_random_weights=True, image_size=16, patch_size=8, width=24,
            num_layers=1, num_heads=2, num_frames=2, output_dim=8,
        ),
        use_objects=False,
    )  # fmt: skip
    store = StoreConfig(path=str(tmp_path / "store"), dtype="float32")
    return VisualTokenSource(config, store, reader=DIRECT)


def opened(data_uri: str) -> Image.Image:
    head, _, content = data_uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def tensor(picture: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def test_the_frames_of_a_question_show_the_masks_that_the_store_has(tmp_path, source):
    video = str(write_video(tmp_path / "v.mp4"))
    examples = [
        Example(id="span", corpus="c", media=video, video_id="v", prompt="?", response="",
                start_seconds=SPAN[0], end_seconds=SPAN[1]),
        Example(id="whole", corpus="c", media=video, video_id="v", prompt="?", response=""),
    ]  # fmt: skip
    pictures = StoredPictures.of_examples(examples, source)
    assert pictures.span("span") == (video, *SPAN)
    assert pictures.span("unknown") is None
    mask = np.zeros((48, 64), dtype=bool)
    mask[32:44, 44:56] = True
    source.store.put(source.key(video, *SPAN), span_tokens(mask))
    before, after = pictures.frames((video, *SPAN))
    assert (before.num_objects, after.num_objects) == (0, 1)
    timestamps = DIRECT.index(video).timestamps
    for frame, (number, seconds) in zip((before, after), KEY_FRAMES.items(), strict=True):
        assert number_of(tensor(opened(frame.data_uri))) == number
        assert frame.seconds == timestamps[number] == pytest.approx(SPAN[0] + seconds)
    first, second = (tensor(opened(one.data_uri)).int() for one in (before, after))
    changed = (first - second).abs().amax(dim=0)[70:, 160:] > 60  # no numbers there, and no bar
    rows, columns = changed.nonzero().T
    assert 124 <= rows.min() + 70 < 134
    assert 170 < rows.max() + 70 <= 180
    assert 172 <= columns.min() + 160 < 182
    assert 218 < columns.max() + 160 <= 228
    assert source.num_perceived == 0
    # Of the whole video the store knows nothing: its frames are shown, its objects are unknown.
    assert [one.num_objects for one in pictures.frames((video, None, None))] == [None, None]


def test_a_video_that_is_gone_is_an_error_with_its_name(tmp_path, source):
    pictures = StoredPictures({}, source)
    with pytest.raises(VideoReadError, match=r"gone\.mp4"):
        pictures.frames((str(tmp_path / "gone.mp4"), None, None))


def test_without_key_frames_the_clips_middles_are_shown(tmp_path):
    video = str(write_video(tmp_path / "v.mp4"))
    sampling = SamplingConfig(num_clips=4, frames_per_clip=5, num_key_frames=0)
    shown = key_frames((video, None, None), None, sampling)
    assert [number_of(tensor(opened(one.data_uri))) for one in shown] == [5, 15, 25, 35]


def test_frames_that_are_several_key_frames_are_shown_once(tmp_path):
    video = str(write_video(tmp_path / "v.mp4", num_frames=2))
    sampling = SamplingConfig(num_clips=2, frames_per_clip=4, num_key_frames=8)
    shown = key_frames((video, None, None), None, sampling)
    assert [number_of(tensor(opened(one.data_uri))) for one in shown] == [0, 1]
