"""With a real Trainer, a resumed run sees the batches that an uninterrupted run sees."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from transformers import PreTrainedTokenizerFast

from data_modules.corpora import CorpusConfig, DataConfig
from data_modules.training_data import (
    AlignmentDataModule,
    InstructionDataModule,
    TrainingDataModule,
)
from data_modules.video_text import Batch
from vidreason.perception.visual_tokens import VisualTokens
from vidreason.video.failures import UnreadableVideosError
from vidreason.video.reader import VideoReadError

pytestmark = [
    # Python 3.12 warns of every fork of a process with threads, as torch's always is.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded"),
    # The resumed runs here do not save, so they go without the callback that did.
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]

NUM_EXAMPLES = 22
STEPS_PER_EPOCH = 6  # of 4 samples: 22 rounded up to 24
NUM_EPOCHS = 3
Trace = list[tuple[int, list[str]]]  # (global step before the batch, its ids)


class Recorder(LightningModule):
    """A model that learns nothing of use and writes down what it is shown."""

    def __init__(self, fail_at: int | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.trace: Trace = []
        self.masks: list[torch.Tensor] = []  # (B, V) of each batch
        self.validated_masks: list[torch.Tensor] = []
        self.validated: list[str] = []
        self.fail_at = fail_at

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        if self.fail_at == len(self.trace):
            raise RuntimeError("as if out of memory")
        self.trace.append((self.global_step, batch["ids"]))
        self.masks.append(batch["visual"]["mask"])
        return self.weight * batch["visual"]["features"].mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.validated += batch["ids"]
        self.validated_masks.append(batch["visual"]["mask"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([self.weight], lr=0.1)


class Source:
    """Visual tokens without a video; paths named as broken are unreadable."""

    def __init__(self, tokens: VisualTokens, broken: frozenset[str] = frozenset()) -> None:
        self.tokens = tokens
        self.broken = broken

    def __call__(self, media: str, start: float | None, end: float | None) -> VisualTokens:
        if Path(media).stem in self.broken:
            raise VideoReadError(media, "truncated", "moov atom not found")
        return self.tokens


MakeData = Callable[..., TrainingDataModule]


def data_in(folder: Path, tokenizer: PreTrainedTokenizerFast, tokens: VisualTokens) -> MakeData:
    rows = [f"{n:03d},caption {n},d\n" for n in range(NUM_EXAMPLES)]
    (folder / "train.csv").write_text("videoid,name,page_dir\n" + "".join(rows))
    (folder / "val.csv").write_text("videoid,name,page_dir\n" + "".join(rows[:5]))

    def make(
        num_workers: int = 0,
        batch_size: int = 2,
        seed: int = 5,
        validate: bool = False,
        broken: frozenset[str] = frozenset(),
        max_unreadable_fraction: float = 0.0,
        drop: float = 0.0,
        module: type[TrainingDataModule] = AlignmentDataModule,
    ) -> TrainingDataModule:
        def corpus(split: str) -> list[CorpusConfig]:
            return [CorpusConfig(reader="webvid", root=str(folder), split=split)]

        config = DataConfig(
            train=corpus("train"),
            validation=corpus("val") if validate else [],
            batch_size=batch_size,
            global_batch_size=4,
            num_epochs=NUM_EPOCHS,
            num_workers=num_workers,
            max_text_tokens=64,
            max_unreadable_fraction=max_unreadable_fraction,
            drop={"clips": drop, "objects": drop, "moments": drop},
        )
        return module(
            config,
            Source(tokens, broken),
            tokenizer,
            visual_dim=tokens.features.shape[1],
            failures_path=folder / "failures.jsonl",
            seed=seed,
        )

    return make


@pytest.fixture
def make_data(
    tmp_path: Path,
    tiny_tokenizer: PreTrainedTokenizerFast,
    make_visual_tokens: Callable[..., VisualTokens],
) -> MakeData:
    return data_in(tmp_path, tiny_tokenizer, make_visual_tokens(1, 1))


def fit(
    data: TrainingDataModule,
    *,
    model: Recorder | None = None,
    callbacks: list[Callback] | None = None,
    checkpoint: Path | None = None,
    **trainer: Any,
) -> Recorder:
    model = model or Recorder()
    trainer.setdefault("max_epochs", NUM_EPOCHS)
    trainer.setdefault("devices", 1)
    trainer.setdefault("accumulate_grad_batches", 4 // data.config.batch_size)
    Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        enable_checkpointing=any(isinstance(one, ModelCheckpoint) for one in callbacks or ()),
        callbacks=callbacks,
        **trainer,
    ).fit(model, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    return model


def every_step(folder: Path) -> list[Callback]:
    return [
        ModelCheckpoint(dirpath=folder, every_n_train_steps=1, save_top_k=-1, filename="{step}")
    ]


class Run:
    """A run that nothing happens to; of each kind there is one for all tests, which only read it.

    Attributes:
        trace: Its batches.
        folder: Its checkpoints, one a step.
        validated: The ids that were validated.
    """

    def __init__(self, make_data: MakeData, folder: Path, **kind: Any) -> None:
        self.folder = folder
        model = fit(make_data(**kind), callbacks=every_step(folder))
        self.trace, self.validated = model.trace, model.validated

    def checkpoint(self, step: int) -> Path:
        return self.folder / f"step={step}.ckpt"


@pytest.fixture(scope="module")
def run_of(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_tokenizer: PreTrainedTokenizerFast,
    make_visual_tokens: Callable[..., VisualTokens],
) -> Callable[..., Run]:
    """``run_of(batch_size=2, ...)``: the run of such data, with the arguments of ``make_data``."""
    runs: dict[tuple[tuple[str, Any], ...], Run] = {}

    def run_of(**kind: Any) -> Run:
        key = tuple(sorted(kind.items()))
        if key not in runs:
            folder = tmp_path_factory.mktemp("whole")
            make_data = data_in(folder, tiny_tokenizer, make_visual_tokens(1, 1))
            runs[key] = Run(make_data, folder / "checkpoints", **kind)
        return runs[key]

    return run_of


@pytest.fixture(scope="module")
def whole(run_of: Callable[..., Run]) -> Run:
    """The usual run."""
    return run_of()


def samples_by_step(trace: Trace) -> dict[int, list[str]]:
    by_step: dict[int, list[str]] = {}
    for step, ids in trace:
        by_step.setdefault(step, []).extend(ids)
    return by_step


def test_every_example_is_seen_equally_often(make_data: MakeData) -> None:
    data = make_data()
    assert (data.order.steps_per_epoch, data.total_steps) == (STEPS_PER_EPOCH, 18)
    trace = fit(data).trace
    assert [step for step, _ in trace] == [step for step in range(18) for _ in range(2)]
    seen = [name for _, ids in trace for name in ids]
    assert set(seen[:24]) == {f"webvid:train:{n:03d}" for n in range(NUM_EXAMPLES)}
    assert {seen.count(name) for name in seen} == {3, 4}
    assert data.position == (NUM_EPOCHS, 0)


# In the first and second epoch, at both epochs' last steps, and right after one.
@pytest.mark.parametrize("stop", [1, 5, 6, 7, 12, 15])
def test_a_killed_run_continues_exactly(make_data: MakeData, whole: Run, stop: int) -> None:
    state = torch.load(whole.checkpoint(stop), weights_only=True)["AlignmentDataModule"]
    assert (state["epoch"], state["samples_consumed"]) == divmod(4 * stop, 24)
    resumed = fit(make_data(), checkpoint=whole.checkpoint(stop)).trace
    assert resumed == whole.trace[2 * stop :]


# With workers, which have fetched more by then than was trained on.
@pytest.mark.parametrize(("stop", "num_workers"), [(7, 0), (12, 0), (8, 2), (12, 2)])
def test_a_run_that_was_stopped_continues_exactly(
    make_data: MakeData, whole: Run, tmp_path: Path, stop: int, num_workers: int
) -> None:
    folder = tmp_path / "checkpoints"
    first = fit(make_data(num_workers), max_steps=stop, callbacks=every_step(folder)).trace
    assert first == whole.trace[: 2 * stop]
    state = torch.load(folder / f"step={stop}.ckpt", weights_only=True)["AlignmentDataModule"]
    assert (state["epoch"], state["samples_consumed"]) == divmod(4 * stop, 24)
    resumed = fit(make_data(num_workers), checkpoint=folder / f"step={stop}.ckpt").trace
    assert resumed == whole.trace[2 * stop :]


@pytest.mark.parametrize("stop", [4, 6])
def test_resume_with_step_limits_instead_of_epochs(
    make_data: MakeData, tmp_path: Path, stop: int
) -> None:
    limits = {"max_epochs": -1}
    whole = fit(make_data(), max_steps=14, **limits).trace
    folder = tmp_path / "checkpoints"
    fit(make_data(), max_steps=stop, callbacks=every_step(folder), **limits)
    middle = fit(
        make_data(),
        max_steps=10,
        checkpoint=folder / f"step={stop}.ckpt",
        callbacks=every_step(folder),
        **limits,
    ).trace
    last = fit(make_data(), max_steps=14, checkpoint=folder / "step=10.ckpt", **limits).trace
    assert middle + last == whole[2 * stop :]


@pytest.mark.parametrize(
    "when",
    [
        {"every_n_epochs": 1, "save_on_train_epoch_end": True},
        {"every_n_epochs": 1, "save_on_train_epoch_end": False},
    ],
    ids=["epoch-end", "validation-end"],
)
def test_resume_from_checkpoints_between_epochs(
    make_data: MakeData, run_of: Callable[..., Run], tmp_path: Path, when: dict[str, Any]
) -> None:
    whole = run_of(validate=True)
    saver = ModelCheckpoint(dirpath=tmp_path / "c", save_top_k=-1, filename="{epoch}", **when)
    first = fit(make_data(validate=True), max_epochs=2, callbacks=[saver]).trace
    for epoch in (0, 1):
        checkpoint = tmp_path / f"c/epoch={epoch}.ckpt"
        resumed = fit(make_data(validate=True), checkpoint=checkpoint)
        assert resumed.trace == whole.trace[12 * (epoch + 1) :]
    assert first == whole.trace[:24]
    assert whole.validated == [f"webvid:val:{n:03d}" for n in range(5)] * NUM_EPOCHS


def test_validation_in_the_middle_of_an_epoch(make_data: MakeData, tmp_path: Path) -> None:
    often = {"val_check_interval": 4}
    whole = fit(make_data(validate=True), **often)
    saver = ModelCheckpoint(dirpath=tmp_path / "c", save_top_k=-1, filename="{step}")
    fit(make_data(validate=True), max_steps=10, callbacks=[saver], **often)
    for step in (2, 4, 6, 8):
        checkpoint = tmp_path / f"c/step={step}.ckpt"
        resumed = fit(make_data(validate=True), checkpoint=checkpoint, **often)
        assert resumed.trace == whole.trace[2 * step :], step


@pytest.mark.parametrize("stop", [3, 6, 8])
@pytest.mark.parametrize(("before", "after"), [(2, 4), (4, 2), (2, 1)])
def test_another_micro_batch_size_after_the_resume(
    make_data: MakeData,
    run_of: Callable[..., Run],
    whole: Run,
    before: int,
    after: int,
    stop: int,
) -> None:
    # To Lightning's counters this is the same as another number of devices.
    first = whole if before == 2 else run_of(batch_size=before)
    expected = {s: ids for s, ids in samples_by_step(whole.trace).items() if s >= stop}
    data = make_data(batch_size=after)
    resumed = fit(data, checkpoint=first.checkpoint(stop))
    assert samples_by_step(resumed.trace) == expected
    assert data.position == (NUM_EPOCHS, 0)


@pytest.mark.parametrize("module", [AlignmentDataModule, InstructionDataModule])
def test_a_resumed_run_leaves_out_the_same_tokens(
    tiny_tokenizer: PreTrainedTokenizerFast,
    make_visual_tokens: Callable[..., VisualTokens],
    tmp_path: Path,
    module: type[TrainingDataModule],
) -> None:
    make_data = data_in(tmp_path, tiny_tokenizer, make_visual_tokens(3, 3))
    saver, usual = every_step(tmp_path / "c"), {"drop": 0.5, "module": module, "validate": True}
    first = fit(make_data(**usual), callbacks=saver)
    whole = torch.cat(first.masks)
    assert whole.any(dim=1).all()
    assert 0 < whole.all(dim=1).sum() < len(whole)  # some samples lose tokens
    other = make_data(**usual, batch_size=4, num_workers=2)
    resumed = fit(other, checkpoint=tmp_path / "c" / "step=8.ckpt")
    assert torch.equal(torch.cat(resumed.masks), whole[4 * 8 :])
    for model in (first, resumed):
        assert torch.cat(model.validated_masks).all()


class SaveAfterBatch(Callback):
    """Save after one micro-batch, as a checkpoint by time may, in the middle of a step."""

    def __init__(self, path: Path, micro_batch: int) -> None:
        self.path = path
        self.micro_batch = micro_batch

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.fit_loop.epoch_loop.total_batch_idx == self.micro_batch:
            trainer.save_checkpoint(self.path)


def test_a_step_cut_in_half_is_done_again(make_data: MakeData, whole: Run, tmp_path: Path) -> None:
    cuts = {number: tmp_path / f"{number}.ckpt" for number in (0, 4, 12, 18)}
    fit(make_data(), callbacks=[SaveAfterBatch(path, number) for number, path in cuts.items()])
    for number, path in cuts.items():
        assert fit(make_data(), checkpoint=path).trace == whole.trace[number:], number


class SaveOnException(Callback):
    def __init__(self, path: Path) -> None:
        self.path = path

    def on_exception(self, trainer: Trainer, *_: Any) -> None:
        trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("fail_at", [6, 12, 15])
def test_the_batch_of_a_failed_step_is_not_lost(
    make_data: MakeData, whole: Run, tmp_path: Path, fail_at: int
) -> None:
    path = tmp_path / "failed.ckpt"
    with pytest.raises(RuntimeError, match="as if out of memory"):
        fit(make_data(), model=Recorder(fail_at), callbacks=[SaveOnException(path)])
    assert fit(make_data(), checkpoint=path).trace == whole.trace[fail_at // 2 * 2 :]


def test_a_corpus_smaller_than_a_batch(
    make_data: MakeData, caplog: pytest.LogCaptureFixture
) -> None:
    data = make_data(validate=True)
    data.config.train[0].limit, data.config.validation[0].limit = 3, 1
    model = fit(data, max_epochs=2)
    steps = samples_by_step(model.trace)
    assert [len(ids) for ids in steps.values()] == [4, 4]
    assert {one for ids in steps.values() for one in ids} == {
        f"webvid:train:{number:03d}" for number in range(3)
    }
    assert model.validated == ["webvid:val:000"] * 2
    assert "global_batch_size is 4, but an epoch of data.train has 3 samples" in caplog.text


def test_building_the_loaders_does_not_touch_the_global_random_state(make_data: MakeData) -> None:
    data = make_data()
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    for _ in range(2):
        next(iter(data.train_dataloader()))
    assert torch.equal(torch.rand(1), expected)


def test_a_changed_order_cannot_be_resumed(make_data: MakeData) -> None:
    state = make_data().state_dict()
    with pytest.raises(ValueError, match=r"'seed': 5.*'seed': 6.*to resume, restore"):
        make_data(seed=6).load_state_dict(state)


def test_a_corpus_in_another_order_cannot_be_resumed(make_data: MakeData, tmp_path: Path) -> None:
    state = make_data().state_dict()
    make_data().load_state_dict(state)
    header, first, second, *rest = (tmp_path / "train.csv").read_text().splitlines(keepends=True)
    (tmp_path / "train.csv").write_text("".join([header, second, first, *rest]))
    with pytest.raises(ValueError, match="to resume, restore the training corpora"):
        make_data().load_state_dict(state)


def test_the_trainer_must_accumulate_as_the_global_batch_says(make_data: MakeData) -> None:
    with pytest.raises(ValueError, match=r"4 = batch_size 2 x 1 processes x 2: pass accumulate"):
        fit(make_data(), accumulate_grad_batches=3)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_unreadable_videos_are_written_down_once_and_the_run_goes_on(
    make_data: MakeData, whole: Run, tmp_path: Path, num_workers: int
) -> None:
    data = make_data(
        num_workers, broken=frozenset({"003", "011"}), max_unreadable_fraction=0.2, validate=True
    )
    assert fit(data).trace == whole.trace  # they keep their places
    rows = [json.loads(line) for line in (tmp_path / "failures.jsonl").read_text().splitlines()]
    assert sorted(row["id"] for row in rows) == [
        "webvid:train:003",
        "webvid:train:011",
        "webvid:val:003",
    ]
    assert {row["cause"] for row in rows} == {"truncated"}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_too_many_unreadable_videos_stop_the_run(
    make_data: MakeData, tmp_path: Path, num_workers: int
) -> None:
    broken = frozenset({"003", "011"})
    data = make_data(num_workers, broken=broken, max_unreadable_fraction=0.05)
    with pytest.raises(UnreadableVideosError, match=r"2 x truncated"):
        fit(data)
    assert len((tmp_path / "failures.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(("fraction", "stops"), [(0.2, False), (0.05, True)])
def test_the_budget_is_that_of_the_whole_run(
    make_data: MakeData, tmp_path: Path, fraction: float, stops: bool
) -> None:
    # 2 of 22 are unreadable. What the first half of the run has spent, the second cannot spend.
    broken = frozenset({"003", "011"})
    folder = tmp_path / "c"
    data = make_data(broken=broken, max_unreadable_fraction=0.5)
    fit(data, max_steps=9, callbacks=every_step(folder))
    state = torch.load(folder / "step=9.ckpt", weights_only=True)["AlignmentDataModule"]
    assert state["samples_seen"] == 36
    assert 2 <= state["samples_unreadable"] <= 4
    resumed = make_data(broken=broken, max_unreadable_fraction=fraction)
    if stops:
        with pytest.raises(UnreadableVideosError, match=r"of 40 samples had an unreadable video"):
            fit(resumed, checkpoint=folder / "step=9.ckpt")
        return
    fit(resumed, checkpoint=folder / "step=9.ckpt")
    whole = make_data(broken=broken, max_unreadable_fraction=fraction)
    fit(whole)
    assert resumed.state_dict() == whole.state_dict()
    assert whole.state_dict()["samples_seen"] == 72


def test_a_step_that_is_done_again_is_counted_once(make_data: MakeData, tmp_path: Path) -> None:
    broken = frozenset(f"{number:03d}" for number in range(0, NUM_EXAMPLES, 3))
    whole = make_data(broken=broken, max_unreadable_fraction=1.0)
    fit(whole)
    for fail_at in (6, 7, 12):
        path = tmp_path / "failed.ckpt"
        data = make_data(broken=broken, max_unreadable_fraction=1.0)
        with pytest.raises(RuntimeError, match="as if out of memory"):
            fit(data, model=Recorder(fail_at), callbacks=[SaveOnException(path)])
        resumed = make_data(broken=broken, max_unreadable_fraction=1.0)
        fit(resumed, checkpoint=path)
        assert resumed.state_dict() == whole.state_dict()


def test_stages_and_their_corpora(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    questions = DataConfig(train=[CorpusConfig(reader="nextqa", root=str(tmp_path))])
    arguments: tuple[Any, ...] = (questions, lambda *_: None, tiny_tokenizer)
    for stage in (AlignmentDataModule, InstructionDataModule):
        with pytest.raises(ValueError, match=r"there is no file .*train.csv"):
            stage(*arguments, visual_dim=4).setup("fit")
    nothing = InstructionDataModule(DataConfig(), *arguments[1:], visual_dim=4)
    with pytest.raises(ValueError, match=r"data.train is empty"):
        _ = nothing.total_steps


class WriteTrace(Callback):
    """Two processes cannot return their traces; each writes its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Recorder)
        self.folder.mkdir(exist_ok=True)
        path = self.folder / f"{trainer.global_rank}.json"
        path.write_text(json.dumps([pl_module.trace, pl_module.validated]))


def fit_in_two_processes(
    data: TrainingDataModule, folder: Path, **settings: Any
) -> tuple[Trace, list[str]]:
    """The trace of both ranks together, in the global order; and what was validated."""
    callbacks = [WriteTrace(folder), *settings.pop("callbacks", [])]
    fit(
        data,
        callbacks=callbacks,
        strategy="ddp_fork",
        devices=2,
        accumulate_grad_batches=4 // data.config.batch_size // 2,
        **settings,
    )
    ranks = [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]
    merged = [
        (step, first + second)
        for (step, first), (_, second) in zip(ranks[0][0], ranks[1][0], strict=True)
    ]
    return merged, ranks[0][1] + ranks[1][1]


@pytest.mark.slow
@pytest.mark.parametrize("stop", [4, 6])
def test_two_processes_see_and_resume_the_same_global_batches(
    make_data: MakeData, tmp_path: Path, stop: int
) -> None:
    whole = samples_by_step(fit(make_data()).trace)
    both, validated = fit_in_two_processes(make_data(validate=True), tmp_path / "both")
    assert samples_by_step(both) == whole
    names = [f"webvid:val:{n:03d}" for n in range(5)]
    assert sorted(validated) == sorted(names * NUM_EPOCHS)
    rest = {step: ids for step, ids in whole.items() if step >= stop}
    # From two processes to one,
    saver = every_step(tmp_path / "two")
    fit_in_two_processes(make_data(), tmp_path / "half", max_steps=stop, callbacks=saver)
    checkpoint = tmp_path / f"two/step={stop}.ckpt"
    assert samples_by_step(fit(make_data(), checkpoint=checkpoint).trace) == rest
    # and from one to two.
    fit(make_data(), max_steps=stop, callbacks=every_step(tmp_path / "one"))
    checkpoint = tmp_path / f"one/step={stop}.ckpt"
    both, _ = fit_in_two_processes(make_data(), tmp_path / "rest", checkpoint=checkpoint)
    assert samples_by_step(both) == rest
