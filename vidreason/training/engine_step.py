"""The optimizer step of DeepSpeed, whose engine accumulates, averages and clips out of sight."""

from lightning.pytorch.strategies import DeepSpeedStrategy


def is_step(strategy: DeepSpeedStrategy) -> bool:
    """Whether the micro-batch in hand is the last of a step; hooks are called at each."""
    return bool(strategy.deepspeed_engine.is_gradient_accumulation_boundary())


def divide_gradients(strategy: DeepSpeedStrategy, divisor: float) -> None:
    """Let the engine's step divide gradients by ``divisor``, before it clips them.

    It is what the engine takes for the scale of the loss: a step divides by it, and a backward pass
    multiplies with it. So it has to be 1 again by the next one.
    """
    optimizer = strategy.deepspeed_engine.optimizer
    optimizer.custom_loss_scaler = True
    optimizer.external_loss_scale = divisor
