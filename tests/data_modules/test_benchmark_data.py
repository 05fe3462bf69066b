"""Benchmark questions through worker processes and over ranks: each exactly once."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from data_modules.benchmark import BenchmarkDataModule
from data_modules.corpora import CorpusConfig, DataConfig
from vidreason.evaluation.benchmark import EvaluationConfig, evaluate_batches, evaluate_examples
from vidreason.model import DecodingConfig, VideoReasoner
from vidreason.perception.visual_tokens import VisualTokens
from vidreason.video.reader import VideoReadError

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")

GREEDY = DecodingConfig(strategy="greedy", max_new_tokens=2)
HEADER = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n"


class Source:
    def __init__(self, tokens: VisualTokens) -> None:
        self.tokens = tokens

    def __call__(self, media: str, start: float | None, end: float | None) -> VisualTokens:
        if media.endswith("/3.mp4"):
            raise VideoReadError(media, "truncated")
        return self.tokens


@pytest.fixture
def make_data(
    tmp_path: Path, make_visual_tokens: Callable[..., VisualTokens]
) -> Callable[..., BenchmarkDataModule]:
    rows = [f"{v},9,6,4,why,{q},{q},CW,a,b,c,d,e\n" for v in range(4) for q in range(3)]
    (tmp_path / "val.csv").write_text(HEADER + "".join(rows))
    (tmp_path / "map_vid_vidorID.json").write_text(
        '{"0": "x/0", "1": "x/1", "2": "x/2", "3": "x/3"}'
    )

    def make(num_workers: int = 0, **evaluation: object) -> BenchmarkDataModule:
        config = DataConfig(
            benchmark=[CorpusConfig(reader="nextqa", root=str(tmp_path), split="val")],
            num_workers=num_workers,
        )
        source = Source(make_visual_tokens(2, 1))
        return BenchmarkDataModule(config, source, EvaluationConfig(batch_size=2, **evaluation))

    return make


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_same_predictions_as_without_a_data_module(
    make_data: Callable[..., BenchmarkDataModule], tiny_reasoner: VideoReasoner, num_workers: int
) -> None:
    data = make_data(num_workers, max_unreadable_fraction=0.5)
    batches = data.test_dataloader()
    assert len(data.examples) == 12
    found = evaluate_batches(tiny_reasoner, batches, data.evaluation, GREEDY, num_examples=12)
    expected = evaluate_examples(tiny_reasoner, data.source, data.examples, data.evaluation, GREEDY)
    assert sorted(found, key=lambda row: row.id) == sorted(expected, key=lambda row: row.id)
    assert sum(bool(row.error) for row in found) == 3


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_over_all_ranks_each_question_comes_once(
    make_data: Callable[..., BenchmarkDataModule], world_size: int
) -> None:
    seen = []
    for rank in range(world_size):
        data = make_data()
        data.trainer = SimpleNamespace(global_rank=rank, world_size=world_size)  # type: ignore
        seen += [item.example.id for batch in data.test_dataloader() for item in batch]
    assert sorted(seen) == sorted(f"nextqa:val:{v}_{q}" for v in range(4) for q in range(3))


def test_the_control_is_applied_where_the_tokens_are_loaded(
    make_data: Callable[..., BenchmarkDataModule],
) -> None:
    (first, _), *_ = make_data(control="blind").test_dataloader()
    assert first.tokens is not None
    assert len(first.tokens) == 0


def test_no_benchmark_is_an_error() -> None:
    data = BenchmarkDataModule(DataConfig(), print, EvaluationConfig())
    with pytest.raises(ValueError, match=r"data.benchmark is empty"):
        data.setup("test")
