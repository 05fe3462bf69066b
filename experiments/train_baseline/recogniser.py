"""Training of the recogniser's head on frames of the training videos."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import TensorDataset

from data_modules.epoch_loader import epoch_loader, torch_order
from experiments.train_baseline.anticipation_config import AnticipationTrainingConfig
from experiments.train_baseline.sample_training import fit_samples
from vidreason.atomic_file import atomic_file
from vidreason.baselines.anticipation.config import RecogniserConfig
from vidreason.baselines.anticipation.folder import NetworkFolder, save_network
from vidreason.baselines.anticipation.module import RecogniserModule
from vidreason.baselines.anticipation.recognise import (
    build_head,
    encoded_patches,
)
from vidreason.baselines.anticipation.segments import (
    FRAMES_PER_SECOND,
    Recording,
    cut_at,
    vocabulary,
)
from vidreason.baselines.frames import FrameReader, middle_frames
from vidreason.perception.models import build_video_encoder
from vidreason.perception.video_encoder import VideoEncoder
from vidreason.perception.weights import hash_weights, open_weights
from vidreason.video.failures import VideoReadError

_UNKNOWN = -1


def train_recogniser(
    settings: AnticipationTrainingConfig,
    config: RecogniserConfig,
    train: Sequence[Recording],
    validation: Sequence[Recording],
    folder: Path,
    *,
    device: torch.device,
    seed: int,
) -> str:
    """Train the head, write it to ``folder``, and say how many frames it labels rightly.

    Patches of each video are computed once, in half precision, into a folder beside it that has the
    encoder's hash in its name. Videos that cannot be read are left out and counted.

    Raises:
        ValueError: No training video can be read.
    """
    # Patches are found again by the encoder's content, not by its name.
    encoder = build_video_encoder(config.video_encoder, device)
    weights = config.video_encoder.weights
    encoder_sha256 = hash_weights(weights) if weights else ""
    patches = folder.parent / f"patches-{encoder_sha256[:16] or 'random'}"
    source = _Patches(encoder, config, patches, settings)
    # What comes after the observed part is the future: no frame of it may be learnt.
    observed = [recording for one in train if (recording := _observed(one)) is not None]
    labels = vocabulary(observed)
    index = {label: number for number, label in enumerate(labels)}
    samples = source.samples(observed, index)
    if samples is None:
        raise ValueError("no training video has a file that can be read: nothing to recognise")
    torch.manual_seed(seed)
    # Labels of training alone, in the order in which the folder names them.
    head = build_head(config, len(labels))
    rows = TensorDataset(*samples)
    fit_samples(
        RecogniserModule(head, settings.learning_rate),
        epoch_loader(
            rows, torch_order(rows, seed), batch_size=settings.recogniser_batch_size, seed=seed
        ),
        folder.parent / "checkpoints" / folder.name,
        num_epochs=settings.recogniser_epochs,
        device=str(device),
        seed=seed,
    )
    description = NetworkFolder(
        config=config,
        labels=labels,
        trained_on=settings.trained_on,
        encoder_sha256=encoder_sha256,
    )
    save_network(folder, description, head)
    # Of those learnt, and of those held out, of which there may be none.
    held_out = [recording for one in validation if (recording := _observed(one)) is not None]
    shares = [
        "none" if part is None else f"{_accuracy(head.eval().to(device), *part, device):.1%}"
        for part in (samples, source.samples(held_out, index))
    ]
    return (
        f"recogniser: {len(labels)} labels; frames labelled rightly: {shares[0]} of those learnt, "
        f"{shares[1]} of those held out; {source.num_unreadable} videos left out"
    )


def _observed(recording: Recording) -> Recording | None:
    """The recording without what follows its observed part; None without a video."""
    if not recording.media:
        return None
    if recording.observed is None:
        return recording
    return replace(recording, segments=cut_at(recording.segments, recording.observed)[0])


class _Patches:
    """Patches of videos, and the labels of their frames; computed once for each video."""

    def __init__(
        self,
        encoder: VideoEncoder,
        config: RecogniserConfig,
        folder: Path,
        settings: AnticipationTrainingConfig,
    ) -> None:
        self._encoder = encoder
        self._config = config
        self._folder = folder
        self._frames_per_second = (
            FRAMES_PER_SECOND if settings.events else settings.label_files.frames_per_second
        )
        self._reader = FrameReader()
        self.num_unreadable = 0

    def samples(
        self, recordings: Sequence[Recording], index: dict[str, int]
    ) -> tuple[Tensor, Tensor] | None:
        """Return patches ``(n, F, P, D)`` float16 and labels ``(n, F)`` int64; None for none."""
        patches, labels = [], []
        for recording in recordings:
            try:
                stored = self._patches(recording)
            except VideoReadError as error:
                self.num_unreadable += 1
                print(f"left out: {error}", flush=True)
                continue
            patches.append(stored["patches"])
            seconds = float(stored["seconds"])
            labels.append(self._labels(recording, index, len(stored["patches"]), seconds))
        return (torch.stack(patches), torch.stack(labels)) if patches else None

    def _patches(self, recording: Recording) -> dict[str, Tensor]:
        """Patches ``(F, P, D)`` of one video, and its length in seconds."""
        span = (recording.media, recording.start_seconds, recording.end_seconds)
        # The encoder is in the folder's name, and run_dir holds one number of frames: see
        # check_settings.
        name = hashlib.sha256(repr(span).encode()).hexdigest()[:32]
        path = self._folder / f"{name}.safetensors"
        if not path.is_file():
            frames = self._reader(
                recording.media,
                recording.start_seconds,
                recording.end_seconds,
                middle_frames(self._config.num_frames),
            )
            with torch.inference_mode():
                patches = encoded_patches(self._encoder, frames, self._config.num_frames)
            seconds = torch.tensor(frames.duration_seconds, dtype=torch.float64)
            with atomic_file(path) as file:
                file.write(save({"patches": patches.half().cpu(), "seconds": seconds}))
        # Also what was just computed: from the file, it is as rounded as at a later start.
        with open_weights(str(path)) as stored:
            return {name: stored.read(name) for name in ("patches", "seconds")}

    def _labels(
        self, recording: Recording, index: dict[str, int], num_parts: int, seconds: float
    ) -> Tensor:
        """The label at the middle of each of equal parts of the video."""
        # Segments in frames of the labels' rate, whatever the video file's own rate is.
        ends = list(accumulate(part.length for part in recording.segments))
        middles = (torch.arange(num_parts) + 0.5) / num_parts * seconds * self._frames_per_second
        # (num_parts,): the first segment that ends after the moment.
        numbers = torch.searchsorted(torch.tensor(ends), middles, right=True)
        names = [part.label for part in recording.segments]
        # A video may be a little longer than its labels.
        known = [names[min(number, len(names) - 1)] for number in numbers.tolist()]
        return torch.tensor([index.get(name, _UNKNOWN) for name in known])


@torch.inference_mode()
def _accuracy(
    head: torch.nn.Module, patches: Tensor, labels: Tensor, device: torch.device
) -> float:
    right = sum(
        # A video at a time, (1, F, P, D) -> (F, L) -> (F,); unknown labels count as wrong.
        int((head(one[None].float().to(device))[0].argmax(1).cpu() == of_one).sum())
        for one, of_one in zip(patches, labels, strict=True)
    )
    return right / labels.numel()
