"""The optimizer step of DeepSpeed, whose engine accumulates, averages and clips out of sight."""

from lightning.pytorch.strategies import DeepSpeedStrategy


def is_step(strategy: DeepSpeedStrategy) -> bool:
    """Return whether the current micro-batch is the last of a step; hooks are called at each."""
    return bool(strategy.deepspeed_engine.is_gradient_accumulation_boundary())


def divide_gradients(strategy: DeepSpeedStrategy, divisor: float) -> None:
    """Let the engine's step divide gradients by ``divisor``, before it clips them.

    The engine takes it for the scale of the loss: a step divides by it, and a backward pass
    multiplies with it. So it has to be 1 again by the next backward pass.
    """
    optimizer = strategy.deepspeed_engine.optimizer
    optimizer.custom_loss_scaler = True
    optimizer.external_loss_scale = divisor
