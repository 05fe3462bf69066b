"""At the end of training: a reasoner folder, with LoRA merged into plain weights."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from typing_extensions import override

from vidreason.export import reasoner_of_values
from vidreason.fusion.config import FUSION_FILE
from vidreason.fusion.fusion_core import build_fusion
from vidreason.model import Provenance, VideoReasoner
from vidreason.perception.visual_tokens import VisualBatch, move_visual_tokens
from vidreason.perception.weights import load_weights
from vidreason.pretrained.folder_config import LANGUAGE_MODEL_FOLDER
from vidreason.reasoning.language_model import (
    evaluating,
    load_language_model,
    word_embedding_size,
)
from vidreason.reasoning.prompts import EVENT_REASONING_PROMPT
from vidreason.reasoning.text_batch import collate_texts, move_texts
from vidreason.reasoning.tokenization import EncodedText
from vidreason.training.checkpoint import gather_parameters
from vidreason.training.stage import StageModule

REJECTED = ".rejected"
"""Suffix of a merged folder that does not compute what was trained."""

TOLERANCE = {"float32": 1e-4, "bfloat16": 0.3, "float16": 0.05}
"""Largest difference between the log-likelihoods of tokens before and after merging, relative to
how they differ from token to token, by the language model's number type. In bfloat16 the sum of a
weight and its adapters is rounded once more, and so is all that each layer computes: in the 30 of
SmolLM2-135M that is up to 0.16, of which 0.01 is left in float32."""

_PROBE_TOKENS = 24
"""Tokens of a sentence: tokens that no text has would be so unlikely that rounding alone is
0.35."""


@dataclass(eq=False)
class LoraMerge(Callback):
    """Write the trained reasoner to ``folder`` when ``fit`` has ended well.

    The form is ``merged``: of what is in the checkpoints, ``vidreason export`` makes the form
    ``trained`` at any time; that cannot answer without its base, nor without the cost of adapters.
    Where the language model was not trained there is nothing to merge, and the form is ``trained``.

    The reasoner in training is not changed, and may be sharded: what was trained is gathered to
    rank 0, tensor by tensor, and merged there into frozen weights that are read anew, which takes
    memory for one language model on the host. The folder is then read back, strictly, and must give
    the likelihoods that the reasoner gives; else it is set aside as ``<folder>.rejected``.
    """

    folder: Path
    """A reasoner folder that is there is replaced."""
    provenance: Provenance = field(default_factory=Provenance)
    """For the model card; the step is added."""
    known_hashes: Mapping[str, str] | None = None
    """Content hashes of the perceiver's weights by path, as the training used them; the weights
    themselves need not be there."""

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, StageModule)
        reasoner = pl_module.reasoner
        # What the trained model computes, before anything of it is written.
        expected = probe(reasoner)
        values = dict(gather_parameters(reasoner, pl_module.trainable))
        if trainer.is_global_zero:
            self._write(reasoner, values, trainer.global_step)
            if any(name.startswith("language_model.") for name in values):
                self._verify(reasoner, expected)
        trainer.strategy.barrier("reasoner saved")

    def _write(self, reasoner: VideoReasoner, values: Mapping[str, Tensor], step: int) -> None:
        trained = reasoner_of_values(
            values,
            reasoner.config,
            reasoner.visual_dim,
            reasoner.perceiver,
            source="the training",
            description="its own configuration",
        )
        # A language model that was not trained is named, not copied.
        changed = any(name.startswith("language_model.") for name in values)
        trained.decoding = reasoner.decoding
        trained.save_pretrained(
            self.folder,
            "merged" if changed else "trained",
            replace(self.provenance, checkpoint=f"step {step}", step=step),
            known_hashes=self.known_hashes,
        )

    def _verify(self, reasoner: VideoReasoner, expected: Tensor) -> None:
        """Read the folder back, and compare what it computes.

        Raises:
            ValueError: It computes something else.
        """
        settings = reasoner.config.language_model
        if settings.quantization != "none":
            rank_zero_info(
                "merged into unquantised weights: their likelihoods are others by design"
            )
            return
        difference = relative_difference(probe(self._read_back(reasoner)), expected.cpu())
        if difference <= TOLERANCE[settings.dtype]:
            rank_zero_info(
                f"merged reasoner in {self.folder}: likelihoods differ by {difference:.1e}"
            )
            return
        # Set aside: nobody shall take a model that computes something else for the trained one.
        rejected = self.folder.with_name(self.folder.name + REJECTED)
        shutil.rmtree(rejected, ignore_errors=True)
        os.replace(self.folder, rejected)
        raise ValueError(
            "the merged reasoner gives other likelihoods than the trained one: they differ "
            f"by {difference:.1e}, where {TOLERANCE[settings.dtype]:.0e} is rounding; it is set "
            f"aside as {str(rejected)!r}, and the checkpoints are sound: merge the newest with "
            "vidreason export --merged, and compare"
        )

    def _read_back(self, reasoner: VideoReasoner) -> VideoReasoner:
        """Read the written reasoner on the CPU, strictly, but without its perceiver's weights."""
        model = str(self.folder / LANGUAGE_MODEL_FOLDER)
        settings = replace(reasoner.config.language_model, name_or_path=model, revision=None)
        language_model = load_language_model(settings, strict=True)
        output_dim, output_scale = word_embedding_size(language_model)
        config = replace(reasoner.config, language_model=settings, lora=None)
        with torch.device("meta"):
            fusion = build_fusion(config.fusion, reasoner.visual_dim, output_dim, output_scale)
        load_weights(fusion, str(self.folder / FUSION_FILE))
        return VideoReasoner(
            config, reasoner.visual_dim, fusion, language_model, reasoner.tokenizer
        ).eval()


@torch.no_grad()
def probe(reasoner: VideoReasoner) -> Tensor:
    """Return log-likelihoods of a prompt on an invented video, ``(M,)``; collective."""
    device = next(reasoner.fusion.parameters()).device
    generator = torch.Generator().manual_seed(0)
    count = 3
    # Clips and objects in turn, (1, 3, ...): each kind of token goes through the fusion core.
    visual = VisualBatch(
        features=torch.randn(1, count, reasoner.visual_dim, generator=generator),
        mask=torch.ones(1, count, dtype=torch.bool),
        kinds=torch.arange(count)[None] % 2,
        spans=torch.arange(count)[None, :, None] + torch.tensor([0.0, 1.0]),
        boxes=torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(1, count, 4).contiguous(),
        areas=torch.ones(1, count),
        track_ids=torch.arange(count)[None] % 2 - 1,  # an object has one, clips do not
        durations=torch.full((1,), float(count)),
    )
    tokens = reasoner.tokenizer(EVENT_REASONING_PROMPT, add_special_tokens=False)
    ids = tokens["input_ids"][:_PROBE_TOKENS]
    text = move_texts(collate_texts([EncodedText(ids, ids)]), device)
    with evaluating(reasoner):
        return cast(Tensor, reasoner(move_visual_tokens(visual, device), text))


def relative_difference(values: Tensor, expected: Tensor) -> float:
    """Return the norm of the difference, relative to that of ``expected`` less its mean."""
    return float((values - expected).norm() / (expected - expected.mean()).norm())
