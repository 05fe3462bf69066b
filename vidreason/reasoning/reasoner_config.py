"""Configuration of a reasoner and its answers. Nothing here imports torch."""

import re
from dataclasses import dataclass, field
from math import inf
from typing import Literal

from vidreason.bounded_patterns import pattern_problem
from vidreason.fusion.config import FusionConfig
from vidreason.ranges import ABOVE_0, BELOW_1, check_ranges


@dataclass(kw_only=True)
class LanguageModelConfig:
    """Language model and form of its weights; the default is the paper's (section 4.2.1)."""

    name_or_path: str = "meta-llama/Meta-Llama-3-8B-Instruct"
    """A local Hugging Face folder, or a repository on the Hub. A model that brings code of its own
    is refused: nothing that is downloaded runs."""
    revision: str | None = None
    """Commit, tag or branch of the repository on the Hub; None for its newest."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """dtype of the frozen weights. Trained parameters (fusion core, LoRA) are float32."""
    quantization: Literal["none", "nf4"] = "none"
    """``nf4`` keeps the linear layers, but the output layer, in 4 bits with doubly quantised
    scales, and computes in ``dtype``. It needs the extra ``quantize``. Adapters train on it; they
    are merged into the unquantised weights."""
    attention: Literal["auto", "sdpa", "eager"] = "auto"
    """``sdpa`` is PyTorch's fused attention, ``eager`` plain products; ``auto`` is ``sdpa`` for the
    models that can use it."""
    gradient_checkpointing: bool = False
    """Compute layers again in the backward pass instead of keeping their activations."""

    def __post_init__(self) -> None:
        if not self.name_or_path:
            raise ValueError(
                "reasoner.language_model.name_or_path is empty; give a local Hugging Face folder "
                "or the "
                "name of a repository on the Hub"
            )
        if self.quantization != "none" and self.dtype == "float32":
            raise ValueError(
                f"reasoner.language_model.quantization is {self.quantization!r} and dtype "
                f"'float32'; set "
                "dtype=bfloat16: computing in float32 would cost more than 4 bits save"
            )


@dataclass(kw_only=True)
class LoraSettings:
    """Low-rank adapters for stage 2; rank, alpha and targets are the paper's (section 4.2.2)."""

    rank: int = 64
    alpha: int = 128
    """The adapters' product is scaled by ``alpha / rank``."""
    dropout: float = 0.0
    """Dropout on the adapters' input. The paper names none."""
    target_modules: str = "all-linear"
    """All linear layers but the output layer, or a regular expression on module names."""

    def __post_init__(self) -> None:
        ranges = {"rank": (1, inf), "alpha": (1, inf), "dropout": (0, BELOW_1)}
        check_ranges("reasoner.lora", self, **ranges)
        self._check_target_modules()

    def _check_target_modules(self) -> None:
        given = self.target_modules
        if given == "all-linear":
            return
        if "," in given and not re.search(r"[\\(\[{]", given):
            names = "|".join(name.strip() for name in given.split(","))
            raise ValueError(
                f"reasoner.lora.target_modules is {given!r}; it is one regular expression on "
                f"whole module "
                f"names and no list: write '.*\\.({names})'"
            )
        try:
            re.compile(given)
        except re.error as error:
            raise ValueError(
                f"reasoner.lora.target_modules is {given!r}, which is no regular expression: "
                f"{error}"
            ) from error
        if problem := pattern_problem(given):
            raise ValueError(
                f"reasoner.lora.target_modules is {given!r}, which is not used: {problem}"
            )


@dataclass(kw_only=True)
class ReasonerConfig:
    """The half of the system after the visual tokens."""

    fusion: FusionConfig = field(default_factory=FusionConfig)
    language_model: LanguageModelConfig = field(default_factory=LanguageModelConfig)
    lora: LoraSettings | None = None
    """Adapters on the language model: stage 2 trains them, stage 1 goes without."""
    system_prompt: str | None = None
    """System message, in training and use. None is the default of the model's chat template, often
    none; an empty text is an empty message. A template that writes today's date always writes 26
    July 2024 here (:data:`vidreason.reasoning.chat_markup.TEMPLATE_DATE`)."""


@dataclass(kw_only=True)
class FuturesConfig:
    """Candidates for the next event, and their probabilities."""

    method: Literal["beam", "nucleus", "greedy"] = "beam"
    """Where candidates come from: the likeliest lines by beam search; lines drawn from the nucleus
    of probability 0.9, always with one seed; or the greedy answer's line alone."""
    num_candidates: int = 16
    """Beams, or drawn lines, before those that say the same event are merged."""
    temperature: float = 1.0
    """Divisor of the candidates' log-likelihoods, before their shares are taken as
    probabilities; fitted on validation videos."""

    def __post_init__(self) -> None:
        ranges = {"num_candidates": (1, 256), "temperature": (ABOVE_0, inf)}
        check_ranges("decoding.futures", self, **ranges)


@dataclass(kw_only=True)
class DecodingConfig:
    """Decoding of answers. Recommendations in a model's folder are not used."""

    strategy: Literal["greedy", "nucleus", "beam"] = "greedy"
    max_new_tokens: int = 256
    """Longest answer."""
    temperature: float = 1.0
    """``nucleus``: divisor of the logits; ``strategy: greedy`` is the limit towards 0."""
    top_p: float = 0.9
    """``nucleus``: draw among the likeliest tokens that together have this probability."""
    seed: int = 0
    """``nucleus``: the same batch with the same seed gives the same answers."""
    num_beams: int = 5
    """``beam``: number of hypotheses; ``strategy: greedy`` is one."""
    length_penalty: float = 1.0
    """``beam``: a hypothesis' log-likelihood is divided by its length to this power."""
    futures: FuturesConfig = field(default_factory=FuturesConfig)
    """Computed probabilities of next events, beside the confidences that a prediction prints."""

    def __post_init__(self) -> None:
        check_ranges(
            "decoding",
            self,
            max_new_tokens=(1, inf),
            temperature=(ABOVE_0, inf),
            top_p=(ABOVE_0, 1),
            num_beams=(2, inf),
        )
