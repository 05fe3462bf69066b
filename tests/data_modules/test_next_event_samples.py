"""Next events as classes, latents kept on disk, and clips without labels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from coded_video import number_of, write_video
from lightning import Trainer

from data_modules.epoch_loader import epoch_loader, torch_order
from data_modules.next_events import (
    LatentFiles,
    collate_samples,
    event_head,
    next_event,
    next_event_samples,
)
from data_modules.unlabelled_clips import UnlabelledClips, index_videos
from vidreason.baselines.vjepa2.config import LookAhead, ModelSizes, ProbeSizes
from vidreason.baselines.vjepa2.future_latents import FutureLatents
from vidreason.baselines.vjepa2.pretraining import build_model, clip_transform
from vidreason.baselines.vjepa2.probe import AttentiveProbe
from vidreason.baselines.vjepa2.probe_training import UNSEEN, ProbeTraining
from vidreason.example import Example
from vidreason.reasoning.predictions import Prediction, format_predictions
from vidreason.reasoning.prompts import EVENT_REASONING_PROMPT, FUTURE_PREDICTION_PROMPT
from vidreason.training.config import OptimizerConfig
from vidreason.video.failures import FailureLog, UnreadableVideosError
from vidreason.video.reader import DIRECT
from vidreason.video.transforms import FrameTransform

SIZES = ModelSizes(
    **{"image_size": 16, "patch_size": 8, "num_frames": 4, "width": 24, "num_layers": 1},
    **{"num_heads": 2, "predictor_width": 16, "predictor_layers": 1, "predictor_heads": 2},
)
LOOK_AHEAD = LookAhead(num_frames=4, frames_per_second=8.0)


def example(number: int = 0, **changes) -> Example:
    fields = {
        **{"id": f"c:train:{number}", "corpus": "c", "media": "v.mp4", "video_id": f"v{number}"},
        **{"prompt": FUTURE_PREDICTION_PROMPT, "response": "", "answers": ("It stops.",)},
    }
    return Example(**fields | changes)


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> str:
    return str(write_video(tmp_path_factory.mktemp("video") / "numbered.mp4", num_frames=50))


def frozen_model(**changes) -> FutureLatents:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(SIZES)
    look_ahead = LookAhead(**{"num_frames": 4, "frames_per_second": 8.0} | changes)
    return FutureLatents(model, clip_transform(SIZES), look_ahead)


def failures(**changes) -> FailureLog:
    settings = {"path": None, "max_unreadable_fraction": 0.0, "num_examples": 10}
    return FailureLog(**settings | changes)


def test_the_next_event_is_the_one_that_came_or_the_first_that_is_predicted():
    predicted = format_predictions(
        [Prediction("It leaves.", "Why.", 0.6), Prediction("It stays.", "", 0.3)]
    )
    assert next_event(example()) == "It stops."
    assert next_event(example(answers=("It  stops\nhere",))) == "It stops here"
    assert next_event(example(answers=(), response=predicted)) == "It leaves."
    assert next_event(example(answers=())) == ""
    assert next_event(example(answers=("...",))) == ""
    assert next_event(example(prompt=EVENT_REASONING_PROMPT)) == ""


def test_labels_are_the_events_of_training_in_their_commonest_form():
    events = ["It stops.", "it stops", "A ball leaves", "It stops.", "Z"]
    examples = [example(number, answers=(event,)) for number, event in enumerate(events)]
    head = event_head([*examples, example(prompt=EVENT_REASONING_PROMPT)])
    assert head.labels == ["A ball leaves", "It stops.", "Z"]
    assert head.counts == [1, 3, 1]
    with pytest.raises(ValueError, match="no example says what comes next"):
        event_head([example(prompt=EVENT_REASONING_PROMPT)])


def test_latents_are_computed_once_for_everything_they_follow_from(tmp_path, video):
    calls = []
    model = frozen_model()

    def counted(videos):
        calls.append(len(videos))
        return FutureLatents.of_videos(model, videos)

    model.of_videos = counted
    files = LatentFiles(tmp_path / "latents", model, "hash", reader=DIRECT)
    span = {"media": video, "end_seconds": 1.0}
    first = files.file_of(example(**span))
    assert files.file_of(example(1, **span)) == first
    assert (
        LatentFiles(tmp_path / "latents", model, "hash", reader=DIRECT).file_of(example(**span))
        == first
    )
    assert calls == [1]
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(Path(video).read_bytes())
    assert files.file_of(example(media=str(copy), end_seconds=1.0)) == first  # by content
    assert calls == [1]
    later = frozen_model(anticipation_seconds=2.0)
    others = {
        files.file_of(example(media=video, end_seconds=1.5)),
        LatentFiles(tmp_path / "latents", model, "other", reader=DIRECT).file_of(example(**span)),
        LatentFiles(tmp_path / "latents", later, "hash", reader=DIRECT).file_of(example(**span)),
    }
    assert len(others | {first}) == 4


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_samples_train_a_probe(tmp_path, video):
    torch.manual_seed(0)
    events = ["It stops.", "It leaves.", "Unheard of."]
    examples = [
        example(number, media=video, end_seconds=0.5 + 0.1 * number, answers=(events[number % 2],))
        for number in range(6)
    ]
    held_out = [
        example(9, media=video, end_seconds=1.9, answers=("it STOPS",)),
        example(10, media=video, end_seconds=2.0, answers=(events[2],)),
        example(11, prompt=EVENT_REASONING_PROMPT),
    ]
    head = event_head(examples)
    model = frozen_model()
    files = LatentFiles(tmp_path / "latents", model, "hash", reader=DIRECT)
    train = next_event_samples(examples, head, files.file_of, failures())
    validation = next_event_samples(held_out, head, files.file_of, failures())
    assert train.labels == [1, 0] * 3
    assert validation.labels == [1, UNSEEN]
    batch = collate_samples([train[0], train[1]])
    assert batch["latents"].shape == (2, 8 + 4, 24)
    assert batch["labels"]["event"].tolist() == [1, 0]
    options = {"batch_size": 4, "seed": 3, "collate": collate_samples}
    loader = epoch_loader(train, torch_order(train, 3), **options)
    orders = []
    for epoch in (0, 1, 0):
        loader.sampler.set_epoch(epoch)
        orders.append([row.sum().item() for batch in loader for row in batch["latents"]])
    assert orders[0] == orders[2] != orders[1]
    probe = AttentiveProbe(ProbeSizes(width=24, num_heads=2, num_blocks=1), {"event": 2})
    module = ProbeTraining(probe, OptimizerConfig(learning_rate=1e-2), 4)
    trainer = Trainer(
        **{"accelerator": "cpu", "logger": False, "enable_progress_bar": False},
        **{"enable_model_summary": False, "enable_checkpointing": False, "max_epochs": 2},
        num_sanity_val_steps=0,
    )
    trainer.fit(module, loader, epoch_loader(validation, **options))
    assert trainer.global_step == 4
    assert trainer.callback_metrics["val/accuracy_event"] in (0.0, 0.5)


def test_unreadable_videos_are_left_out_and_counted(tmp_path, video):
    (tmp_path / "torn.mp4").write_bytes(b"\x00" * 100)
    examples = [example(0, media=video), example(1, media=str(tmp_path / "torn.mp4"))]
    files = LatentFiles(tmp_path / "latents", frozen_model(), "hash", reader=DIRECT)
    head = event_head(examples)
    log = failures(max_unreadable_fraction=0.5)
    samples = next_event_samples(examples, head, files.file_of, log)
    assert (len(samples), log.num_samples, log.num_unreadable) == (1, 2, 1)
    with pytest.raises(UnreadableVideosError, match="torn"):
        next_event_samples(examples, head, files.file_of, failures())
    log = failures(max_unreadable_fraction=0.5)
    assert len(index_videos([example.media for example in examples] * 2, log, DIRECT)) == 1
    assert log.num_unreadable == 1
    with pytest.raises(UnreadableVideosError, match="torn"):
        index_videos([str(tmp_path / "torn.mp4")], failures(), DIRECT)


def test_files_of_latents_that_are_damaged_are_named(tmp_path, video):
    files = LatentFiles(tmp_path / "latents", frozen_model(), "hash", reader=DIRECT)
    examples = [example(media=video)]
    samples = next_event_samples(examples, event_head(examples), files.file_of, failures())
    samples.files[0].write_bytes(samples.files[0].read_bytes()[:-10])
    with pytest.raises(ValueError, match="truncated or damaged"):
        samples[0]


def test_clips_are_windows_at_the_rate_from_drawn_moments(video):
    unchanged = FrameTransform(size=96, short_side=96, mean=(0.0,) * 3, std=(1 / 255,) * 3)
    (index,) = index_videos([video, video], failures(), DIRECT)
    settings = {"num_frames": 3, "frames_per_second": 12.5, "reader": DIRECT}
    clips = UnlabelledClips([index], unchanged, clips_per_video=8, seed=1, **settings)
    assert len(clips) == 8
    pixels = DIRECT.read_frames(index, range(50))
    transformed = unchanged.apply(pixels)
    starts = []
    for number in range(8):
        distances = [
            [(frame - other).abs().mean().item() for other in transformed]
            for frame in clips[number]
        ]
        shown = np.argmin(distances, axis=1)
        assert np.diff(shown).tolist() == [2, 2]  # 25 a second in the file
        starts.append(int(shown[0]))
    assert len(set(starts)) > 3
    assert max(starts) <= 45
    assert number_of(pixels[7]) == 7
    assert torch.equal(clips[2], clips[2])
    other = UnlabelledClips([index], unchanged, clips_per_video=8, seed=2, **settings)
    assert any(not torch.equal(clips[number], other[number]) for number in range(8))
    long = UnlabelledClips([index], unchanged, num_frames=4, frames_per_second=1.0, reader=DIRECT)
    assert torch.equal(long[0][2], long[0][3])  # two seconds: the last frame repeats
    with pytest.raises(ValueError, match="no video"):
        UnlabelledClips([], unchanged, **settings)
