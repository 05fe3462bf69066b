"""Garbage in the outline of every format ends in a result, a counted skip or one clear error.

Nothing in it is executed or fetched, nothing takes longer than its deadline, and no library's own
error leaves a reader. A failure names the seed: ``random.Random(seed)`` makes the input again.
"""

import copy
import io
import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from grammar import (
    CANARY,
    damaged,
    damaged_bytes,
    damaged_mp4,
    json_text,
    reply_of,
    tar_of,
    weights_of,
    yaml_of,
)
from PIL import Image
from tiny_corpora import TINY_CORPORA, TinyCorpus
from watch import Outcomes, outcome

from data_modules.files import Files
from data_modules.readers import READERS
from data_modules.skipped_rows import SkippedRows
from experiments.experiment_config import ExperimentConfig
from vidreason.config import merge_config
from vidreason.endpoints.replies import read_reply
from vidreason.evaluation.judge.request import JudgeItem
from vidreason.evaluation.judge.rubric import pointwise_request, read_pointwise
from vidreason.evaluation.next_events.scores import next_event_scores
from vidreason.evaluation.predictions.row_files import prediction_line, read_predictions
from vidreason.evaluation.predictions.rows import BenchmarkPrediction, grade
from vidreason.fusion.fusion_core import FusionConfig
from vidreason.microworld import parts
from vidreason.model import ReasonerConfig, VideoReasoner, build_reasoner
from vidreason.perception.weights import open_weights
from vidreason.reasoning.futures import Future
from vidreason.reasoning.language_model import LanguageModelConfig, LoraSettings
from vidreason.reasoning.outcomes import TrueFuture
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT
from vidreason.teacher.reviews import Reviews, read_reviews
from vidreason.video.reader import DIRECT

NUM_INPUTS = {
    **{"annotations": 10 * len(TINY_CORPORA), "videos": 60, "shards": 30, "weights": 60},
    **{"folders": 25, "configurations": 40, "replies": 60, "predictions": 50},
    "reviews": 30,
}


@pytest.fixture(autouse=True)
def nothing_is_executed(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Let commands in the garbage leave a trace, and look for it."""
    folder = tmp_path_factory.mktemp("here")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("VIDREASON_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    yield
    assert not list(folder.rglob(CANARY))
    assert not list(tmp_path.rglob(CANARY))


@pytest.fixture(params=[1, pytest.param(20, marks=pytest.mark.slow)], ids=["few", "many"])
def times(request: pytest.FixtureRequest) -> int:
    """Factor on the usual number of inputs."""
    return int(request.param)


def seeds(kind: str, times: int) -> Iterator[tuple[str, random.Random]]:
    """Names of the inputs of a kind, each with its own generator."""
    for number in range(NUM_INPUTS[kind] * times):
        seed = f"{kind}-{number}"
        yield seed, random.Random(seed)


def test_there_are_enough_inputs() -> None:
    assert sum(NUM_INPUTS.values()) >= 300


def test_a_foreign_error_is_detected() -> None:
    def foreign() -> bool:
        return bool({}["x"])

    def named_by_a_library() -> bool:
        return bool(json.loads("{"))

    def executing() -> bool:
        import subprocess

        return subprocess.run(["true"]).returncode == 0

    assert outcome(foreign, ()).startswith("other: KeyError")
    assert outcome(named_by_a_library, ()).startswith("foreign: JSONDecodeError")
    assert outcome(executing, ()).startswith("executed: ")


@pytest.mark.parametrize("corpus", TINY_CORPORA, ids=lambda corpus: corpus.reader)
def test_annotations(corpus: TinyCorpus, tmp_path: Path, times: int) -> None:
    outcomes = Outcomes()
    for number in range(times * NUM_INPUTS["annotations"] // len(TINY_CORPORA)):
        seed = f"{corpus.reader}-{number}"
        generator = random.Random(seed)
        root = tmp_path / str(number)
        rows = damaged(corpus.rows, generator) if number % 3 else copy.deepcopy(corpus.rows)
        try:
            path = corpus.write(root, rows)
        except (ValueError, AttributeError, TypeError, IndexError):  # no longer of the form
            path = corpus.write(root)
            path.write_text(json_text(rows, generator), errors="replace")
        if number % 3 != 1:
            path.write_bytes(damaged_bytes(path.read_bytes(), generator))
        skipped = SkippedRows(max_malformed_fraction=1.0, quiet=True)

        def read(root: Path = root, skipped: SkippedRows = skipped) -> bool:
            for _ in READERS[corpus.reader].read(Files(root), corpus.split, skipped):
                pass
            return skipped.num_skipped > 0

        outcomes.add(seed, outcome(read, (str(root),)))
        assert all(str(root) in message for message in skipped.malformed), skipped.malformed
    outcomes.check()


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Small files of several forms, by suffix."""
    folder = tmp_path_factory.mktemp("media")
    pictures = [np.full((32, 48, 3), 20 * number, np.uint8) for number in range(10)]
    files = {}
    for suffix, codec in (("mp4", "libx264"), ("mkv", "libx264"), ("ts", "libx264"), ("avi", "")):
        path = folder / f"v.{suffix}"
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec or "mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
            for picture in pictures:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
        files[suffix] = path.read_bytes()
    for suffix in ("png", "jpg", "gif", "webp"):
        file = io.BytesIO()
        images = [Image.fromarray(picture) for picture in pictures[:3]]
        images[0].save(
            file,
            format="jpeg" if suffix == "jpg" else suffix,
            **({"save_all": True, "append_images": images[1:]} if suffix == "gif" else {}),
        )
        files[suffix] = file.getvalue()
    return files


def test_videos(media: dict[str, bytes], tmp_path: Path, times: int) -> None:
    outcomes = Outcomes()
    for seed, generator in seeds("videos", times):
        suffix = generator.choice(("mp4", "mp4", "mp4", *media))
        content = media[suffix]
        damage = damaged_mp4 if suffix == "mp4" and generator.random() < 0.7 else damaged_bytes
        path = tmp_path / f"{seed}.{generator.choice((suffix, suffix, 'mp4'))}"
        path.write_bytes(damage(content, generator))

        def read(path: Path = path) -> bool:
            index = DIRECT.index(str(path))
            DIRECT.read_frames(index, sorted({0, index.num_frames // 2, index.num_frames - 1}))
            return False

        outcomes.add(seed, outcome(read, (str(path),)))
    outcomes.check()


def test_shards(tmp_path: Path, times: int) -> None:
    outcomes = Outcomes()
    for seed, generator in seeds("shards", times):
        root = tmp_path / seed
        (root / "train").mkdir(parents=True)
        (root / "train" / "00000.tar").write_bytes(tar_of(generator))
        skipped = SkippedRows(max_malformed_fraction=1.0, quiet=True)

        def read(root: Path = root, skipped: SkippedRows = skipped) -> bool:
            for _ in READERS["webdataset"].read(Files(root), "train", skipped):
                pass
            return skipped.num_skipped > 0

        outcomes.add(seed, outcome(read, (str(root),)))
    outcomes.check()


def test_weights(tmp_path: Path, times: int) -> None:
    outcomes = Outcomes()
    for seed, generator in seeds("weights", times):
        suffix = generator.choice((".safetensors", ".pth", ".ckpt", ".bin"))
        path = tmp_path / f"{seed}{suffix}"
        path.write_bytes(weights_of(suffix, generator))

        def read(path: Path = path) -> bool:
            with open_weights(str(path)) as weights:
                for key in weights.shapes:
                    weights.read(key)
            return False

        outcomes.add(seed, outcome(read, (str(path),)))
    outcomes.check()


@pytest.fixture(scope="module")
def reasoner_folder(
    tmp_path_factory: pytest.TempPathFactory, tiny_language_model_folder: str
) -> Path:
    """A small reasoner with adapters, whose language model lies beside it."""
    config = ReasonerConfig(
        fusion=FusionConfig(num_queries=2, width=16, num_layers=1, num_heads=2),
        language_model=LanguageModelConfig(
            name_or_path=tiny_language_model_folder, dtype="float32"
        ),
        lora=LoraSettings(rank=2),
    )
    folder = tmp_path_factory.mktemp("reasoner") / "sound"
    perceiver = parts.perceiver_config()
    width = perceiver.video_encoder.width
    reasoner = build_reasoner(config, visual_dim=width, device="cpu", perceiver=perceiver)
    reasoner.save_pretrained(folder, "merged")
    return folder


def test_folders(reasoner_folder: Path, tmp_path: Path, times: int) -> None:
    texts = sorted(path for path in reasoner_folder.rglob("*.json"))
    binaries = sorted(path for path in reasoner_folder.rglob("*.safetensors"))
    templates = sorted(reasoner_folder.rglob("*.jinja"))
    outcomes = Outcomes()
    for seed, generator in seeds("folders", times):
        folder = tmp_path / seed
        shutil.copytree(reasoner_folder, folder)
        source = generator.choice((*texts, *texts, *binaries, *templates))
        path = folder / source.relative_to(reasoner_folder)
        if source.suffix == ".json" and generator.random() < 0.7:
            path.write_text(json_text(damaged(json.loads(path.read_text()), generator), generator))
        else:
            path.write_bytes(damaged_bytes(path.read_bytes(), generator))

        def read(folder: Path = folder) -> bool:
            VideoReasoner.from_pretrained(folder)
            return False

        outcomes.add(f"{seed} {path.name}", outcome(read, (str(folder), path.name)))
        shutil.rmtree(folder)
    outcomes.check()


def keys_of(config: Any, prefix: str = "") -> list[str]:
    """Dotted keys of a configuration."""
    keys = []
    for field in fields(config):
        value = getattr(config, field.name)
        keys.append(f"{prefix}{field.name}")
        if is_dataclass(value):
            keys += keys_of(value, f"{prefix}{field.name}.")
    return keys


def test_configurations(tmp_path: Path, times: int) -> None:
    keys = [*keys_of(ExperimentConfig()), "no.such.key", "", "a b", "data.train"]
    outcomes = Outcomes()
    for seed, generator in seeds("configurations", times):
        path = tmp_path / f"{seed}.yaml"
        content = yaml_of(keys, generator).encode("utf-8", "replace")
        path.write_bytes(damaged_bytes(content, generator) if generator.random() < 0.3 else content)

        def read(path: Path = path) -> bool:
            merge_config(ExperimentConfig, [str(path)])
            return False

        names = (path.name, *(key.rpartition(".")[2] or "?" for key in keys if key))
        outcomes.add(seed, outcome(read, names))
    outcomes.check()


def test_replies(times: int) -> None:
    item = JudgeItem(id="1", video_id="v", question="why?", answer="it fell", evidence="a ball")
    request = pointwise_request(item)
    verdict: dict[str, Any] = {
        "claims": [{"claim": "it fell", "supported": "yes"}],
        **{"reason": "so", "factual_grounding": 5, "logical_coherence": 4, "insightfulness": 3},
    }
    outcomes = Outcomes()
    for seed, generator in seeds("replies", times):
        body = reply_of(verdict, generator)

        def read(body: bytes = body) -> bool:
            read_pointwise(read_reply(body).text, request)
            return False

        outcomes.add(seed, outcome(read, ()))
    outcomes.check()


def test_predictions(tmp_path: Path, times: int) -> None:
    choice = BenchmarkPrediction(
        id="a",
        corpus="nextqa",
        video_id="v",
        question_type="CW",
        options=("x", "y"),
        option_log_likelihoods=(-1.0, -2.0),
        option_token_counts=(1, 2),
        parsed=0,
        reference=1,
        correct=False,
    )
    free = BenchmarkPrediction(
        id="b", corpus="activitynet_qa", video_id="v", output="yes", reference=("yes",)
    )
    span = BenchmarkPrediction(
        id="c", corpus="nextgqa", video_id="v", output="1 - 2 s", reference=((1.0, 3.0),)
    )
    future = BenchmarkPrediction(
        id="d",
        corpus="causal_vid_instruct",
        video_id="v",
        prompt=FUTURE_PREDICTION_PROMPT,
        futures=(Future("it stops", -1.0, 0.75, "slow", 1.5), Future("it leaves", -2.0, 0.25)),
        reference=("it stops",),
        outcome_kind="block",
        outcome_seconds=1.0,
        true_futures=(TrueFuture("it stops", 0.5, 1.0), TrueFuture("it leaves", 0.5)),
    )
    rows = [json.loads(prediction_line(row)) for row in (choice, free, span, future)]
    outcomes = Outcomes()
    for seed, generator in seeds("predictions", times):
        path = tmp_path / f"{seed}.jsonl"
        lines = [json_text(row, generator) for row in damaged(rows, generator) or rows]
        content = "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")
        path.write_bytes(damaged_bytes(content, generator) if generator.random() < 0.3 else content)

        def read(path: Path = path) -> bool:
            rows = list(map(grade, read_predictions(path)))
            next_event_scores({"a": rows}, full="a")
            return False

        outcomes.add(seed, outcome(read, (str(path),)))
    outcomes.check()


def test_reviews(tmp_path: Path, times: int) -> None:
    review = {
        "id": "r",
        "row_sha": "0" * 64,
        "reviewer": "a",
        "reviewed_at": "2026-01-01T00:00:00Z",
    }
    steps = [{"text": "It rolls.", "start": 0.5, "end": 1}]
    predictions = [{"text": "It stops.", "confidence": 0.5, "justification": "so"}]
    rows = [
        review | {"decision": "accept"},
        review | {"id": "s", "decision": "reject", "reason": "unclear"},
        review | {"id": "t", "decision": "edit", "steps": steps, "predictions": predictions},
    ]
    outcomes = Outcomes()
    for seed, generator in seeds("reviews", times):
        path = tmp_path / f"{seed}.jsonl"
        lines = [json_text(row, generator) for row in damaged(rows, generator) or rows]
        content = "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")
        path.write_bytes(damaged_bytes(content, generator) if generator.random() < 0.3 else content)

        def read(path: Path = path) -> bool:
            reviews = Reviews(read_reviews(path))
            for name in reviews.by_id:
                reviews.ruling(name, "0" * 64)
            return False

        outcomes.add(seed, outcome(read, (str(path),)))
    outcomes.check()
