"""Shards of a local folder and of a store: training gets from them what it gets from files."""

import tarfile
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
import torch
from coded_video import write_video
from transformers import PreTrainedTokenizerFast

from data_modules.corpora import CorpusConfig, DataConfig
from data_modules.training_data import InstructionDataModule
from data_modules.video_text import Batch
from vidreason.perception.visual_tokens import VisualTokens
from vidreason.video.reader import DIRECT

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")

NUM_VIDEOS = 6


class DecodingSource:
    """The made-up tokens of a video, with pixels of its frames for features."""

    def __init__(self, tokens: VisualTokens) -> None:
        self.tokens = tokens

    def __call__(self, media: str, start: float | None, end: float | None) -> VisualTokens:
        pixels = DIRECT.read_frames(DIRECT.index(media), [0, 2]).float()[:, 0, 0]
        features = pixels[: len(self.tokens), : self.tokens.features.shape[1]]
        return VisualTokens(**{**vars(self.tokens), "features": features / 255})


@pytest.fixture
def batches(
    tiny_tokenizer: PreTrainedTokenizerFast, make_visual_tokens: Callable[..., VisualTokens]
) -> Callable[..., dict[str, Batch]]:
    def read(root: str, reader: str, num_workers: int = 0) -> dict[str, Batch]:
        config = DataConfig(
            train=[CorpusConfig(reader=reader, root=root)],
            batch_size=1,
            global_batch_size=1,
            num_workers=num_workers,
            max_unreadable_fraction=0.0,
        )
        source = DecodingSource(make_visual_tokens(1, 1))
        data = InstructionDataModule(
            config, source, tiny_tokenizer, visual_dim=source.tokens.features.shape[1]
        )
        batches = {}
        for batch in data.train_dataloader():
            assert batch["failures"] == []
            batches[batch["ids"][0][-2:]] = batch
        return batches

    return read


def test_from_files_from_shards_and_from_a_store(
    tmp_path: Path, batches: Callable[..., dict[str, Batch]]
) -> None:
    files, shards = tmp_path / "files", tmp_path / "shards/train"
    (files / "videos").mkdir(parents=True)
    shards.mkdir(parents=True)
    rows = []
    for number in range(NUM_VIDEOS):
        name = f"{number:02d}"
        path = write_video(files / f"videos/{name}.mp4", num_frames=4, first_number=7 * number)
        (tmp_path / "caption.txt").write_text(f"caption {name}")
        with tarfile.open(shards / f"{number // 3}.tar", "a") as tar:
            tar.add(path, f"{name}.mp4")
            tar.add(tmp_path / "caption.txt", f"{name}.txt")
        rows.append(f"{name},caption {name},\n")
    (files / "train.csv").write_text("videoid,name,page_dir\n" + "".join(rows))
    store = fsspec.filesystem("memory")
    for path in shards.iterdir():
        store.pipe(f"memory://streamed-test/train/{path.name}", path.read_bytes())

    expected = batches(str(files), "webvid")
    assert len(expected) == NUM_VIDEOS
    features = [batch["visual"]["features"].flatten().tolist() for batch in expected.values()]
    assert len({tuple(values) for values in features}) == NUM_VIDEOS
    for streamed in (
        batches(str(tmp_path / "shards"), "webdataset"),
        batches(str(tmp_path / "shards"), "webdataset", num_workers=1),
        batches("memory://streamed-test", "webdataset"),
    ):
        assert streamed.keys() == expected.keys()
        for name, batch in expected.items():
            assert torch.equal(streamed[name]["visual"]["features"], batch["visual"]["features"])
            assert torch.equal(streamed[name]["text"]["target_ids"], batch["text"]["target_ids"])
