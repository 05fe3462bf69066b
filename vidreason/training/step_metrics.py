"""Metrics of an optimizer step, logged together.

``LightningModule.log`` makes its checks and moves the state of its metric at each call, though only
the value is another one: 0.5 ms a metric, of which a step logs a dozen (measured, CPU time).
"""

from collections.abc import Mapping

import torch
from lightning import LightningModule
from torch import Tensor
from torch.optim import Optimizer

from vidreason.training.config import Part
from vidreason.training.optimizer import gradient_norms, has_gradients, learning_rates


def optimizer_metrics(
    optimizer: Optimizer, part_norms: Mapping[Part, Tensor]
) -> dict[str, float | Tensor]:
    """Return learning rates and gradient norms by name, as the stages log them.

    Args:
        optimizer: With the gradients of the step; it has none if the step is left out.
        part_norms: What :func:`gradient_norms` gave for these gradients; empty to measure them.
    """
    rates = learning_rates(optimizer)
    metrics: dict[str, float | Tensor] = {"train/learning_rate": next(iter(rates.values()))}
    if len(rates) > 1:
        metrics |= {f"train/learning_rate_{part}": rate for part, rate in rates.items()}
    norms = part_norms if has_gradients(optimizer) and part_norms else gradient_norms(optimizer)
    return metrics | {f"train/gradient_norm_{part}": norm for part, norm in norms.items()}


def log_step(
    module: LightningModule, values: Mapping[str, float | Tensor], *, prog_bar: bool = False
) -> None:
    """Log values of this step, as ``module.log`` does it for each.

    The first time it is ``module.log``, and so it is where Lightning forgets a former epoch's
    values. Later values go straight to the metrics that this has made.

    Args:
        module: It is in a hook of training whose metrics are those of a step by default.
        values: By name; tensors are without a dimension.
        prog_bar: Show them in the progress bar, too; the same at each call for a name.
    """
    trainer, hook = module.trainer, module._current_fx_name
    for name, value in values.items():
        results, key = trainer._results, f"{hook}.{name}"
        is_new = results is None or hook is None or key not in results
        if is_new or trainer._logger_connector.should_reset_tensors(str(hook)):
            module.log(name, value, prog_bar=prog_bar)
        else:
            assert results is not None
            if not isinstance(value, Tensor):
                value = torch.tensor(value, device=module.device, dtype=torch.float32)
            results.update_metrics(key, value.detach(), batch_size=1)
