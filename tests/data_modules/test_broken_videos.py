"""Every tenth video is broken, in eight ways: training ends, names each, and learns as without."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from coded_video import write_sound, write_video
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from tiny_training import VISUAL_DIM, tiny_optimizer, tiny_trainer, tiny_training_reasoner
from torch import Tensor
from transformers import PreTrainedTokenizerFast
from typing_extensions import override

from callbacks.throughput import DataWaitTimer, Throughput
from data_modules.corpora import CorpusConfig, DataConfig
from data_modules.training_data import AlignmentDataModule
from vidreason.perception.visual_tokens import CLIP_TOKEN, VisualTokens
from vidreason.training.stage import StageModule
from vidreason.video.reader import DIRECT

pytestmark = [
    pytest.mark.filterwarnings("ignore:Found .* module.s. in eval mode"),  # the frozen ones
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]

NUM_VIDEOS = 80
BROKEN = {
    3: "cut off",
    14: "empty",
    25: "a text",
    36: "zeros in its middle",
    47: "sound alone",
    58: "a zip archive",
    69: "missing",
    75: "without its index",
}
CAUSES = {
    3: "truncated",
    14: "empty",
    25: "not-a-video",
    36: "decode-error",
    47: "no-video-stream",
    58: "not-a-video",
    69: "missing",
    75: "truncated",
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WebVid folder of 80 videos, of which 8 are broken."""
    root = tmp_path_factory.mktemp("webvid")
    videos = root / "videos"
    videos.mkdir()
    fast_start = {"movflags": "faststart"}
    sound = [
        write_video(root / f"{n}.mp4", num_frames=12, first_number=n, container_options=fast_start)
        for n in range(4)
    ]
    rows = []
    for number in range(NUM_VIDEOS):
        shutil.copy(sound[number % 4], videos / f"{number:02d}.mp4")
        rows.append(f"{number:02d},{'word ' * (number % 3)}caption {number},\n")
    (root / "train.csv").write_text("videoid,name,page_dir\n" + "".join(rows))
    break_videos({number: videos / f"{number:02d}.mp4" for number in BROKEN})
    return root


def break_videos(paths: dict[int, Path]) -> None:
    content = paths[3].read_bytes()
    paths[3].write_bytes(content[: len(content) * 9 // 10])
    paths[14].write_bytes(b"")
    paths[25].write_text("This is no video. " * 200)
    middle = content.index(b"mdat") + (len(content) - content.index(b"mdat")) // 4
    length = (len(content) - middle) * 2 // 3
    paths[36].write_bytes(content[:middle] + bytes(length) + content[middle + length :])
    shutil.move(write_sound(paths[47].with_suffix(".m4a")), paths[47])
    with zipfile.ZipFile(paths[58], "w") as archive:
        archive.writestr("video.mp4", content)
    paths[69].unlink()
    write_video(paths[75], num_frames=12)  # its index, the moov atom, comes last
    content = paths[75].read_bytes()
    paths[75].write_bytes(content[: content.rindex(b"moov") - 4])


class DecodingSource:
    """Visual tokens from the pixels of real frames, without an encoder."""

    def __call__(self, media: str, start: float | None, end: float | None) -> VisualTokens:
        index = DIRECT.index(media)
        frames = DIRECT.read_frames(index, range(0, index.num_frames, 4)).float()
        count = len(frames)
        return VisualTokens(
            features=frames.flatten(1)[:, :: frames[0].numel() // VISUAL_DIM][:, :VISUAL_DIM] / 255,
            kinds=torch.full((count,), CLIP_TOKEN),
            spans=torch.arange(count)[:, None] + torch.tensor([[0.0, 1.0]]),
            boxes=torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(count, 4),
            areas=torch.ones(count),
            track_ids=torch.full((count,), -1),
            masks=(None,) * count,
            duration_seconds=index.duration_seconds,
        )


class WithoutBroken(StageModule):
    """The model never meets an unreadable sample."""

    @override
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if batch["failures"]:
            return torch.stack([0.0 * p.sum() for p in self.parameters() if p.requires_grad]).sum()
        return super().training_step(batch, batch_idx)


class Losses(Callback):
    def __init__(self) -> None:
        self.by_step: dict[int, float] = {}
        self.unreadable: list[float] = []

    @override
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.by_step[trainer.global_step] = float(trainer.callback_metrics.get("train/loss", 0))
        if "data/unreadable" in trainer.progress_bar_metrics:
            self.unreadable.append(trainer.progress_bar_metrics["data/unreadable"])


def train(
    module_class: type[StageModule],
    corpus: Path,
    language_model_folder: str,
    tokenizer: PreTrainedTokenizerFast,
    failures: Path,
    num_workers: int = 0,
) -> tuple[Losses, Trainer]:
    config = DataConfig(
        train=[CorpusConfig(reader="webvid", root=str(corpus))],
        batch_size=1,
        global_batch_size=8,
        num_epochs=1,
        num_workers=num_workers,
        max_text_tokens=200,
        max_unreadable_fraction=0.1,
    )
    data = AlignmentDataModule(
        config, DecodingSource(), tokenizer, visual_dim=VISUAL_DIM, failures_path=failures
    )
    reasoner = tiny_training_reasoner(language_model_folder)
    module = module_class(reasoner, tiny_optimizer(), total_steps=10, stage="alignment")
    timer, losses = DataWaitTimer(), Losses()
    trainer = tiny_trainer(
        max_epochs=1,
        accumulate_grad_batches=8,
        profiler=timer,
        log_every_n_steps=1,
        callbacks=[Throughput(timer, 1, failures.parent), losses],
    )
    trainer.fit(module, datamodule=data)
    return losses, trainer


@pytest.mark.slow
def test_training_goes_on_names_each_and_learns_as_without_them(
    corpus: Path,
    tiny_language_model_folder: str,
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
) -> None:
    arguments = (corpus, tiny_language_model_folder, tiny_tokenizer)
    recorded, trainer = train(StageModule, *arguments, tmp_path / "failures.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "failures.jsonl").read_text().splitlines()]
    assert {int(row["id"].rpartition(":")[2]): row["cause"] for row in rows} == CAUSES
    assert len(rows) == len(BROKEN)
    for row in rows:
        number = row["id"].rpartition(":")[2]
        assert row["path"] == str(corpus / f"videos/{number}.mp4")
        assert row["detail"], BROKEN[int(number)]
        assert row["time"]
    assert recorded.unreadable == sorted(recorded.unreadable)
    assert recorded.unreadable[-1] == trainer.logged_metrics["data/unreadable"] == len(BROKEN)
    expected, _ = train(WithoutBroken, *arguments, tmp_path / "others.jsonl")
    assert len(expected.by_step) == 11
    assert recorded.by_step == expected.by_step  # bit for bit
    assert len(set(recorded.by_step.values())) > 9  # the losses do change
