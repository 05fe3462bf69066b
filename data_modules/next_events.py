"""Next events as classes: what an anticipation probe learns from the examples of a corpus.

A sample is a span that ends before an event, and the event, of an example whose prompt asks for the
next events. The classes are the events of the training split alone.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import Dataset
from typing_extensions import override

from vidreason.atomic_file import atomic_file
from vidreason.baselines.frames import FrameReader, LastFrames
from vidreason.baselines.vjepa2.future_latents import FutureLatents
from vidreason.baselines.vjepa2.probe_files import ProbeHead
from vidreason.baselines.vjepa2.probe_training import UNSEEN, LatentBatch
from vidreason.example import Example
from vidreason.perception.weights import open_weights
from vidreason.reasoning.plain_text import normalise_answer
from vidreason.reasoning.predictions import parse_predictions
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT
from vidreason.video.failures import FailureLog, VideoReadError
from vidreason.video.reader import GUARDED, VideoReader

EVENT_HEAD = "event"
_KEY = "latents"
_VERSION = 1
"""To be raised whenever the same span, model and settings give other latents."""


def next_event(example: Example) -> str:
    """Return the event that comes next in one line; empty for other questions and hidden answers.

    It is the event that really came, where the corpus knows it, else the first that the annotation
    predicts.
    """
    if example.prompt != FUTURE_PREDICTION_PROMPT:
        return ""
    events = list(example.answers)
    events += [item.event for item in parse_predictions(example.response).items]
    event = " ".join(events[0].split()) if events else ""
    return event if normalise_answer(event) else ""


def event_head(examples: Iterable[Example]) -> ProbeHead:
    """Return the head for the next events of the training examples, in the order of their words.

    Events that differ in case or outer punctuation alone are one class; its label is the form that
    occurs most often.

    Raises:
        ValueError: No example says what comes next.
    """
    forms: dict[str, Counter[str]] = {}
    for example in examples:
        if event := next_event(example):
            forms.setdefault(normalise_answer(event), Counter())[event] += 1
    if not forms:
        raise ValueError(
            "data.train: no example says what comes next; list a corpus with predictions, such as "
            "causal_vid_instruct"
        )
    names = sorted(forms)
    return ProbeHead(
        name=EVENT_HEAD,
        # Equally frequent forms in alphabetical order, so that the files' order decides nothing.
        labels=[min(forms[name], key=lambda form: (-forms[name][form], form)) for name in names],
        counts=[forms[name].total() for name in names],
    )


class LatentFiles:
    """Latents of the spans of examples, computed once and then read from disk.

    Args:
        folder: Where they are kept, a file a span, named by everything that they follow from.
        latents: The frozen model.
        encoder_hash: Content hash of its weights.
        reader: Reads videos.
    """

    def __init__(
        self,
        folder: Path,
        latents: FutureLatents,
        encoder_hash: str,
        reader: VideoReader = GUARDED,
    ) -> None:
        self._folder = folder
        self._latents = latents
        self._encoder_hash = encoder_hash
        self._frames = FrameReader(reader)
        self._reader = reader
        look_ahead = latents.look_ahead
        self._rule = LastFrames(look_ahead.num_frames, look_ahead.frames_per_second)
        self._content: dict[str, str] = {}

    def file_of(self, example: Example) -> Path:
        """Return the file of an example's span, which is computed and written unless it is there.

        Raises:
            VideoReadError: The video cannot be read.
            ValueError: A latent is not finite.
        """
        # Named by content and not by path: a file that was moved or copied keeps its latents.
        content = self._content.get(example.media)
        if content is None:
            content = self._reader.read_content(example.media).sha256
            self._content[example.media] = content
        span = (example.start_seconds, example.end_seconds)
        identity = [_VERSION, content, span, self._encoder_hash, asdict(self._latents.look_ahead)]
        name = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
        path = self._folder / f"{name}.safetensors"
        if not path.is_file():
            video = self._frames(example.media, *span, self._rule)
            with torch.inference_mode():
                latents = self._latents.of_videos([video])[0]  # (N, D)
            # 16 bits: 9 MB instead of 18 for a clip of the released ViT-L.
            rounded = latents.half().cpu().contiguous()
            if not rounded.isfinite().all():
                raise ValueError(
                    f"the latents of {example.media!r} are not finite in float16; check the encoder"
                )
            with atomic_file(path) as file:
                file.write(save({_KEY: rounded}))
        return path


class NextEventSamples(Dataset[tuple[Tensor, int]]):
    """Latents ``(N, D)`` float16 of spans, and the index of what came next.

    Args:
        files: A file of latents for each sample.
        labels: The sample's index among the head's labels, or ``UNSEEN``.
    """

    def __init__(self, files: Sequence[Path], labels: Sequence[int]) -> None:
        self.files = files
        self.labels = labels

    def __len__(self) -> int:
        return len(self.files)

    @override
    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with open_weights(str(self.files[index])) as weights:
            if _KEY not in weights.shapes:
                raise ValueError(f"{self.files[index]} holds no {_KEY!r}; remove it")
            return weights.read(_KEY), self.labels[index]


def next_event_samples(
    examples: Iterable[Example],
    head: ProbeHead,
    file_of: Callable[[Example], Path],
    failures: FailureLog,
) -> NextEventSamples:
    """Collect the samples among examples, computing the latents that are missing.

    Args:
        examples: Of any kind; those that do not ask for next events, or hide them, are passed over.
        head: Of the training split.
        file_of: Gives the file of an example's latents.
        failures: Records and counts unreadable videos, which are left out.

    Raises:
        UnreadableVideosError: Too many videos cannot be read.
    """
    index_of = {normalise_answer(label): index for index, label in enumerate(head.labels)}
    files, labels = [], []
    for example in examples:
        event = next_event(example)
        if not event:
            continue
        try:
            path = file_of(example)
        except VideoReadError as error:
            failures.record(1, [error.failure(example.id)])
            continue
        failures.record(1)
        files.append(path)
        labels.append(index_of.get(normalise_answer(event), UNSEEN))
    return NextEventSamples(files, labels)


def collate_samples(samples: Sequence[tuple[Tensor, int]]) -> LatentBatch:
    """Stack samples: ``(B, N, D)`` latents and ``(B,)`` labels of the head ``event``."""
    return LatentBatch(
        latents=torch.stack([latents for latents, _ in samples]),
        labels={EVENT_HEAD: torch.tensor([label for _, label in samples])},
    )
