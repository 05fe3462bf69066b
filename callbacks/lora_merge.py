"""At the end of training: one folder that answers, with LoRA merged into plain weights."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from peft import PeftModel
from typing_extensions import override

from vidreason.model import Provenance, VideoReasoner
from vidreason.reasoning.language_model import trained_names


class LoraMerge(Callback):
    """Write the trained reasoner to ``folder`` when ``fit`` has ended well, on rank 0.

    The form is ``merged``: what was trained, by itself, is in the checkpoints already, from which
    ``vidreason export`` makes the form ``trained`` at any time; what they cannot do is answer
    without their base, and without the cost of adapters. Where the language model was not trained
    there is nothing to merge, and the form is ``trained``: a copy of it would tell nothing.

    The reasoner in training is not changed. Needs a strategy that keeps whole parameters on each
    rank (one device, or DDP), and for merging memory for the language model on the host.

    Args:
        folder: Where to; a reasoner folder that is there is replaced.
        provenance: For the model card; the step is added.
        known_hashes: Content hashes of the perceiver's weights by place, as the training used them;
            the weights themselves need not be there.
    """

    def __init__(
        self,
        folder: str | Path,
        provenance: Provenance | None = None,
        known_hashes: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.provenance = provenance or Provenance()
        self.known_hashes = known_hashes

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            reasoner = pl_module.reasoner
            assert isinstance(reasoner, VideoReasoner)
            model = reasoner.language_model
            changed = isinstance(model, PeftModel) or trained_names(model)
            reasoner.save_pretrained(
                self.folder,
                "merged" if changed else "trained",
                replace(self.provenance, checkpoint=f"step {trainer.global_step}"),
                known_hashes=self.known_hashes,
            )
        trainer.strategy.barrier("reasoner saved")
