"""``VideoReasoner``: Algorithm 1 from visual tokens on. Fuse, prepend to the prompt, loss or text.

Shapes: B batch, V visual tokens, Q queries, T text tokens, D width, M target tokens of the batch.
"""

import dataclasses
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, PreTrainedTokenizerBase

from vidreason.config import merge_config, save_config
from vidreason.fusion.fusion_core import FusionConfig, FusionCore, build_fusion
from vidreason.fusion.mean_pool import MeanPool
from vidreason.perception.visual_tokens import VisualBatch
from vidreason.reasoning.decoding import DecodingConfig, generate_ids, left_pad
from vidreason.reasoning.language_model import (
    LanguageModelConfig,
    LoraSettings,
    add_lora,
    causal_lm,
    load_language_model,
    load_tokenizer,
    merge_lora,
    set_language_model_mode,
    word_embedding_size,
)
from vidreason.reasoning.tokenization import IGNORE_INDEX, encode_prompt, end_of_turn_id

if TYPE_CHECKING:
    from vidreason.perception.perceiver import PerceiverConfig

__all__ = [
    "DecodingConfig",
    "ReasonerConfig",
    "VideoReasoner",
    "build_reasoner",
    "load_reasoner",
    "save_reasoner",
]

REASONER_FILE = "reasoner.yaml"
PERCEIVER_FILE = "perceiver.yaml"
FUSION_FILE = "fusion.safetensors"
LANGUAGE_MODEL_FOLDER = "language_model"


@dataclass(kw_only=True)
class ReasonerConfig:
    """The half of the system behind the visual tokens."""

    fusion: FusionConfig = field(default_factory=FusionConfig)
    language_model: LanguageModelConfig = field(default_factory=LanguageModelConfig)
    lora: LoraSettings | None = None
    """Adapters on the language model: stage 2 trains them, stage 1 goes without."""


class VideoReasoner(nn.Module):
    """A fusion core before a frozen language model; made by :func:`build_reasoner`.

    Args:
        config: What it was built from.
        visual_dim: Width of the visual tokens.
        fusion: Visual tokens to embeddings.
        language_model: A causal language model of transformers, or one with LoRA around it.
        tokenizer: Its tokenizer; None on the meta device, where there is no text.
    """

    def __init__(
        self,
        config: ReasonerConfig,
        visual_dim: int,
        fusion: FusionCore | MeanPool,
        language_model: nn.Module,
        tokenizer: PreTrainedTokenizerBase | None,
    ) -> None:
        super().__init__()
        self.config = config
        self.visual_dim = visual_dim
        self.fusion = fusion
        self.language_model = language_model
        self._tokenizer = tokenizer
        # What transformers finds here, it uses where a call leaves something out. Decoding is
        # configured in one place, so a model folder's recommendations must not be found.
        causal_lm(language_model).generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
            eos_token_id=None if tokenizer is None else self.stop_ids
        )
        self.train(self.training)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The language model's tokenizer."""
        if self._tokenizer is None:
            raise ValueError("a reasoner on the meta device has no tokenizer; build it on another")
        return self._tokenizer

    @property
    def stop_ids(self) -> list[int]:
        """Tokens that end an answer: the chat template's end of turn, and the end of text."""
        ids = [end_of_turn_id(self.tokenizer), self.tokenizer.eos_token_id]
        return list(dict.fromkeys(i for i in ids if isinstance(i, int)))

    def train(self, mode: bool = True) -> "VideoReasoner":
        """Set training mode for what trains; what is frozen stays in eval mode, without dropout."""
        super().train(mode)
        set_language_model_mode(self.language_model, mode)
        return self

    def forward(
        self, visual: VisualBatch, input_ids: Tensor, attention_mask: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Foresee the target tokens. Only their positions reach the output layer.

        Args:
            visual: Visual tokens of B videos.
            input_ids: Prompt and response, shape ``(B, T)``, padded on the right.
            attention_mask: Shape ``(B, T)``, 1 for a real token.
            labels: Shape ``(B, T)``, not shifted: the token's id where it is a target, else
                ``IGNORE_INDEX``.

        Returns:
            Logits ``(M, vocabulary)`` and targets ``(M,)``, in the order of ``labels.nonzero()``.

        Raises:
            ValueError: The padding is on the left.
        """
        if not attention_mask[:, 0].all():
            raise ValueError("input_ids must be padded on the right, where targets do not see it")
        model = causal_lm(self.language_model)
        text = model.get_input_embeddings()(input_ids)
        video = self.fusion(visual).to(text.dtype)
        rows, columns = (labels != IGNORE_INDEX).nonzero(as_tuple=True)
        # The token at text position t stands at Q + t and is foreseen one position earlier.
        positions = columns + video.shape[1] - 1

        def keep_target_positions(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
            return (inputs[0][rows, positions],)

        # A hook, not a call of the layers below the output layer: some models scale or cap their
        # logits behind it, which only their own forward knows.
        output_layer = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        assert output_layer is not None
        hook = output_layer.register_forward_pre_hook(keep_target_positions)
        try:
            # Any: the output record is named after the model's class.
            output: Any = model(
                inputs_embeds=torch.cat([video, text], dim=1),
                attention_mask=torch.cat(
                    [attention_mask.new_ones(video.shape[:2]), attention_mask], dim=1
                ),
                use_cache=False,
            )
        finally:
            hook.remove()
        return output.logits, labels[rows, columns]

    def response_log_likelihoods(
        self, visual: VisualBatch, input_ids: Tensor, attention_mask: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Log-likelihood of each row's targets; arguments as for :meth:`forward`.

        Returns:
            Sums over the targets of a row, shape ``(B,)``, float32; and how many targets there
            are, shape ``(B,)``, int64.
        """
        logits, targets = self(visual, input_ids, attention_mask, labels)
        log_likelihoods = -cross_entropy(logits.float(), targets, reduction="none")
        is_target = labels != IGNORE_INDEX
        sums = log_likelihoods.new_zeros(len(labels))
        rows = is_target.nonzero(as_tuple=True)[0]
        return sums.index_add(0, rows, log_likelihoods), is_target.sum(dim=1)

    @torch.no_grad()
    def generate(
        self, visual: VisualBatch, prompts: Sequence[str], decoding: DecodingConfig
    ) -> list[str]:
        """Answer one prompt about each video.

        Greedy and beam search give a batch the answers that its rows get alone. The nucleus is
        drawn with ``decoding.seed`` and leaves the global random state as it was.

        Args:
            visual: Visual tokens of B videos, on any device.
            prompts: B prompts, without chat markup.
            decoding: How to choose tokens.

        Returns:
            B answers, without special tokens and surrounding white space.
        """
        if len(prompts) != len(visual["mask"]):
            raise ValueError(f"{len(prompts)} prompts for {len(visual['mask'])} videos")
        model = causal_lm(self.language_model)
        device = next(self.fusion.parameters()).device
        rows = [torch.tensor(encode_prompt(self.tokenizer, prompt)) for prompt in prompts]
        lengths = torch.tensor([len(row) for row in rows], device=device)
        text = model.get_input_embeddings()(pad_sequence(rows, batch_first=True).to(device))
        on_device = {name: cast(Tensor, value).to(device) for name, value in visual.items()}
        in_training = [module for module in self.modules() if module.training]
        self.eval()
        try:
            video = self.fusion(cast(VisualBatch, on_device)).to(text.dtype)
            inputs_embeds, attention_mask = left_pad(video, text, lengths)
            ids = generate_ids(model, inputs_embeds, attention_mask, decoding, self.stop_ids)
        finally:
            for module in in_training:
                module.training = True
        answers = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [answer.strip() for answer in answers]


def build_reasoner(
    config: ReasonerConfig, visual_dim: int, device: str | torch.device = "cpu"
) -> VideoReasoner:
    """Load the language model, and put new adapters (if configured) and a new fusion core to it.

    Args:
        config: What to build.
        visual_dim: Width of the visual tokens: the video encoder's.
        device: Where to. On ``meta``, shapes without values, and no tokenizer.

    Raises:
        ValueError: There is no such language model; the message says what to do.
    """
    device = torch.device(device)
    tokenizer = None if device.type == "meta" else load_tokenizer(config.language_model)
    language_model: nn.Module = load_language_model(config.language_model, device)
    output_dim, output_scale = word_embedding_size(language_model)
    # New weights are drawn on the CPU, so that a seed gives the same ones for every device.
    with torch.device("meta" if device.type == "meta" else "cpu"):
        fusion = build_fusion(config.fusion, visual_dim, output_dim, output_scale)
    if config.lora is not None:
        language_model = add_lora(causal_lm(language_model), config.lora)
    return VideoReasoner(config, visual_dim, fusion.to(device), language_model, tokenizer)


@dataclass(kw_only=True)
class _SavedReasoner:
    """What ``reasoner.yaml`` holds."""

    visual_dim: int
    reasoner: ReasonerConfig = field(default_factory=ReasonerConfig)


def save_reasoner(
    reasoner: VideoReasoner, folder: str | Path, perceiver_config: "PerceiverConfig"
) -> None:
    """Write a folder that :func:`load_reasoner` reads, replacing one that is there.

    ``language_model/`` is a plain Hugging Face folder, LoRA merged into the weights. The reasoner
    itself is not changed. A process killed in here leaves no half-written folder of this name.
    """
    folder = Path(folder)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    plain = merge_lora(reasoner.language_model, reasoner.config.language_model)
    plain.save_pretrained(partial / LANGUAGE_MODEL_FOLDER)
    reasoner.tokenizer.save_pretrained(partial / LANGUAGE_MODEL_FOLDER)
    fusion = {name: value.contiguous() for name, value in reasoner.fusion.state_dict().items()}
    save_file(fusion, partial / FUSION_FILE)
    language_model = dataclasses.replace(
        reasoner.config.language_model, name_or_path=LANGUAGE_MODEL_FOLDER, revision=None
    )
    config = dataclasses.replace(reasoner.config, language_model=language_model, lora=None)
    saved = _SavedReasoner(visual_dim=reasoner.visual_dim, reasoner=config)
    save_config(saved, partial / REASONER_FILE)
    save_config(perceiver_config, partial / PERCEIVER_FILE)
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(partial, folder)


def load_reasoner(
    folder: str | Path, device: str | torch.device = "cpu"
) -> tuple[VideoReasoner, "PerceiverConfig"]:
    """Read a folder written by :func:`save_reasoner`; the reasoner is in eval mode.

    Raises:
        ValueError: Something is missing in the folder, or its weights do not fit its
            configuration. The message names the file or the keys.
    """
    # Imported here, because training from stored tokens needs no video decoder and no segmenter.
    from vidreason.perception.perceiver import PerceiverConfig

    folder = Path(folder)
    for name in (REASONER_FILE, PERCEIVER_FILE, FUSION_FILE, LANGUAGE_MODEL_FOLDER):
        if not (folder / name).exists():
            raise ValueError(
                f"{str(folder)!r} is no reasoner folder: it has no {name}; give one that training "
                "has written, such as <run_dir>/reasoner"
            )
    saved = merge_config(_SavedReasoner, [str(folder / REASONER_FILE)])
    config = saved.reasoner
    config.language_model.name_or_path = str(folder / LANGUAGE_MODEL_FOLDER)
    tokenizer = load_tokenizer(config.language_model)
    language_model = load_language_model(config.language_model, device, strict=True)
    with torch.device("meta"):
        fusion = build_fusion(config.fusion, saved.visual_dim, *word_embedding_size(language_model))
    load_exactly(fusion, load_file(folder / FUSION_FILE), str(folder / FUSION_FILE))
    reasoner = VideoReasoner(config, saved.visual_dim, fusion, language_model, tokenizer)
    perceiver_config = merge_config(PerceiverConfig, [str(folder / PERCEIVER_FILE)])
    return reasoner.to(device).eval(), perceiver_config


def load_exactly(module: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Give ``module``, which may be on the meta device, the values of ``state``: all, no others.

    Raises:
        ValueError: Names or shapes differ; the message names them and ``source``.
    """
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    missing, unexpected = sorted(expected.keys() - found), sorted(found.keys() - expected)
    reshaped = sorted(n for n in expected.keys() & found if expected[n] != found[n])
    if missing or unexpected or reshaped:
        raise ValueError(
            f"{source} does not fit the configuration: missing {missing}, unexpected {unexpected}, "
            f"of another shape {reshaped}"
        )
    module.load_state_dict(state, assign=True)
