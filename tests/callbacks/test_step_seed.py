import random
from types import SimpleNamespace

import numpy as np
import torch

from callbacks.step_seed import StepSeed, step_seed


def draw(seed, *, rank=0, epoch=0, batch_index=0):
    trainer = SimpleNamespace(global_rank=rank, current_epoch=epoch)
    StepSeed(seed).on_train_batch_start(trainer, None, None, batch_index)
    return (torch.rand(2).tolist(), float(np.random.rand()), random.random())


def test_draws_depend_on_the_step_alone():
    state = torch.random.get_rng_state()
    first = draw(5, epoch=1, batch_index=3)
    torch.rand(100)  # as validation between two steps would
    assert draw(5, epoch=1, batch_index=3) == first
    torch.random.set_rng_state(state)


def test_every_step_rank_epoch_and_seed_draws_differently():
    seeds = {
        step_seed(seed, rank, epoch, batch)
        for seed in range(3)
        for rank in range(3)
        for epoch in range(3)
        for batch in range(50)
    }
    assert len(seeds) == 3 * 3 * 3 * 50
    assert draw(0, batch_index=1) != draw(0, batch_index=2)
