"""From the frames of a video to its segments, as the anticipation networks take them.

The published networks never see a picture: others give them the labels. Here a head on a frozen
video encoder does, or the annotators' own labels.

Shapes: N clips, F frames of all clips (or pairs of them that share their tokens), P patches, D
width of the encoder, L labels.
"""

import hashlib
import json
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from vidreason.baselines.anticipation.config import RecogniserConfig
from vidreason.baselines.anticipation.folder import NETWORK_FILE, load_into, read_description
from vidreason.baselines.anticipation.segments import (
    FRAMES_PER_SECOND,
    Segment,
    segments_of,
)
from vidreason.baselines.frames import FrameRule, Frames, middle_frames
from vidreason.example import Example
from vidreason.perception.models import build_video_encoder, video_encoder_sizes
from vidreason.perception.video_encoder import VideoEncoder
from vidreason.perception.weights import hash_file, hash_weights

_MAX_LABEL_BYTES = 2**26  # 64 MiB


class Recogniser(Protocol):
    """Gives the segments of what is observed of a video."""

    def __call__(self, frames: Frames, example: Example) -> tuple[Segment, ...]:
        """Return segments, with lengths in :data:`FRAMES_PER_SECOND`; none without a frame.

        Raises:
            ValueError: What it reads beside the frames is missing or damaged.
        """
        ...


class FrameLabeller(nn.Module):
    """The trained head: it pools the patches of each frame and reads the frames in both directions.

    An event is seen in what changes, and its label lasts until the next event: one frame alone does
    not tell it.

    Args:
        encoder_width: D.
        num_labels: L.
        width: Of the layers in between; even.
        num_queries: Learnt queries that pool the patches.
    """

    def __init__(
        self, encoder_width: int, num_labels: int, width: int = 128, num_queries: int = 4
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(encoder_width)
        self.keys = nn.Linear(encoder_width, width)
        self.values = nn.Linear(encoder_width, width)
        self.queries = nn.Parameter(torch.empty(num_queries, width))
        self.over_time = nn.GRU(num_queries * width, width, batch_first=True, bidirectional=True)
        self.label = nn.Linear(2 * width, num_labels)
        nn.init.normal_(self.queries, std=width**-0.5)

    def forward(self, patches: Tensor) -> Tensor:
        """Return the logits ``(B, F, L)`` of the frames' patches ``(B, F, P, D)``."""
        patches = self.norm(patches)
        # Each query's share of each patch: (Q, W) x (B, F, P, W) -> (B, F, Q, P)
        scores = torch.einsum("qw,bfpw->bfqp", self.queries, self.keys(patches))
        pooled = scores.softmax(-1) @ self.values(patches)  # (B, F, Q, W)
        states, _ = self.over_time(pooled.flatten(2))  # (B, F, Q * W) -> (B, F, 2 * W)
        logits: Tensor = self.label(states)
        return logits


def encoded_patches(encoder: VideoEncoder, frames: Frames, num_frames: int) -> Tensor:
    """Return the patch tokens ``(F, P, D)`` of ``num_frames`` frames, on the encoder's device.

    Args:
        encoder: The frozen encoder.
        frames: One or more; where there are others than ``num_frames``, the nearest in time.
        num_frames: A multiple of the encoder's frames in a clip.
    """
    chosen = middle_frames(num_frames)(len(frames.pixels))
    device = next(encoder.parameters()).device
    pixels = encoder.transform.apply(frames.pixels[list(chosen)].to(device))
    # (N * F', 3, S, S) -> (1, N, F', 3, S, S)
    clips = pixels.view(1, -1, encoder.num_frames, *pixels.shape[1:])
    tokens: Tensor = encoder(clips.to(next(encoder.parameters()).dtype)).patch_tokens
    # (1, N, F' / tubelet, h, w, D) -> (F, P, D)
    return tokens[0].flatten(0, 1).flatten(1, 2)


def seconds_covered(frames: Frames) -> float:
    """Return the length of what evenly spread frames show, which a control may have cut short."""
    first, last = frames.seconds[0], frames.seconds[-1]
    if last == first:
        return frames.duration_seconds
    # Each frame is the middle of its part.
    half = (last - first) / (len(frames.seconds) - 1) / 2
    return min(last + half, frames.duration_seconds)


class VideoRecogniser:
    """A frozen encoder and a trained head.

    Args:
        encoder: The encoder.
        head: A :class:`FrameLabeller`.
        labels: In the head's order.
        num_frames: Frames that are looked at.
    """

    def __init__(
        self, encoder: VideoEncoder, head: nn.Module, labels: tuple[str, ...], num_frames: int
    ) -> None:
        self._encoder = encoder
        self._head = head
        self._labels = labels
        self._num_frames = num_frames

    @torch.inference_mode()
    def __call__(self, frames: Frames, example: Example) -> tuple[Segment, ...]:
        """Label equal parts of time by their frames; neighbours with one label are a segment."""
        if not len(frames.pixels):
            return ()
        patches = encoded_patches(self._encoder, frames, self._num_frames)
        indices = self._head(patches[None].float())[0].argmax(1).tolist()
        # Length of the part that each frame stands for, in frames of the segments' rate.
        part = seconds_covered(frames) * FRAMES_PER_SECOND / len(indices)
        runs = segments_of(self._labels[index] for index in indices)
        return tuple(run._replace(length=run.length * part) for run in runs)


class AnnotatedSegments:
    """The annotators' labels of each frame, from ``<folder>/<video id>.txt``: an oracle.

    It looks at no picture, so that no control but the blind one changes what it gives.

    Args:
        folder: A folder such as ``groundTruth`` of Breakfast and 50Salads.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, frames: Frames, example: Example) -> tuple[Segment, ...]:
        """Return the segments of the observed span; a blind run sees none.

        Raises:
            ValueError: The video has no such file, or it is damaged or too short.
        """
        if not len(frames.pixels):
            return ()
        # An id comes from outside: only its last part, so that it cannot lead out of the folder.
        path = self._folder / f"{Path(example.video_id).name}.txt"
        if not path.is_file():
            raise ValueError(f"{path}: there is no file of labels of video {example.video_id!r}")
        if path.stat().st_size > _MAX_LABEL_BYTES:
            raise ValueError(f"{path} has more than {_MAX_LABEL_BYTES:,} bytes: no file of labels")
        try:
            labels = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is damaged: {error}; copy it again") from error
        # The file labels all frames of the video; those of the observed span are cut out.
        first = round((example.start_seconds or 0.0) * frames.rate)
        labels = [label.strip() for label in labels][first : first + frames.num_frames]
        if not labels or not all(labels):
            raise ValueError(
                f"{path}: expected a label for each frame from number {first}, found "
                f"{len(labels)}, of which {labels.count('')} are empty"
            )
        # Labels are of the video's frames, lengths of segments in frames of a rate of their own.
        frame = FRAMES_PER_SECOND / frames.rate
        return tuple(run._replace(length=run.length * frame) for run in segments_of(labels))


def recogniser_rule(folder: str, num_frames: int | None) -> FrameRule:
    """Return the rule by which the recogniser in ``folder`` looks at frames.

    Args:
        folder: Of a trained recogniser, or of the annotators' labels, which need no pictures.
        num_frames: Configured; None for the recogniser's own number.

    Raises:
        ValueError: The folder is neither.
    """
    if is_annotation_folder(folder):
        return middle_frames(num_frames or 1)
    config = read_description(folder, RecogniserConfig).config
    assert isinstance(config, RecogniserConfig)
    return middle_frames(num_frames or config.num_frames)


def is_annotation_folder(folder: str) -> bool:
    """Tell whether a folder holds the annotators' labels, and no trained recogniser."""
    path = Path(folder)
    return not (path / NETWORK_FILE).is_file() and any(path.glob("*.txt"))


def annotation_hash(folder: str) -> str:
    """Return a sha256 over names and contents of the annotators' files."""
    hashes = {path.name: hash_file(str(path)) for path in sorted(Path(folder).glob("*.txt"))}
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()


def load_recogniser(folder: str, encoder_weights: str, device: torch.device) -> Recogniser:
    """Load a recogniser.

    Args:
        folder: Of a trained recogniser, or of the annotators' labels.
        encoder_weights: Where the encoder's weights are; empty for where they were in training.
        device: Where to compute.

    Raises:
        ValueError: The folder is neither, or the weights are missing, damaged, or not those that
            the head was trained on.
    """
    if is_annotation_folder(folder):
        return AnnotatedSegments(Path(folder))
    description = read_description(folder, RecogniserConfig)
    config = description.config
    assert isinstance(config, RecogniserConfig)
    # The encoder may have moved since training, but must be the same one.
    if encoder_weights:
        config.video_encoder.weights = encoder_weights
    weights = config.video_encoder.weights
    if weights and hash_weights(weights) != description.encoder_sha256:
        raise ValueError(
            f"the recogniser in {folder!r} was trained on another encoder than {weights!r}: name "
            "that one as weights.encoder, or train the recogniser again"
        )
    encoder = build_video_encoder(config.video_encoder, device)
    head = build_head(config, len(description.labels))
    return VideoRecogniser(
        encoder, load_into(folder, head, device), description.labels, config.num_frames
    )


def build_head(config: RecogniserConfig, num_labels: int) -> FrameLabeller:
    """Build the configured head, with random weights."""
    width = video_encoder_sizes(config.video_encoder).width
    return FrameLabeller(width, num_labels, config.width, config.num_queries)
