"""Program synthesis on the microworld: ViperGPT's method with models that the world trained.

A small Llama, trained on questions of the training split and the programs of their forms, writes a
program; the world's segmenter and a head over its masks' crops answer its calls. The programs, the
sandbox and the records are those of :mod:`vidreason.baselines.viper`. Nothing reads the simulator.
"""

import importlib.metadata
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Self

import torch
from typing_extensions import override

from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.frames import FrameRule, Frames, middle_frames
from vidreason.baselines.system import Facts
from vidreason.baselines.viper.sandbox import Limits, check_sandbox
from vidreason.baselines.viper.system import Viper
from vidreason.baselines.viper.text_model import (
    PROGRAM_TOKENS,
    ProgramWriter,
    PromptedWriter,
    load_text_model,
)
from vidreason.evaluation.answerer import Reply
from vidreason.example import Example
from vidreason.microworld import parts
from vidreason.microworld.look_head import LookHead
from vidreason.microworld.program_language_model import PROMPT
from vidreason.microworld.program_templates import templates_digest, write_program
from vidreason.microworld.renderer import FRAME_SIZE
from vidreason.microworld.world_modules import WorldModules
from vidreason.perception.models import build_segmenter
from vidreason.perception.weights import load_weights
from vidreason.reasoning.reasoner_config import DecodingConfig
from vidreason.reasoning.text_model import Writing

NUM_FRAMES = 24
"""Frames of a video that programs look at: four a second, since a contact takes a moment."""
_GREY = 220  # of the floor


class MicroworldPrograms(Viper):
    """Program synthesis with the microworld's models.

    ``weights`` names ``head`` (``look_head.safetensors``) and ``segmenter`` (the world's), and
    ``code_model``, the folder of the Llama that writes programs. Without ``code_model`` the
    templates themselves write them, which shows how much is lost by the language model.
    """

    parts = ("segmenter", "head")
    optional_parts = ("code_model",)

    @override
    def answer(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
        # A blind run: programs run over an empty floor, and say what they say if nothing is there.
        shown = [video if len(video.pixels) else _empty_floor(video) for video in videos]
        return super().answer(shown, examples)

    choose = answer
    predict = answer

    @classmethod
    @override
    def load(cls, config: BaselineConfig, decoding: DecodingConfig, device: torch.device) -> Self:
        """Load segmenter, head and language model.

        Raises:
            ValueError: One is missing, damaged or of another size, or the sandbox is not installed.
        """
        if missing := [part for part in cls.parts if not config.weights.get(part)]:
            raise ValueError(
                f"baselines: weights.{missing[0]} is missing; `python -m "
                "experiments.pretrain_microworld look_head` makes the head, and the segmenter is "
                "vidreason/microworld/parts/segmenter.safetensors"
            )
        # The sizes are the world's; only the weights are named by the configuration.
        segmenter = parts.perceiver_config().segmenter
        segmenter.weights = config.weights["segmenter"]
        head = LookHead()
        load_weights(head, config.weights["head"])
        modules = WorldModules(build_segmenter(segmenter), head)
        return cls(_writer(config, decoding, device), modules, one_frame_a_second=False)

    @classmethod
    @override
    def problems(cls, config: BaselineConfig, decoding: DecodingConfig) -> list[str]:
        try:
            check_sandbox()
        except ValueError as error:
            return [str(error)]
        return []

    @classmethod
    @override
    def facts(cls, config: BaselineConfig) -> Facts:
        writer = "a Llama trained on (question, program) pairs of the training split"
        if not config.weights.get("code_model"):
            writer = "the templates that the pairs are made of, not a language model"
        return Facts(
            fidelity="re-composed",
            source="cvlab-columbia/viper@09fe346",
            deviations=(
                f"programs are written by {writer}",
                "programs run in pydantic-monty, within limits, not by exec",
                "detector, matcher and question model are the microworld's segmenter and a head "
                "over its masks' crops; there is no model of depth and none of texts",
                f"{NUM_FRAMES} frames of equal parts, unless num_frames says otherwise",
                "without pictures, programs run over an empty floor",
            ),
            trained_on=("the microworld's training split",),
        )

    @classmethod
    @override
    def frame_rule(cls, config: BaselineConfig) -> FrameRule:
        return middle_frames(config.num_frames or NUM_FRAMES)

    @classmethod
    @override
    def answering(cls, config: BaselineConfig) -> dict[str, Any]:
        check_sandbox()
        return {
            # Other templates write other programs.
            "templates": "" if config.weights.get("code_model") else templates_digest(),
            "program_tokens": PROGRAM_TOKENS,
            "limits": asdict(Limits()),
            "sandbox": importlib.metadata.version("pydantic-monty"),
        }


def _writer(
    config: BaselineConfig, decoding: DecodingConfig, device: torch.device
) -> ProgramWriter:
    name = config.weights.get("code_model")
    if not name:
        return _write_by_template
    try:
        return PromptedWriter(load_text_model(name, config, device), PROMPT, decoding)
    except ValueError as error:
        raise ValueError(f"baselines: weights.code_model: {error}") from error


def _write_by_template(question: str, options: Sequence[str]) -> Writing:
    return Writing(write_program(question) or "", 0, 0)


def _empty_floor(frames: Frames) -> Frames:
    floor = torch.full((1, 3, FRAME_SIZE, FRAME_SIZE), _GREY, dtype=torch.uint8)
    return frames._replace(pixels=floor)
