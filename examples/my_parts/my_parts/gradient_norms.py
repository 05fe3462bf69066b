"""A callback that logs how large the gradients of each part of the reasoner are."""

from collections import defaultdict

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.optim import Optimizer


class GradientNorms(Callback):
    """Log ``gradient_norm/fusion`` and ``gradient_norm/language_model`` before they are clipped.

    Args:
        every_n_steps: Optimizer steps between two values.
    """

    def __init__(self, every_n_steps: int = 10) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps is {every_n_steps}; it is at least 1")
        self.every_n_steps = every_n_steps

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Log the norm over all gradients of a part."""
        if (trainer.global_step + 1) % self.every_n_steps:
            return
        gradients: defaultdict[str, list[Tensor]] = defaultdict(list)
        for name, parameter in pl_module.named_parameters():
            if parameter.grad is not None:
                part = name.split(".")[1]  # reasoner.fusion.queries
                gradients[part].append(parameter.grad)
        for part, tensors in gradients.items():
            pl_module.log(f"gradient_norm/{part}", torch.nn.utils.get_total_norm(tensors))
