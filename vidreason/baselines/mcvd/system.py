"""MCVD and a captioner as a baseline, with its control: the captioner on what MCVD was shown.

MCVD predicts pictures and no words. So its frames of the future go to another system, which says
what happens in them. The control asks it what will happen after the last observed frames, as small
as MCVD sees them: what the two rows differ by is the prediction.
"""

import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.frames import FrameRule, Frames, LastFrames
from vidreason.baselines.mcvd.checkpoint import ModelFolder, load_folder, read_folder
from vidreason.baselines.mcvd.config import DiffusionConfig
from vidreason.baselines.mcvd.diffusion import VideoDiffusion
from vidreason.baselines.mcvd.pictures import enlarge, shrink, to_model_range, to_rgb
from vidreason.baselines.questions import is_about_next
from vidreason.baselines.system import Captioner, Facts, System
from vidreason.evaluation.answerer import Reply
from vidreason.example import Example
from vidreason.perception.weights import local_folder
from vidreason.reasoning.prompts import FUTURE_FRAMES_PROMPT
from vidreason.reasoning.reasoner_config import DecodingConfig

_SOURCE = "voletiv/mcvd-pytorch@451da2e"
_SEED = 0
"""Seed of the predictions. The noise of a video follows from it and the video's id alone, so that
questions around it change nothing."""


class CaptionerOnObserved(System):
    """The control: a captioner of the last observed frames, at MCVD's size.

    Args:
        config: Of the MCVD model.
        captioner: What is asked.

    Raises:
        ValueError: The captioner can neither predict nor answer.
    """

    needs_captioner: ClassVar[bool] = True

    def __init__(self, config: DiffusionConfig, captioner: Captioner) -> None:
        if not (_can(captioner.system, "predict") or _can(captioner.system, "answer")):
            raise ValueError(
                f"baselines.captioner: {type(captioner.system).__name__} can neither predict nor "
                "answer; name one that can describe frames"
            )
        self._config = config
        self._captioner = captioner

    def predict(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
        """Ask for events, in the benchmark's prompt, of the frames that the captioner is shown."""
        system = self._captioner.system
        ask = system.predict if _can(system, "predict") else system.answer
        return ask(self._shown_to_captioner(videos, examples), examples)

    def choose(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
        """Choose where a question is about what happens next; others are not applicable."""
        replies = [Reply(applies=False)] * len(examples)
        about_next = [number for number, one in enumerate(examples) if is_about_next(one)]
        if about_next and _can(self._captioner.system, "choose"):
            questions = [examples[number] for number in about_next]
            shown = self._shown_to_captioner([videos[number] for number in about_next], questions)
            for number, reply in zip(
                about_next, self._captioner.system.choose(shown, questions), strict=True
            ):
                replies[number] = reply
        return replies

    @classmethod
    def load(cls, config: BaselineConfig, decoding: DecodingConfig, device: torch.device) -> Self:
        """Refuse: there is no captioner.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            "baselines.captioner is empty; MCVD predicts pictures: name the baseline that is asked "
            "about them"
        )

    @classmethod
    def load_with_captioner(
        cls,
        config: BaselineConfig,
        decoding: DecodingConfig,
        device: torch.device,
        captioner: Captioner,
    ) -> Self:
        """Take the model's sizes from its folder.

        Args:
            config: ``weights.model`` is the MCVD folder, ``captioner`` the captioner's name.
            decoding: The captioner's business.
            device: The model's.
            captioner: The system of that name, loaded.

        Raises:
            ValueError: The folder is missing or damaged, or the captioner cannot describe frames.
        """
        return cls(_folder_of(config)[1].model, captioner)

    @classmethod
    def problems(cls, config: BaselineConfig, decoding: DecodingConfig) -> list[str]:
        """Say where frames are asked for that the model is not shown."""
        if config.num_frames is None:
            return []
        return [
            f"num_frames is {config.num_frames}; MCVD is shown as many frames as it was trained "
            "on: leave it out"
        ]

    @classmethod
    def facts(cls, config: BaselineConfig) -> Facts:
        """Return the facts of the control."""
        model = _folder_of(config)[1]
        side = model.model.image_size
        return Facts(
            fidelity="re-composed",
            source=_SOURCE,
            deviations=(
                f"{config.captioner} on the {model.model.num_past_frames} last observed frames at "
                f"{side} px: the control of MCVD({model.name}, {side} px) + {config.captioner}",
            ),
        )

    @classmethod
    def frame_rule(cls, config: BaselineConfig) -> FrameRule:
        """Return the rule for the last frames of a video, as far apart as the model's."""
        return last_frames(_folder_of(config)[1].model)

    @classmethod
    def answering(cls, config: BaselineConfig) -> dict[str, Any]:
        """Return the captioner's name; its weights are added where it is known."""
        return {"captioner": config.captioner}

    def _shown_to_captioner(
        self, videos: Sequence[Frames], examples: Sequence[Example]
    ) -> list[Frames]:
        """Frames for the captioner, computed once for the questions about one video."""
        by_video: dict[int, Frames] = {}
        for video, example in zip(videos, examples, strict=True):
            # A blind run has no frames; the captioner then answers from the text alone.
            # Questions about one video share one object, which stands for its pixels.
            if id(video) not in by_video:
                by_video[id(video)] = self._changed(video, example) if video.seconds else video
        return [by_video[id(video)] for video in videos]

    def _changed(self, video: Frames, example: Example) -> Frames:
        return self._as_video(observed_frames(video, self._config), video)

    def _as_video(self, pixels: Tensor, original: Frames) -> Frames:
        """Small frames as the captioner sees a video of them, at the original's size."""
        # The captioner's own rule chooses among the predicted frames, by number or by time.
        num_frames = len(pixels)
        rate = self._config.frame_rate or original.rate
        seconds, rule = np.arange(num_frames) / rate, self._captioner.rule
        if isinstance(rule, LastFrames):
            chosen = rule.indices(seconds, num_frames / rate)
        else:
            chosen = list(rule(num_frames))
        height, width = original.pixels.shape[-2:]
        return Frames(
            enlarge(pixels[chosen], height, width),
            tuple(seconds[chosen].tolist()),
            tuple(chosen),
            num_frames,
            num_frames / rate,
        )


class Mcvd(CaptionerOnObserved):
    """MCVD and a captioner: what the captioner says of the frames that MCVD predicts.

    Where the next events are asked for, it is told that the frames show them
    (:data:`.FUTURE_FRAMES_PROMPT`); questions with options keep their words.

    Args:
        model: The MCVD model.
        captioner: What is asked.
        device: The model's.

    Raises:
        ValueError: As :class:`CaptionerOnObserved`; or the model predicts from no past frames.
    """

    def __init__(self, model: VideoDiffusion, captioner: Captioner, device: torch.device) -> None:
        super().__init__(model.config, captioner)
        if not model.config.num_past_frames:
            raise ValueError("weights.model: this MCVD model does not predict from past frames")
        self._model = model
        self._device = device

    @override
    def predict(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
        """Ask for the events in the predicted frames, of a blind run in the benchmark's words."""
        questions = [
            replace(example, prompt=FUTURE_FRAMES_PROMPT) if video.seconds else example
            for video, example in zip(videos, examples, strict=True)
        ]
        return super().predict(videos, questions)

    @classmethod
    def load_with_captioner(
        cls,
        config: BaselineConfig,
        decoding: DecodingConfig,
        device: torch.device,
        captioner: Captioner,
    ) -> Self:
        """Load the model of a folder; see :meth:`CaptionerOnObserved.load_with_captioner`.

        Raises:
            ValueError: The folder is missing or damaged, or the captioner cannot describe frames.
        """
        dtype: torch.dtype = getattr(torch, config.dtype)
        return cls(load_folder(_folder_of(config)[0], device, dtype), captioner, device)

    @classmethod
    def facts(cls, config: BaselineConfig) -> Facts:
        """Return the facts, from the folder."""
        model = _folder_of(config)[1]
        side = model.model.image_size
        return Facts(
            fidelity="re-composed" if model.origin == "official" else "re-trained",
            source=_SOURCE,
            deviations=(
                f"adapted: MCVD({model.name}, {side} px) + {config.captioner}, which is asked "
                f"what happens in the {model.model.num_predicted} frames that MCVD predicts; "
                "questions with options keep their words",
                "frames are resized by a bilinear filter instead of Lanczos",
            ),
            trained_on=tuple(model.trained_on),
            licence="MIT (the repository's; none is given for the weights)"
            if model.origin == "official"
            else "",
        )

    @classmethod
    def answering(cls, config: BaselineConfig) -> dict[str, Any]:
        """Return the captioner's name and how the model is sampled from."""
        model = _folder_of(config)[1].model
        return {
            **super().answering(config),
            **{"sampler": model.sampler, "sampling_steps": model.sampling_steps},
            **{"num_predicted": model.num_predicted, "seed": _SEED},
            "prompt": FUTURE_FRAMES_PROMPT,
        }

    def _changed(self, video: Frames, example: Example) -> Frames:
        past = observed_frames(video, self._config)
        # (K, 3, S, S) -> (1, K, channels, S, S) from 0 to 1
        known = (to_model_range(past, self._config) + 1) / 2
        identity = (example.corpus, example.video_id, example.start_seconds, example.end_seconds)
        key = "/".join(map(str, (_SEED, *identity)))
        # A checksum, since Python's hash of a text differs from process to process.
        generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
        predicted = self._model.predict(
            known[None].to(self._device), self._config.num_predicted, generators=[generator]
        )
        return self._as_video(to_rgb(predicted[0]).cpu(), video)


def last_frames(config: DiffusionConfig) -> FrameRule:
    """Return the rule for the frames at a video's end that a model is shown.

    A model of consecutive frames is shown the last ones; if there are too few, the first repeats.
    """
    count = max(config.num_past_frames, 1)
    if config.frame_rate is not None:
        return LastFrames(count, config.frame_rate)
    return lambda available: [max(available - count + number, 0) for number in range(count)]


def observed_frames(video: Frames, config: DiffusionConfig) -> Tensor:
    """Bring the frames of :func:`last_frames` to a model's size.

    A control may leave fewer; then the first repeats.

    Returns:
        ``(num_past_frames, 3, S, S)`` uint8.
    """
    count = max(config.num_past_frames, 1)
    # (1, 3, H, W) repeated in front of (n, 3, H, W) -> (num_past_frames, 3, H, W)
    missing = max(count - len(video.pixels), 0)
    pixels = torch.cat([video.pixels[:1].expand(missing, -1, -1, -1), video.pixels[-count:]])
    return shrink(pixels, config.image_size)


def _can(system: System, capability: str) -> bool:
    return getattr(type(system), capability) is not getattr(System, capability)


def _folder_of(config: BaselineConfig) -> tuple[Path, ModelFolder]:
    """The folder of the MCVD model and its ``config.json``."""
    name = config.weights.get("model", "")
    if not name:
        raise ValueError(
            "baselines.weights has no entry 'model'; give the folder of an MCVD model, which "
            "training or convert_official writes"
        )
    folder = local_folder(name, config.revision)
    return folder, read_folder(folder)
