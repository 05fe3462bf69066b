"""Modules with answers that a test can work out, and programs run over them."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from vidreason.baselines.viper.modules import Box
from vidreason.baselines.viper.program_api import ProgramApi
from vidreason.baselines.viper.sandbox import Limits, ProgramRun, run_program

SECRET = "swordfish-7Q"
"""A global of a module of the host."""
LIMITS = Limits(
    compute_seconds=5.0,
    memory_bytes=16 * 2**20,
    depth=100,
    calls=40,
    result_characters=500,
    printed_bytes=2**12,
    grace_seconds=0.2,
)
SHORT = replace(LIMITS, compute_seconds=0.15, grace_seconds=5.0)
OPTIONS = ["red", "blue"]


class StubModules:
    """Answers that depend on the inputs in a way that a test can work out."""

    def __init__(self, ask: Callable[[Tensor, str], str] | None = None) -> None:
        self.secret = SECRET
        self.prompts: list[str] = []
        self.sizes: list[tuple[int, ...]] = []
        self._ask = ask

    def detect(self, picture: Tensor, name: str) -> list[Box]:
        if name == "nothing":
            return []
        # Of one pixel's width at least, one outside the frame, one over its border.
        return [Box(2, 1, 10.5, 7.2), Box(200, 200, 220, 220), Box(-5, 20, 30, 99)]

    def match(self, pictures: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        self.sizes += [tuple(picture.shape) for picture in pictures]
        # Rising with the text's length and the picture's brightness.
        light = torch.tensor([picture.float().mean() for picture in pictures])
        return light[:, None] + torch.tensor([float(len(text)) for text in texts])

    def ask(self, picture: Tensor, question: str) -> str:
        self.prompts.append(question)
        self.sizes.append(tuple(picture.shape))
        return self._ask(picture, question) if self._ask else "Yes."

    def depth(self, picture: Tensor) -> Tensor:
        rows = torch.arange(picture.shape[1], dtype=torch.float32)  # the top row is nearest
        return rows[:, None].expand(-1, picture.shape[2])

    def complete(self, prompt: str) -> str:
        self.prompts.append(prompt)
        return "The answer is blue."


def run(
    body: str, modules: StubModules | None = None, limits: Limits = LIMITS, *, whole: bool = False
) -> ProgramRun:
    """Run the body of a program, or a whole one, over four frames of 64 x 32 pixels."""
    if not whole:
        lines = "\n".join(f"    {line}" for line in body.strip("\n").split("\n"))
        body = f"def execute_command(video, possible_answers, query):\n{lines}"
    light = torch.tensor([0, 80, 160, 240], dtype=torch.uint8)
    pixels = light[:, None, None, None].expand(-1, 3, 32, 64)
    api = ProgramApi(pixels, modules or StubModules())
    return run_program(body, api.inputs("Which colour?", OPTIONS), api, limits)
