import pytest
from lightning.pytorch.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
    SingleDeviceStrategy,
)

from vidreason.training.checkpoint_strategies import (
    EngineStrategy,
    ShardedStrategy,
    check_checkpoints,
)


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (lambda: FSDPStrategy(), r"is fsdp, .*set trainer\.strategy=fsdp2"),
        (lambda: ModelParallelStrategy(), r"use ShardedStrategy of vidreason\.training"),
        # Its own __init__ asks for the package.
        (lambda: object.__new__(DeepSpeedStrategy), r"use EngineStrategy of vidreason\.training"),
    ],
)
def test_strategies_whose_checkpoints_would_be_wrong_are_refused(strategy, message):
    with pytest.raises(ValueError, match=message):
        check_checkpoints(strategy())


def test_the_others_are_welcome():
    for strategy in (
        SingleDeviceStrategy(),
        DDPStrategy(),
        ShardedStrategy(),
        object.__new__(EngineStrategy),
    ):
        check_checkpoints(strategy)
