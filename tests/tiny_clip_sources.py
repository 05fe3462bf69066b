"""Invented metadata of clip sources, and videos of a few seconds."""

import json
import random
from pathlib import Path
from typing import Any

import av
import numpy as np

Video = dict[str, Any]


def ego4d_video(uid: str, seconds: object, *scenarios: str, **fields: object) -> Video:
    return {"video_uid": uid, "duration_sec": seconds, "scenarios": list(scenarios), **fields}


def write_ego4d(
    root: Path,
    videos: list[Any],
    narrations: dict[str, list[tuple[float, str]]] | None = None,
    egoschema: tuple[str, ...] = (),
) -> Path:
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "ego4d.json").write_text(json.dumps({"version": "2", "videos": videos}))
    questions = {f"q{number}": {"video_uid": uid} for number, uid in enumerate(egoschema)}
    (root / "uid_to_ego4d.json").write_text(json.dumps(questions))
    told = {
        uid: {
            "narration_pass_1": {
                "narrations": [{"timestamp_sec": t, "narration_text": text} for t, text in rows]
            },
            "status": "complete",
        }
        for uid, rows in (narrations or {}).items()
    }
    (root / "annotations/narration.json").write_text(json.dumps(told))
    return root


def write_something(root: Path, rows: list[tuple[str, str]], split: str = "train") -> Path:
    """Rows of id and template; each has its own label."""
    root.mkdir(parents=True, exist_ok=True)
    items = [
        {
            "id": name,
            "label": f"{template.lower()} number {name}",
            "template": f"{template} [something]",
            "placeholders": ["it"],
        }
        for name, template in rows
    ]
    (root / f"{split}.json").write_text(json.dumps(items))
    templates = sorted({template for _, template in rows})
    labels = {f"{template} something": str(n) for n, template in enumerate(templates)}
    path = root / "labels.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**labels, **before}))
    return root


def shuffled(values: list[Any], seed: int) -> list[Any]:
    copy = list(values)
    random.Random(seed).shuffle(copy)
    return copy


def write_clip(path: Path, seconds: float, seeds: tuple[int, ...] = (0,), rate: int = 8) -> Path:
    """A video of as many shots of equal length as there are seeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shots = []
    for seed in seeds:
        generator = np.random.default_rng(seed)
        picture = np.kron(generator.integers(0, 255, (4, 6, 3)), np.ones((12, 12, 1)))
        shots.append(picture.astype(np.uint8))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 72, 48, "yuv420p"
        stream.options = {"crf": "28", "preset": "ultrafast", "threads": "1"}
        num_frames = round(seconds * rate)
        for number in range(num_frames):
            picture = shots[number * len(shots) // num_frames]
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    return path
