"""A tiny corpus whose visual tokens lie in a store: programs run without decoding a frame."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import yaml

from vidreason.config import merge_config
from vidreason.perception.perceiver import PerceiverConfig
from vidreason.perception.visual_tokens import CLIP_TOKEN, VisualTokens
from vidreason.store.feature_store import StoreConfig
from vidreason.store.visual_token_source import VisualTokenSource

NUM_VIDEOS = 6
QUESTIONS_PER_VIDEO = 5
PERCEIVER = {
    "sampling": {"num_clips": 2, "frames_per_clip": 2, "num_key_frames": 2},
    "video_encoder": {
        "name": "viclip",
        "allow_random_weights": True,
        "image_size": 16,
        "patch_size": 8,
        "width": 24,
        "num_layers": 1,
        "num_heads": 2,
        "num_frames": 2,
        "output_dim": 8,
    },
    "use_objects": False,
}

SEGMENTER = {
    "name": "custom",
    "allow_random_weights": True,
    "image_size": 32,
    "patch_size": 8,
    "encoder_width": 16,
    "encoder_layers": 1,
    "encoder_heads": 2,
    "window_size": 0,
    "global_attention_layers": [],
    "prompt_dim": 16,
    "decoder_heads": 2,
    "decoder_mlp_dim": 32,
    "points_per_side": 2,
    "pred_iou_threshold": -10.0,
    "stability_threshold": 0.0,
}


def write_nextqa(root: Path, splits: tuple[str, ...] = ("train", "val")) -> list[str]:
    """NExT-QA's files with made-up questions; the videos are files of a few bytes."""
    (root / "NExTVideo" / "00").mkdir(parents=True)
    videos = {str(100 + number): f"00/{100 + number}" for number in range(NUM_VIDEOS)}
    (root / "map_vid_vidorID.json").write_text(json.dumps(videos))
    options = [f"a{index}" for index in range(5)]
    header = ["video", "frame_count", "width", "height", "question", "answer", "qid", "type"]
    for split in splits:
        with (root / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*header, *options])
            for video in videos:
                for qid in range(QUESTIONS_PER_VIDEO):
                    question = f"why did number {qid} fall"
                    texts = [f"reason {video} {option}" for option in options]
                    answer = (int(video) + qid) % 5
                    row = [video, 30, 8, 8, question, answer, qid, "CW", *texts]
                    writer.writerow(row)
    paths = [root / "NExTVideo" / f"{location}.mp4" for location in videos.values()]
    for path in paths:
        path.write_bytes(path.name.encode())
    return [str(path) for path in paths]


@pytest.fixture(scope="session")
def tiny_experiment(
    tmp_path_factory: pytest.TempPathFactory, tiny_language_model_folder: str
) -> Path:
    """A configuration file for stage 2 on the tiny corpus: 30 examples, 16 optimizer steps."""
    folder = tmp_path_factory.mktemp("experiment")
    videos = write_nextqa(folder / "nextqa")
    store = {"path": str(folder / "store"), "dtype": "float32"}
    fill_store(videos, store["path"])
    config = {
        "stage": "instruction",
        "perceiver": PERCEIVER,
        "store": store,
        "reasoner": {
            "fusion": {"num_queries": 2, "width": 16, "num_layers": 1, "num_heads": 2},
            "language_model": {"name_or_path": tiny_language_model_folder, "dtype": "float32"},
            # Dropout, so that a run that draws other random numbers after a resume is found out.
            "lora": {"rank": 2, "alpha": 4, "dropout": 0.2},
        },
        "data": {
            "train": [{"reader": "nextqa", "root": str(folder / "nextqa"), "split": "train"}],
            "validation": [
                {"reader": "nextqa", "root": str(folder / "nextqa"), "split": "val", "limit": 4}
            ],
            "batch_size": 2,
            "global_batch_size": 4,
            "num_epochs": 2,
            "max_text_tokens": 512,
        },
        "optimizer": {"learning_rate": 0.01, "warmup_steps": 3},
        "trainer": {
            "accelerator": "cpu",
            "devices": 1,
            "log_every_n_steps": 1,
            "checkpoint_every_n_steps": 2,
            "record_samples": True,
        },
        "decoding": {"max_new_tokens": 4},
        "device": "cpu",
    }
    path = folder / "tiny_experiment.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def fill_store(
    videos: list[str], store: str, make: Callable[[int], VisualTokens] | None = None
) -> None:
    """Made-up tokens of each video under the key that perceiving would give.

    They are three clips long, or what ``make`` gives for the video's number.
    """
    path = Path(store).with_name("perceiver.yaml")
    path.write_text(yaml.safe_dump(PERCEIVER))
    perceiver = merge_config(PerceiverConfig, [str(path)])
    source = VisualTokenSource(perceiver, StoreConfig(path=store, dtype="float32"))
    assert source.store is not None
    for number, video in enumerate(videos):
        source.store.put(source.key(video), (make or made_up_tokens)(number))
    source.store.flush()


def write_clip(path: Path, number: int) -> None:
    """A video of 8 frames in which a square moves; ``number`` sets its place and colour."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for frame_number in range(8):
            picture = np.full((32, 32, 3), 90, dtype=np.uint8)
            left = (3 * number + 2 * frame_number) % 24
            picture[8:16, left : left + 8] = (40 * number % 256, 200, 30)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture(scope="session")
def filmed_experiment(
    tiny_experiment: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """An overlay for the tiny experiment with real videos, of which the last is broken."""
    folder = tmp_path_factory.mktemp("filmed")
    videos = write_nextqa(folder / "nextqa", ("train", "val", "test"))
    for number, video in enumerate(videos[:-1]):
        write_clip(Path(video), number)
    Path(videos[-1]).write_text("no video")
    corpus = {"reader": "nextqa", "root": str(folder / "nextqa")}
    readable = QUESTIONS_PER_VIDEO * (NUM_VIDEOS - 1)
    config = {
        "perceiver": {"use_objects": True, "objects_per_key_frame": 2, "segmenter": SEGMENTER},
        "store": {"path": ""},
        "data": {
            "train": [{**corpus, "split": "train"}],
            "validation": [],
            "benchmark": [{**corpus, "split": "test", "limit": readable}],
            "num_epochs": 1,
            "max_unreadable_fraction": 0.2,
        },
        "optimizer": {"warmup_steps": 1},
        "trainer": {"stop_after_steps": 3},
    }
    path = folder / "filmed.yaml"
    path.write_text(yaml.safe_dump(config))
    return path, Path(videos[-1])


def made_up_tokens(seed: int, num_clips: int = 3, width: int = 24) -> VisualTokens:
    generator = torch.Generator().manual_seed(seed)
    edges = torch.arange(num_clips + 1, dtype=torch.float32)
    return VisualTokens(
        features=torch.randn(num_clips, width, generator=generator),
        kinds=torch.full((num_clips,), CLIP_TOKEN),
        spans=torch.stack([edges[:-1], edges[1:]], dim=1),
        boxes=torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(num_clips, 4).contiguous(),
        areas=torch.ones(num_clips),
        track_ids=torch.full((num_clips,), -1),
        masks=(None,) * num_clips,
        duration_seconds=float(num_clips),
    )
