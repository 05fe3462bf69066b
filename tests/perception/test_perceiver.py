import dataclasses
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from segment_anything.utils.amg import rle_to_mask
from tiny_perceiver import tiny_encoder, tiny_segmenter

from vidreason.perception import perceiver as perceiver_module
from vidreason.perception.config import SegmenterConfig, VideoEncoderConfig
from vidreason.perception.models import build_video_encoder
from vidreason.perception.object_tokens import pool_patches
from vidreason.perception.perceiver import (
    Perceiver,
    PerceiverConfig,
    build_perceiver,
    perceiver_fingerprint,
)
from vidreason.perception.segmenter import ObjectMask
from vidreason.perception.visual_tokens import (
    CLIP_TOKEN,
    OBJECT_TOKEN,
    VisualTokens,
    collate_visual_tokens,
)
from vidreason.video.reader import DIRECT, VideoReader, VideoReadError
from vidreason.video.sampling import SamplingConfig
from vidreason.video.transforms import FrameTransform

CASES = Path(__file__).parents[1] / "assets" / "cases"
HEIGHT, WIDTH, FRAME_RATE, NUM_FRAMES = 48, 64, 10, 24
SQUARE = 12


def tiny_config(**changes) -> PerceiverConfig:
    config = PerceiverConfig(
        sampling=SamplingConfig(num_clips=3, frames_per_clip=2, num_key_frames=3),
        video_encoder=tiny_encoder(image_size=32),
        segmenter=tiny_segmenter(points_per_side=3, box_nms_threshold=0.95),
        objects_per_key_frame=4,
        max_object_share=1.0,
    )
    return dataclasses.replace(config, **changes)


def square_at(frame_number: int) -> tuple[int, int]:
    """Left and top edge of the white square, which moves to the right."""
    return 2 * frame_number, 20


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> str:
    """A white square that moves over black, 2.4 s at 10 frames a second."""
    path = tmp_path_factory.mktemp("video") / "square.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FRAME_RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"crf": "5"}
        for number in range(NUM_FRAMES):
            picture = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
            left, top = square_at(number)
            picture[top : top + SQUARE, left : left + SQUARE] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return str(path)


class BrightSegmenter:
    """Finds exactly the bright pixels of a frame."""

    def segment(self, frames: torch.Tensor) -> list[list[ObjectMask]]:
        return [self.bright(frame) for frame in frames]

    def bright(self, frame: torch.Tensor) -> list[ObjectMask]:
        mask = frame.float().mean(0) > 127
        if not mask.any():
            return []
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        return [
            ObjectMask(mask=mask, box=box, area=int(mask.sum()), predicted_iou=1.0, stability=1.0)
        ]


@pytest.fixture(scope="module")
def perceiver() -> Perceiver:
    return build_perceiver(tiny_config())


def test_tokens_of_a_video_are_complete_and_in_order(perceiver, video):
    tokens = perceiver.perceive(video)
    num_objects = len(tokens) - 3
    assert 1 <= num_objects <= 3 * 4
    assert tokens.features.shape == (len(tokens), 16)
    assert tokens.features.dtype == torch.float32
    assert tokens.features.isfinite().all()
    assert tokens.kinds.tolist() == [CLIP_TOKEN] * 3 + [OBJECT_TOKEN] * num_objects
    assert tokens.duration_seconds == pytest.approx(2.4)

    torch.testing.assert_close(tokens.spans[:3], torch.tensor([[0, 0.8], [0.8, 1.6], [1.6, 2.4]]))
    times = tokens.spans[3:]
    assert torch.equal(times[:, 0], times[:, 1])
    assert torch.equal(times[:, 0], times[:, 0].sort().values)
    assert ((times >= 0) & (times <= 2.4)).all()

    assert tokens.boxes[:3].tolist() == [[0, 0, 1, 1]] * 3
    assert ((tokens.boxes >= 0) & (tokens.boxes <= 1)).all()
    assert (tokens.boxes[:, 2:] > tokens.boxes[:, :2]).all()
    assert tokens.areas[:3].tolist() == [1, 1, 1]
    assert tokens.masks[:3] == (None, None, None)
    for box, area, runs in zip(tokens.boxes[3:], tokens.areas[3:], tokens.masks[3:], strict=True):
        mask = rle_to_mask(runs)
        assert mask.shape == (HEIGHT, WIDTH)
        assert area == pytest.approx(mask.mean())
        x0, y0, x1, y1 = (box * torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])).round().int().tolist()
        assert mask[y0:y1, x0:x1].sum() == mask.sum()


def test_perceiving_again_gives_the_same_bits(perceiver, video):
    first, second = perceiver.perceive(video), build_perceiver(tiny_config()).perceive(video)
    assert torch.equal(first.features, second.features)
    assert first.masks == second.masks


def test_an_object_token_is_the_mean_patch_under_the_moving_square(video):
    config = tiny_config()
    encoder = build_video_encoder(config.video_encoder)
    tokens = Perceiver(config, encoder, BrightSegmenter(), torch.device("cpu")).perceive(video)
    assert len(tokens) == 6
    # Intervals of 0.4 s: their middles show the frames 2, 6, 10, 14, 18 and 22.
    shown = [round(time * FRAME_RATE) for time in tokens.spans[3:, 0].tolist()]
    assert set(shown) <= {2, 6, 10, 14, 18, 22}
    for number, box, area in zip(shown, tokens.boxes[3:], tokens.areas[3:], strict=True):
        left, top = square_at(number)
        expected = torch.tensor([left, top, left + SQUARE, top + SQUARE])
        pixels = box * torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])
        assert (pixels - expected).abs().max() <= 1  # the codec blurs edges
        assert area == pytest.approx(SQUARE**2 / (WIDTH * HEIGHT), rel=0.15)

    # The same numbers from the encoder's patches and the decoded mask, put together by hand.
    perceiver = Perceiver(config, encoder, BrightSegmenter(), torch.device("cpu"))
    seen = {}

    def remember(module, inputs, output):
        seen["patches"] = output.patch_tokens

    hook = encoder.register_forward_hook(remember)
    perceiver.perceive(video)
    hook.remove()
    frames_in_order = [2, 6, 10, 14, 18, 22]
    patches = seen["patches"][0].flatten(0, 1)
    for index, number in enumerate(shown):
        mask = torch.from_numpy(rle_to_mask(tokens.masks[3 + index]).copy())[None]
        edges = encoder.transform.patch_edges(HEIGHT, WIDTH, 8)
        expected = pool_patches(mask, patches[frames_in_order.index(number)], *edges)[0]
        torch.testing.assert_close(tokens.features[3 + index], expected)


class FixedSegmenter:
    """Finds the same rectangles (top, bottom, left, right) on every frame; counts its calls."""

    def __init__(self, *rectangles: tuple[int, int, int, int], shrink: int = 1) -> None:
        self.rectangles = rectangles
        self.shrink = shrink
        self.calls: list[int] = []

    def segment(self, frames: torch.Tensor) -> list[list[ObjectMask]]:
        self.calls.append(len(frames))
        return [[self.rectangle(*sides) for sides in self.rectangles] for _ in frames]

    def rectangle(self, *sides: int) -> ObjectMask:
        mask = torch.zeros(HEIGHT // self.shrink, WIDTH // self.shrink, dtype=torch.bool)
        top, bottom, left, right = (side // self.shrink for side in sides)
        mask[top:bottom, left:right] = True
        return ObjectMask(
            mask=mask,
            box=(left, top, right, bottom),
            area=int(mask.sum()),
            predicted_iou=1.0,
            stability=1.0,
        )


def perceive_fixed(video: str, segmenter: FixedSegmenter, transform=None) -> VisualTokens:
    encoder = build_video_encoder(tiny_config().video_encoder)
    if transform is not None:
        encoder.transform = transform
    return Perceiver(tiny_config(), encoder, segmenter, torch.device("cpu")).perceive(video)


def test_all_key_frames_are_segmented_in_one_call(video):
    segmenter = FixedSegmenter((8, 24, 16, 40), (30, 40, 4, 12))
    tokens = perceive_fixed(video, segmenter)
    assert segmenter.calls == [3]
    assert tokens.track_ids.tolist() == [-1] * 3 + [0, 1] * 3


def test_what_the_encoders_crop_cuts_off_becomes_no_token(video):
    cropped = FrameTransform(size=32, short_side=32)  # columns 8 to 56 of the frame, about
    tokens = perceive_fixed(video, FixedSegmenter((0, 48, 0, 6), (8, 24, 0, 16)), cropped)
    assert tokens.features.isfinite().all()
    assert (tokens.boxes[3:] * WIDTH)[:, 2].tolist() == [16] * 3


def test_masks_of_fewer_pixels_than_the_frame_give_the_same_tokens(video):
    full = perceive_fixed(video, FixedSegmenter((8, 24, 16, 40)))
    half = perceive_fixed(video, FixedSegmenter((8, 24, 16, 40), shrink=2))
    torch.testing.assert_close(half.features, full.features)
    assert torch.equal(half.boxes, full.boxes)
    assert torch.equal(half.areas, full.areas)
    assert half.masks[3]["size"] == [HEIGHT // 2, WIDTH // 2]


def test_a_span_has_times_from_its_own_start(perceiver, video):
    tokens = perceiver.perceive(video, 0.6, 1.8)
    assert tokens.duration_seconds == pytest.approx(1.2)
    torch.testing.assert_close(tokens.spans[:3], torch.tensor([[0, 0.4], [0.4, 0.8], [0.8, 1.2]]))
    assert ((tokens.spans >= 0) & (tokens.spans <= 1.2 + 1e-6)).all()
    whole = perceiver.perceive(video)
    assert not torch.equal(tokens.features[:3], whole.features[:3])


def test_a_video_may_have_no_objects(video):
    config = tiny_config()
    strict = dataclasses.replace(config.segmenter, pred_iou_threshold=100.0)
    tokens = build_perceiver(dataclasses.replace(config, segmenter=strict)).perceive(video)
    assert len(tokens) == 3
    assert tokens.kinds.tolist() == [CLIP_TOKEN] * 3
    assert tokens.boxes.shape == (3, 4)


def test_without_objects_no_segmenter_is_built(video, perceiver):
    alone = build_perceiver(tiny_config(use_objects=False, segmenter=SegmenterConfig()))
    assert alone.segmenter is None
    tokens = alone.perceive(video)
    assert torch.equal(tokens.features, perceiver.perceive(video).features[:3])


def test_tokens_are_constants_that_autograd_accepts(perceiver, video):
    features = perceiver.perceive(video).features
    assert not features.is_inference()
    weight = torch.ones(16, requires_grad=True)
    (features @ weight).sum().backward()
    torch.testing.assert_close(weight.grad, features.sum(0))


def test_padding_keeps_each_videos_tokens(perceiver, video):
    tokens = perceiver.perceive(video)
    batch = collate_visual_tokens([tokens.without_tokens(), tokens])
    assert batch["mask"].tolist() == [[False] * len(tokens), [True] * len(tokens)]
    assert torch.equal(batch["features"][1], tokens.features)
    assert not batch["features"][0].any()
    assert batch["durations"].tolist() == pytest.approx([2.4, 2.4])
    empty = collate_visual_tokens([tokens.without_tokens()])
    assert empty["features"].shape == (1, 1, 16)
    assert not empty["mask"].any()


def test_an_unreadable_video_is_an_error_with_its_path(perceiver, tmp_path):
    path = tmp_path / "text.mp4"
    path.write_text("not a video")
    with pytest.raises(VideoReadError, match=r"text\.mp4"):
        perceiver.perceive(str(path))


def test_the_fingerprint_names_configuration_and_weights(tmp_path):
    def save_encoder(path: Path, seed: int) -> VideoEncoderConfig:
        random = dataclasses.replace(tiny_config().video_encoder, seed=seed)
        save_file(build_video_encoder(random).state_dict(), path)
        return dataclasses.replace(random, weights=str(path), allow_random_weights=False, seed=0)

    base = perceiver_fingerprint(tiny_config())
    assert (
        base == perceiver_fingerprint(tiny_config()) == build_perceiver(tiny_config()).fingerprint
    )
    config = tiny_config()
    changed = [
        tiny_config(objects_per_key_frame=5),
        tiny_config(use_objects=False),
        tiny_config(video_encoder=dataclasses.replace(config.video_encoder, seed=1)),
        tiny_config(video_encoder=save_encoder(tmp_path / "a.safetensors", 1)),
        tiny_config(video_encoder=save_encoder(tmp_path / "b.safetensors", 2)),
        tiny_config(segmenter=dataclasses.replace(config.segmenter, stability_threshold=0.1)),
    ]
    assert len({base, *map(perceiver_fingerprint, changed)}) == 1 + len(changed)

    moved = tmp_path / "moved.safetensors"
    moved.write_bytes((tmp_path / "a.safetensors").read_bytes())
    elsewhere = dataclasses.replace(changed[3].video_encoder, weights=str(moved))
    assert perceiver_fingerprint(tiny_config(video_encoder=elsewhere)) == perceiver_fingerprint(
        changed[3]
    )
    no_objects = [
        tiny_config(use_objects=False, segmenter=SegmenterConfig(points_per_side=side))
        for side in (8, 16)
    ]
    assert perceiver_fingerprint(no_objects[0]) == perceiver_fingerprint(no_objects[1])
    missing = dataclasses.replace(config.segmenter, weights=str(tmp_path / "none.pth"))
    with pytest.raises(ValueError, match=r"perceiver\.segmenter\.weights: there is no file"):
        perceiver_fingerprint(tiny_config(segmenter=missing))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampling": SamplingConfig(frames_per_clip=3)}, "3 is not the encoder's .*num_frames 2"),
        ({"kept_objects": -1}, "kept_objects is -1; it must be at least 0"),
        ({"objects_per_key_frame": 0}, "objects_per_key_frame is 0; it must be at least 1"),
        ({"min_object_share": 0.5, "max_object_share": 0.2}, r"found 0\.5 and 0\.2"),
    ],
)
def test_impossible_configurations_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_config(**changes)


def test_a_picture_that_begins_after_its_sound_keeps_the_files_clock(perceiver, monkeypatch):
    """10 frames a second from 2 s to 8 s; what is asked of earlier times is not invented."""
    path = str(CASES / "picture_starts_after_sound.mp4")
    read = []

    read_frames = VideoReader.read_frames

    def note(reader, index, frame_indices, **options):
        read.append(list(frame_indices))
        return read_frames(reader, index, frame_indices, **options)

    monkeypatch.setattr(VideoReader, "read_frames", note)
    whole = perceiver.perceive(path)
    assert whole.duration_seconds == pytest.approx(8.0)
    torch.testing.assert_close(whole.spans[:3], torch.tensor([[2.0, 4], [4, 6], [6, 8]]))
    assert ((whole.spans[3:] >= 2) & (whole.spans[3:] <= 8)).all()
    part = perceiver.perceive(path, 5.0, 6.2)
    torch.testing.assert_close(part.spans[:3], torch.tensor([[0.0, 0.4], [0.4, 0.8], [0.8, 1.2]]))
    overlapping = perceiver.perceive(path, 1.0, 3.2)
    torch.testing.assert_close(
        overlapping.spans[:3], torch.tensor([[1.0, 1.4], [1.4, 1.8], [1.8, 2.2]])
    )
    assert overlapping.duration_seconds == pytest.approx(2.2)
    assert read == [[5, 15, 25, 35, 45, 55], [31, 33, 35, 37, 39, 41], [1, 3, 5, 7, 9, 11]]
    with pytest.raises(VideoReadError, match="its picture begins at"):
        perceiver.perceive(path, 0.5, 1.5)
    assert len(perceiver.perceive(path, 6.5)) >= 3


def test_large_frames_are_scaled_as_they_are_decoded(video, monkeypatch):
    segmenter = BrightSegmenter()
    config = tiny_config()
    shapes = []
    monkeypatch.setattr(
        segmenter,
        "segment",
        lambda frames: shapes.append(tuple(frames.shape)) or [[]] * len(frames),
    )
    encoder = build_video_encoder(config.video_encoder)
    whole = Perceiver(config, encoder, segmenter, torch.device("cpu"), DIRECT)
    assert whole.decoded_side == 1280
    before = whole.perceive(video)
    monkeypatch.setattr(perceiver_module, "LARGE_SIDE", 32)
    monkeypatch.setattr(perceiver_module, "_DECODED_A_PIXEL", 1)
    config.segmenter.max_frame_side = 32
    assert whole.decoded_side == 32
    after = whole.perceive(video)
    assert shapes == [(3, 3, HEIGHT, WIDTH), (3, 3, 24, 32)]
    assert torch.equal(before.spans, after.spans)
    config.segmenter.max_frame_side = 64
    assert torch.equal(whole.perceive(video).features, before.features)
