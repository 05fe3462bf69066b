"""MCVD's training, and MCVD with a captioner on a real video."""

from dataclasses import replace

import av
import numpy as np
import pytest
import torch
from blind_frames import no_frames
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from data_modules.epoch_loader import NumpyOrder, epoch_loader
from data_modules.frame_windows import FrameWindows, collate_windows
from vidreason.baselines.build import SYSTEMS, Baseline, baseline_problems
from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.frames import FrameReader, LastFrames, middle_frames
from vidreason.baselines.mcvd.checkpoint import load_folder, save_folder
from vidreason.baselines.mcvd.config import DiffusionConfig
from vidreason.baselines.mcvd.module import MCVDModule
from vidreason.baselines.mcvd.pictures import enlarge, shrink, to_model_range, to_rgb
from vidreason.baselines.mcvd.system import (
    CaptionerOnObserved,
    Mcvd,
    last_frames,
    observed_frames,
)
from vidreason.baselines.system import Captioner, Facts, System
from vidreason.evaluation.answerer import Reply
from vidreason.evaluation.benchmark import evaluate_examples
from vidreason.evaluation.config import EvaluationConfig
from vidreason.example import Example
from vidreason.reasoning.prompts import FUTURE_FRAMES_PROMPT, FUTURE_PREDICTION_PROMPT
from vidreason.reasoning.reasoner_config import DecodingConfig
from vidreason.video.reader import DIRECT

RATE = 10
SIZES = {
    **{"image_size": 16, "num_frames": 2, "num_past_frames": 2, "width": 8, "multipliers": [1, 2]},
    **{"num_blocks": 1, "attention_sides": [], "head_channels": None, "dropout": 0.0},
    **{"sampler": "ddim", "sampling_steps": 10, "num_predicted": 4, "frame_rate": 5.0},
}


def write_video(path, num_frames=20, side=48):
    """A bright square that moves 2 pixels a frame to the right, on a dark ground."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = side + 16, side, "yuv420p"
        for number in range(num_frames):
            picture = np.full((side, side + 16, 3), 30, dtype=np.uint8)
            picture[16:32, 2 * number : 2 * number + 16] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return str(path)


def moving_squares(count=8):
    """Windows ``(count, 4, 3, 16, 16)`` of a square that moves 2 pixels a frame."""
    windows = torch.full((count, 4, 3, 16, 16), 20, dtype=torch.uint8)
    for window in range(count):
        for frame in range(4):
            left = 2 * frame + window % 4
            top = 2 + window // 4 * 6
            windows[window, frame, :, top : top + 4, left : left + 4] = 235
    return windows


class Scripted(System):
    """Says what it is shown; remembers it."""

    def __init__(self):
        self.shown = []

    def predict(self, videos, examples):
        self.shown += list(videos)
        return [
            Reply(output=f"{len(video.seconds)} frames: {e.prompt}")
            for video, e in zip(videos, examples, strict=True)
        ]

    def choose(self, videos, examples):
        self.shown += list(videos)
        return [Reply(output=example.options[0]) for example in examples]


class Words(Scripted):
    """The same as a baseline that a configuration names."""

    parts = ()

    @classmethod
    def load(cls, config, decoding, device):
        return cls()

    @classmethod
    def facts(cls, config):
        return Facts(fidelity="generic", source="this test")

    @classmethod
    def frame_rule(cls, config):
        return middle_frames(3)


class OnlyAnswers(System):
    def answer(self, videos, examples):
        return [Reply(output="in words") for _ in examples]


def example(number=0, **changes):
    fields = {
        **{"id": f"world:test:{number}", "corpus": "world", "media": "v.mp4", "video_id": "v"},
        **{"prompt": FUTURE_PREDICTION_PROMPT, "response": ""},
    }
    return Example(**fields | changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An MCVD folder, whose model has random weights."""
    torch.manual_seed(0)
    module = MCVDModule(DiffusionConfig(**SIZES))
    path = tmp_path_factory.mktemp("mcvd") / "model"
    save_folder(module.average, path, name="squares", trained_on=("squares",))
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "v.mp4")


def config(folder, **changes):
    return BaselineConfig(
        kind="mcvd", weights={"model": str(folder)}, captioner="words", dtype="float32", **changes
    )


def load(system, folder, captioner):
    device = torch.device("cpu")
    return system.load_with_captioner(config(folder), DecodingConfig(), device, captioner)


def test_predicted_frames_of_a_real_video_go_to_the_captioner(folder, video):
    rule = Mcvd.frame_rule(config(folder))
    frames = FrameReader(DIRECT)(video, None, None, rule)
    captioner = Scripted()
    system = load(Mcvd, folder, Captioner(captioner, middle_frames(3)))
    asked_twice = [example(0), example(1)]
    replies = system.predict([frames, frames], asked_twice)
    assert [reply.output for reply in replies] == [f"3 frames: {FUTURE_FRAMES_PROMPT}"] * 2
    shown, again = captioner.shown
    assert again is shown, "questions about one video share its prediction"
    # Four frames at the model's rate, at the side of the middle square.
    assert shown.pixels.shape == (3, 3, 48, 48)
    assert (shown.num_frames, shown.duration_seconds) == (4, 4 / 5)
    assert shown.seconds == (0.0, 2 / 5, 3 / 5)
    # They are the model's, and the same in another batch and order.
    known = (to_model_range(observed_frames(frames, system._config), system._config) + 1) / 2
    assert known.shape == (2, 3, 16, 16)
    other = FrameReader(DIRECT)(video, None, None, rule)
    system.predict([other, frames], [example(2, video_id="w"), example(0)])
    of_other, repeated = captioner.shown[2:]
    assert torch.equal(repeated.pixels, shown.pixels)
    assert not torch.equal(of_other.pixels, shown.pixels), "each video has noise of its own"


def test_the_control_shows_the_last_observed_frames(folder, video):
    frames = FrameReader(DIRECT)(video, None, None, CaptionerOnObserved.frame_rule(config(folder)))
    captioner = Scripted()
    system = load(CaptionerOnObserved, folder, Captioner(captioner, middle_frames(2)))
    [reply] = system.predict([frames], [example()])
    assert reply.output == f"2 frames: {FUTURE_PREDICTION_PROMPT}"
    [shown] = captioner.shown
    small = observed_frames(frames, DiffusionConfig(**SIZES))
    assert torch.equal(shown.pixels, enlarge(small, *frames.pixels.shape[-2:]))
    # A fifth of a second apart, of a video of ten frames a second: frames 16 and 18 of 20.
    bright = shown.pixels[:, 0, 24].float() > 125
    lefts = [int(row.nonzero()[0]) for row in bright]
    assert lefts[1] - lefts[0] == pytest.approx(4, abs=1)
    assert lefts[1] == pytest.approx(36 - 8, abs=2)


def test_choices_are_made_only_about_what_happens_next(folder, video):
    frames = FrameReader(DIRECT)(video, None, None, Mcvd.frame_rule(config(folder)))
    options = {"options": ("yes", "no"), "answer_index": 0, "prompt": "Does it go on?"}
    questions = [
        example(0, question_type="explanatory", **options),
        example(1, question_type="predictive", **options),
    ]
    captioner = Scripted()
    system = load(Mcvd, folder, Captioner(captioner, middle_frames(2)))
    replies = system.choose([frames, frames], questions)
    assert not replies[0].applies
    assert replies[1].output == "yes"
    assert len(captioner.shown) == 1
    words = load(Mcvd, folder, Captioner(OnlyAnswers(), middle_frames(2)))
    assert not any(reply.applies for reply in words.choose([frames, frames], questions))
    assert words.predict([frames], [example()])[0].output == "in words"


def test_a_configuration_names_the_captioner(folder, video, monkeypatch):
    monkeypatch.setitem(SYSTEMS, "transformers", f"{__name__}:Words")
    configs = {
        "mcvd": config(folder),
        "control": replace(config(folder), kind="mcvd_observed"),
        "words": BaselineConfig(),
    }
    questions = [
        example(0, media=video),
        example(1, media=video, options=("yes", "no"), answer_index=0, question_type="predictive"),
        example(2, media=video, options=("yes", "no"), answer_index=0, question_type="explanatory"),
    ]
    prompts = {"mcvd": FUTURE_FRAMES_PROMPT, "control": FUTURE_PREDICTION_PROMPT}
    for name, prompt in prompts.items():
        assert not baseline_problems(name, configs[name], configs, DecodingConfig())
        baseline = Baseline(name, configs, DecodingConfig(), torch.device("cpu"), DIRECT)
        answerer = baseline.answerer(questions, "none")
        assert answerer.capabilities == {"predict", "choose"}
        rows = evaluate_examples(answerer, questions, EvaluationConfig())
        assert rows[0].output == f"3 frames: {prompt}"
        assert [row.output for row in rows[1:]] == ["yes", ""]
        # Not applicable, and neither right nor wrong.
        assert [row.missing_capability for row in rows] == ["", "", "choose"]
        assert rows[2].correct is None
        captioner = baseline.provenance.answering["captioner"]
        assert captioner["model"].startswith("transformers:")
    for changes, message in (
        ({"captioner": ""}, "captioner is empty"),
        ({"captioner": "control"}, "needs a captioner itself"),
        ({"captioner": "other"}, "name another baseline"),
        ({"num_frames": 8}, "num_frames is 8"),
    ):
        changed = replace(configs["mcvd"], **changes)
        problems = baseline_problems("mcvd", changed, configs, DecodingConfig())
        assert [message in problem for problem in problems] == [True]


def test_a_blind_run_stays_blind(folder, video):
    frames = no_frames(FrameReader(DIRECT)(video, None, None, Mcvd.frame_rule(config(folder))))
    captioner = Scripted()
    system = load(Mcvd, folder, Captioner(captioner, middle_frames(2)))
    [reply] = system.predict([frames], [example()])
    assert captioner.shown == [frames]
    assert reply.output == f"0 frames: {FUTURE_PREDICTION_PROMPT}"


def test_one_frame_is_enough(folder, video):
    frames = FrameReader(DIRECT)(video, None, None, lambda available: [available // 2])
    small = observed_frames(frames, DiffusionConfig(**SIZES))
    assert torch.equal(small[0], small[1])
    consecutive = DiffusionConfig(**SIZES | {"frame_rate": None, "num_past_frames": 3})
    assert len(observed_frames(frames, consecutive)) == 3
    assert last_frames(consecutive)(10) == [7, 8, 9]
    assert last_frames(consecutive)(2) == [0, 0, 1]
    # A captioner of the last frames gets those of the prediction.
    captioner = Scripted()
    system = load(Mcvd, folder, Captioner(captioner, LastFrames(2, 5.0)))
    system.predict([frames], [example()])
    assert captioner.shown[0].indices == (2, 3)


def test_facts_name_the_models_and_what_is_adapted(folder):
    facts = Mcvd.facts(config(folder))
    assert facts.fidelity == "re-trained"
    assert "adapted: MCVD(squares, 16 px) + words" in facts.deviations[0]
    assert facts.trained_on == ("squares",)
    control = CaptionerOnObserved.facts(config(folder))
    assert control.fidelity == "re-composed"
    assert "2 last observed frames" in control.deviations[0]
    assert Mcvd.answering(config(folder))["sampling_steps"] == 10


def test_what_is_missing_is_named(folder, tmp_path):
    with pytest.raises(ValueError, match=r"baselines\.captioner is empty"):
        Mcvd.load(config(folder), DecodingConfig(), torch.device("cpu"))
    with pytest.raises(ValueError, match="can neither predict nor answer"):
        load(Mcvd, folder, Captioner(System(), middle_frames(2)))
    with pytest.raises(ValueError, match="no entry 'model'"):
        Mcvd.frame_rule(BaselineConfig(kind="mcvd"))
    with pytest.raises(ValueError, match="no MCVD folder"):
        Mcvd.facts(config(tmp_path))
    backwards = DiffusionConfig(**SIZES | {"num_past_frames": 0, "num_future_frames": 2})
    save_folder(MCVDModule(backwards).average, tmp_path / "m", name="backwards")
    with pytest.raises(ValueError, match="does not predict from past frames"):
        load(Mcvd, tmp_path / "m", Captioner(Scripted(), middle_frames(2)))


def test_pictures_keep_their_values():
    frames = torch.randint(0, 256, (2, 3, 20, 30), dtype=torch.uint8)
    small = shrink(frames, 10)
    assert small.shape == (2, 3, 10, 10)
    # The middle square: columns 5 to 25, of which a pixel is about the mean of 2 x 2.
    flat = shrink(torch.full((1, 3, 20, 30), 77, dtype=torch.uint8), 10)
    assert (flat == 77).all()
    edge = torch.zeros(1, 3, 20, 30, dtype=torch.uint8)
    edge[..., :5] = edge[..., 25:] = 255
    assert shrink(edge, 10)[..., 1:-1].max() == 0
    assert enlarge(small, 20, 30).shape == (2, 3, 20, 20)
    for channels in (1, 3):
        sizes = DiffusionConfig(**SIZES | {"channels": channels})
        grey = small[:, :1].expand(-1, 3, -1, -1)
        assert torch.equal(to_rgb((to_model_range(grey, sizes) + 1) / 2), grey)


def test_windows_follow_the_rate_and_failures_are_counted(video, tmp_path):
    short = write_video(tmp_path / "short.mp4", num_frames=3)
    sizes = DiffusionConfig(**SIZES)
    windows = FrameWindows([video, short, "missing.mp4"], sizes, windows_per_video=2, reader=DIRECT)
    assert len(windows) == 6
    first, second = windows[0], windows[1]
    assert first.shape == (4, 3, 16, 16)
    assert first.dtype == torch.uint8
    batch = collate_windows([windows[number] for number in range(6)])
    assert batch["frames"].shape == (2, 4, 3, 16, 16)
    causes = [(failure.id, failure.cause) for failure in batch["failures"]]
    assert causes == [(short, "span-outside")] * 2 + [("missing.mp4", "missing")] * 2
    # The square moves 4 of 48 pixels from frame to frame: 4 / 3 of 16.
    columns = torch.arange(16.0)

    def lefts(window):
        bright = (window[:, 0].float() - 30).clamp(min=0)
        return (bright.sum(1) * columns).sum(1) / bright.sum((1, 2))

    assert lefts(second)[0] > lefts(first)[0]
    # At first, a part of it lies left of the middle square.
    assert lefts(second).diff().tolist() == pytest.approx([4 / 3] * 3, abs=0.3)
    consecutive = FrameWindows(
        [video, short], DiffusionConfig(**SIZES | {"frame_rate": None}), reader=DIRECT
    )
    assert lefts(consecutive[5]).diff().tolist() == pytest.approx([2 / 3] * 3, abs=0.3)
    assert consecutive[8].cause == "span-outside"
    with pytest.raises(ValueError, match="windows_per_video is 0"):
        FrameWindows([video], sizes, windows_per_video=0)


class Windows:
    """Windows in memory, as a data set."""

    def __init__(self, windows):
        self._windows = windows

    def __len__(self):
        return len(self._windows)

    def __getitem__(self, number):
        return self._windows[number]


def fit(module, data, folder, max_epochs, checkpoint=None):
    trainer = Trainer(
        **{"max_epochs": max_epochs, "accelerator": "cpu", "logger": False},
        **{"enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1},
        **{"callbacks": [ModelCheckpoint(folder, save_last=True)], "num_sanity_val_steps": 0},
    )
    trainer.fit(module, *data, ckpt_path=checkpoint, weights_only=False)
    return trainer


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_resumed_run_goes_on_as_it_would_have(tmp_path):
    def run(name, epochs, checkpoint=None):
        torch.manual_seed(1)
        module = MCVDModule(DiffusionConfig(**SIZES), learning_rate=1e-3, warm_up_steps=3)
        windows = Windows(moving_squares(4))
        options = {"batch_size": 2, "seed": 0, "collate": collate_windows}
        data = (
            epoch_loader(windows, NumpyOrder(windows, 0), **options),
            epoch_loader(Windows(moving_squares(2)), **options),
        )
        # The same noise in each epoch, whichever run it is in.
        module.on_train_epoch_start = lambda: torch.manual_seed(module.current_epoch)
        return module, fit(module, data, tmp_path / name, epochs, checkpoint)

    whole, trainer = run("whole", 2)
    assert trainer.global_step == 4
    assert set(trainer.callback_metrics) >= {"train/loss", "val/loss"}
    run("halves", 1)
    resumed, _ = run("halves", 2, tmp_path / "halves" / "last.ckpt")
    for part in ("model", "average"):
        expected = getattr(whole, part).state_dict()
        for key, value in getattr(resumed, part).state_dict().items():
            assert torch.equal(value, expected[key]), (part, key)
    moved = [
        not torch.equal(value, resumed.model.state_dict()[key])
        for key, value in resumed.average.state_dict().items()
    ]
    assert any(moved), "the average lags behind"


def train(module, windows, steps):
    """Train without a trainer; returns the loss of each step."""
    optimizer = module.configure_optimizers()["optimizer"]
    module.log = lambda *_, **__: None
    losses = []
    for group in optimizer.param_groups:
        group["lr"] = module.learning_rate
    for step in range(steps):
        loss = module.training_step({"frames": windows}, step)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def test_the_loss_falls_on_moving_squares():
    torch.manual_seed(0)
    module = MCVDModule(DiffusionConfig(**SIZES | {"mask_past": 0.2}), learning_rate=3e-3)
    losses = train(module, moving_squares(4), 25)
    assert losses[0] == pytest.approx(1.0, abs=0.1), "it begins without an idea of the noise"
    assert sum(losses[-5:]) / 5 < 0.8
    assert module.training_step({"frames": torch.empty(0, dtype=torch.uint8)}, 0) is None


def test_masks_leave_whole_samples_grey():
    torch.manual_seed(0)
    sizes = SIZES | {"num_future_frames": 1, "mask_past": 0.5, "mask_future": 0.25}
    module = MCVDModule(DiffusionConfig(**sizes))
    windows = torch.randint(0, 256, (400, 5, 3, 16, 16), dtype=torch.uint8)
    seen = []
    module.model.loss = lambda frames, condition, _: (
        seen.append((frames, condition)) or frames.sum()
    )
    module.log = lambda *_, **__: None
    module.training_step({"frames": windows}, 0)
    [(frames, condition)] = seen
    assert frames.shape == (400, 6, 16, 16)
    assert condition.shape == (400, 9, 16, 16)
    expected = to_model_range(windows, module.model.config)
    assert torch.equal(frames, expected[:, 2:4].flatten(1, 2))
    for part, truth, share in (
        (condition[:, :6], expected[:, :2].flatten(1, 2), 0.5),
        (condition[:, 6:], expected[:, 4], 0.25),
    ):
        masked = (part == 0).flatten(1).all(dim=1)
        assert masked.float().mean().item() == pytest.approx(share, abs=0.08)
        assert torch.equal(part[~masked], truth[~masked])


@pytest.mark.slow
def test_an_overfitted_model_predicts_where_the_square_goes(tmp_path):
    torch.manual_seed(0)
    sizes = {"image_size": 8, "channels": 1, "width": 32, "num_steps": 100, "sampling_steps": 50}
    noise = {"first_beta": 0.12, "last_beta": 0.001}
    module = MCVDModule(DiffusionConfig(**SIZES | sizes | noise), learning_rate=2e-3)
    windows = torch.full((8, 4, 3, 8, 8), 20, dtype=torch.uint8)
    for window in range(8):
        for frame in range(4):
            top, left = 1 + window // 4 * 4, window % 4 + frame
            windows[window, frame, :, top : top + 2, left : left + 2] = 235
    losses = train(module, windows.repeat(4, 1, 1, 1, 1), 250)
    assert sum(losses[-50:]) / 50 < 0.04
    save_folder(module.model, tmp_path / "m", name="squares")
    model = load_folder(tmp_path / "m")
    past = (to_model_range(windows[:, :2], model.config) + 1) / 2
    truth = (to_model_range(windows[:, 2:], model.config) + 1) / 2
    predicted = model.predict(past, 2, sampler="ddpm")
    # The last past frame again would be wrong by 0.08; measured: 0.02.
    still = (past[:, -1:] - truth).abs().mean().item()
    assert (predicted - truth).abs().mean().item() < 0.4 * still


def test_wrong_training_numbers_are_named():
    for changes in ({"learning_rate": 0.0}, {"warm_up_steps": -1}, {"average_decay": 1.0}):
        with pytest.raises(ValueError, match="learning_rate is"):
            MCVDModule(DiffusionConfig(**SIZES), **changes)
