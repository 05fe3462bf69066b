"""Program synthesis after ViperGPT (Suris et al., 2023) as a baseline.

A language model writes a program for each question, which is run in the sandbox over the video's
frames. Where there is no program, or it fails, a fixed one answers: the model for questions about
pictures is asked about the middle frame, with the options in the question. Each reply's record has
the program, its calls, its result or its failure.
"""

import hashlib
import importlib.metadata
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar, Self

import torch
from typing_extensions import override

from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.frames import FrameRule, Frames, middle_frames
from vidreason.baselines.questions import bare_question
from vidreason.baselines.system import Facts, System
from vidreason.baselines.viper.api_prompt import API_PROMPT, read_prompt
from vidreason.baselines.viper.modules import ModuleError, Modules
from vidreason.baselines.viper.pretrained_parts import part_name
from vidreason.baselines.viper.program import extract_program
from vidreason.baselines.viper.program_api import ProgramApi
from vidreason.baselines.viper.sandbox import (
    Failure,
    Limits,
    ProgramRun,
    check_sandbox,
    run_program,
)
from vidreason.baselines.viper.text_model import (
    PROGRAM_TOKENS,
    ProgramWriter,
    PromptedWriter,
    load_text_model,
)
from vidreason.baselines.viper.transformers_modules import TransformersModules
from vidreason.evaluation.answerer import Reply
from vidreason.example import Example
from vidreason.reasoning.reasoner_config import DecodingConfig

MAX_FRAMES = 30
"""Most frames of a video; ViperGPT takes one a second (its ``configs/benchmarks/nextqa.yaml``)."""
_CALLED_PARTS = ("detector", "matcher", "vqa", "depth")
MODULE_PARTS = (*_CALLED_PARTS, "language_model")
_MAX_REPLY = 20_000  # characters of a reply without a program that are kept


class Viper(System):
    """ViperGPT's method around any language model and any modules.

    Args:
        write: Writes programs.
        modules: The models that programs call.
        one_frame_a_second: Show programs one frame a second of those that there are; else all.
        runs_programs: False to write programs and run none; no question is then applicable.
        limits: Limits of each program; None for the defaults.

    Raises:
        ValueError: Programs are to be run, and the sandbox is not installed.
    """

    parts: ClassVar[tuple[str, ...]] = ("code_model",)
    optional_parts: ClassVar[tuple[str, ...]] = ("prompt", *MODULE_PARTS)

    def __init__(
        self,
        write: ProgramWriter,
        modules: Modules,
        *,
        one_frame_a_second: bool = True,
        runs_programs: bool = True,
        limits: Limits | None = None,
    ) -> None:
        if runs_programs:
            check_sandbox()
        self._write = write
        self._modules = modules
        self._one_frame_a_second = one_frame_a_second
        self._runs_programs = runs_programs
        self._limits = limits or Limits()

    @override
    def answer(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
        return [
            self._reply(frames, bare_question(example), example.options)
            for frames, example in zip(videos, examples, strict=True)
        ]

    # A program returns a text, whatever is asked.
    choose = answer
    predict = answer

    @classmethod
    @override
    def load(cls, config: BaselineConfig, decoding: DecodingConfig, device: torch.device) -> Self:
        """Load the model that writes programs; other models are loaded when a program calls them.

        ``weights`` names ``code_model``, optionally ``prompt`` (a text file), and what programs may
        call: ``detector``, ``matcher``, ``vqa``, ``depth``, ``language_model``. Without any of
        these, programs are written and none is run.

        Raises:
            ValueError: A part is unknown, the code model is missing or damaged, the prompt cannot
                be used, or the sandbox is not installed.
        """
        prompt = _prompt(config)
        runs = _runs_programs(config)
        if runs:
            check_sandbox()
        name = config.weights["code_model"]
        try:
            code_model = load_text_model(name, config, device)
            write = PromptedWriter(code_model, prompt, decoding)
        except ValueError as error:
            raise ValueError(f"baselines: weights.code_model: {error}") from error
        return cls(
            write,
            TransformersModules(config, decoding, device, code_model),
            one_frame_a_second=config.num_frames is None,
            runs_programs=runs,
        )

    @classmethod
    @override
    def problems(cls, config: BaselineConfig, decoding: DecodingConfig) -> list[str]:
        problems = []
        try:
            if "prompt" in config.weights:
                read_prompt(config.weights["prompt"])
        except ValueError as error:
            # The caller puts the baseline's name before it.
            problems.append(str(error).removeprefix("baselines: "))
        if not _runs_programs(config):
            return problems
        try:
            check_sandbox()
        except ValueError as error:
            problems.append(str(error))
        # The fallback asks the vqa model, and our prompt tells programs of all four. One that turns
        # out to be missing would end the run; with it, what answers is another system.
        for part in ("vqa",) if "prompt" in config.weights else _CALLED_PARTS:
            try:
                part_name(part, config)
            except ModuleError as error:
                problems.append(str(error).removeprefix("baselines: "))
        return problems

    @classmethod
    @override
    def facts(cls, config: BaselineConfig) -> Facts:
        return Facts(
            fidelity="re-composed",
            source="cvlab-columbia/viper@09fe346",
            deviations=(
                "prompt and examples are ours, unless weights.prompt names others",
                "any language model writes the programs: Codex is gone",
                "programs run in pydantic-monty, within limits, not by exec",
                "detector, matcher, question and depth models of transformers, for GLIP, X-VLM, "
                "BLIP-2 in 8 bits and MiDaS",
                "all coordinates are of the whole frame; the margin around a part is 1/64 of the "
                "longer side, for 10 pixels, and models alone see it",
                "verify_property compares the texts with and without the property",
                "30 frames from equal parts, thinned to one a second",
                "an answer that names no option is wrong, not replaced by the nearest or first one",
            ),
        )

    @classmethod
    @override
    def frame_rule(cls, config: BaselineConfig) -> FrameRule:
        return middle_frames(config.num_frames or MAX_FRAMES)

    @classmethod
    @override
    def identity(cls, config: BaselineConfig) -> dict[str, str]:
        # The prompt is no weights: `answering` has the hash of its text.
        weights = {part: name for part, name in config.weights.items() if part != "prompt"}
        return super().identity(replace(config, weights=weights))

    @classmethod
    @override
    def answering(cls, config: BaselineConfig) -> dict[str, Any]:
        runs = _runs_programs(config)
        if runs:
            check_sandbox()
        return {
            "prompt": hashlib.sha256(_prompt(config).encode()).hexdigest(),
            "program_tokens": PROGRAM_TOKENS,
            "runs_programs": runs,
            "one_frame_a_second": config.num_frames is None,
            "limits": asdict(Limits()) if runs else {},
            "sandbox": importlib.metadata.version("pydantic-monty") if runs else "",
        }

    def _reply(self, frames: Frames, question: str, options: Sequence[str]) -> Reply:
        """Answer one question, by a program if there is a picture."""
        if self._runs_programs and not len(frames.pixels):
            # A blind run: what can be said without the video.
            return Reply(output=self._modules.complete(_choice_question(question, options)))
        writing = self._write(question, options)
        program = extract_program(writing.text)
        record: dict[str, Any] = {"program": program}
        if program is None:
            record["reply"] = writing.text[:_MAX_REPLY]
        output = ""
        if self._runs_programs:
            run = self._run(program, frames, question, options)
            record["calls"] = [[name, list(given), result] for name, given, result in run.calls]
            # A program that fails is recorded; the question is then answered without one.
            if run.result is None:
                record["failure"] = (run.failure or Failure("result", "none"))._asdict()
                output = record["fallback"] = self._fallback(frames, question, options)
            else:
                output = record["result"] = run.result
        return Reply(
            output=output,
            num_prompt_tokens=writing.num_prompt_tokens,
            num_generated_tokens=writing.num_generated_tokens,
            record=record,
            # A program that nobody runs answers nothing, which is not a wrong answer.
            applies=self._runs_programs,
        )

    def _run(
        self, program: str | None, frames: Frames, question: str, options: Sequence[str]
    ) -> ProgramRun:
        if program is None:
            failure = Failure("no program", "the reply defines no function and has no return")
            return ProgramRun(None, failure, [])
        pixels = frames.pixels
        if self._one_frame_a_second:
            # Of equal parts of the video there is a frame each; keep one a second.
            wanted = min(max(math.ceil(frames.duration_seconds), 1), len(pixels))
            pixels = pixels[list(middle_frames(wanted)(len(pixels)))]
        host = ProgramApi(pixels, self._modules)
        return run_program(program, host.inputs(question, options), host, self._limits)

    def _fallback(self, frames: Frames, question: str, options: Sequence[str]) -> str:
        """Ask about the middle frame."""
        middle = frames.pixels[len(frames.pixels) // 2]
        return self._modules.ask(middle, _choice_question(question, options))


def _prompt(config: BaselineConfig) -> str:
    """The prompt of a configuration, whose parts are checked."""
    known = (*Viper.parts, *Viper.optional_parts)
    if unknown := sorted(config.weights.keys() - set(known)):
        raise ValueError(
            f"baselines: weights has {', '.join(unknown)}, which program synthesis has no use for; "
            f"its parts are {', '.join(known)}"
        )
    if not config.weights.get("code_model"):
        raise ValueError(
            "baselines: weights.code_model is missing; name a folder or a repository of the Hub "
            "with a language model that writes Python, such as Qwen/Qwen2.5-Coder-7B-Instruct"
        )
    path = config.weights.get("prompt")
    return API_PROMPT if path is None else read_prompt(path)


def _runs_programs(config: BaselineConfig) -> bool:
    return any(part in config.weights for part in MODULE_PARTS)


def _choice_question(question: str, options: Sequence[str]) -> str:
    if not options:
        return question
    listed = "; ".join(options)
    return f"{question}\nPossible answers: {listed}.\nReply with one of them, word for word."
