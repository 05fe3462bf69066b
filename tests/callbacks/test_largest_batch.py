"""The largest batch before step 1: it runs for real, and leaves nothing behind."""

import copy
import sys
import warnings

import pytest
import torch
from tiny_training import (
    EXPECTED_WARNINGS,
    VISUAL_DIM,
    run_as_program,
    this_rank,
    tiny_loader,
    tiny_optimizer,
    tiny_trainer,
    tiny_training_reasoner,
)

from callbacks.freeze_schedule import FreezeSchedule, Thaw
from callbacks.largest_batch import LargestBatch
from vidreason.reasoning.text_batch import collate_texts
from vidreason.reasoning.tokenization import EncodedText
from vidreason.training.stage import StageModule

pytestmark = EXPECTED_WARNINGS

NUM_TOKENS = 90
"""More than any sample of the tiny training has."""


def largest(reasoner):
    """Two rows of ``NUM_TOKENS`` tokens, all of them targets, and of videos without tokens."""
    batch = next(iter(tiny_loader(reasoner, 2)))
    text = EncodedText([1] * NUM_TOKENS, [1] * NUM_TOKENS)
    assert batch["visual"]["features"].shape[-1] == VISUAL_DIM
    return {**batch, "text": collate_texts([text, text])}


class Observed(StageModule):
    """Remembers the lengths of its batches, and what had gradients then."""

    def __init__(self, reasoner, fail_at=None):
        super().__init__(reasoner, tiny_optimizer(), 8, "instruction")
        self.lengths = []
        self.with_gradients = []
        self.fail_at = fail_at

    def training_step(self, batch, batch_idx):
        self.lengths.append(batch["text"]["longest"] + 1)
        named = self.reasoner.named_parameters()
        self.with_gradients.append({name for name, value in named if value.grad is not None})
        torch.rand(3)  # as dropout does
        if self.lengths[-1] == self.fail_at:
            raise torch.OutOfMemoryError("tried to allocate 20.00 GiB")
        return super().training_step(batch, batch_idx)


def train(folder, *, rehearse, fail_at=None, callbacks=()):
    module = Observed(tiny_training_reasoner(folder, lora=True), fail_at)
    rehearsal = [LargestBatch(largest, lambda: "data.batch_size=1 fits")] if rehearse else []
    trainer = tiny_trainer(
        callbacks=[*rehearsal, *callbacks],
        max_steps=3,
        accumulate_grad_batches=2,
        use_distributed_sampler=False,
    )
    torch.manual_seed(0)
    trainer.fit(module, tiny_loader(module.reasoner, 2))
    state = {name: value.clone() for name, value in module.reasoner.named_parameters()}
    optimizer = copy.deepcopy(trainer.optimizers[0].state_dict())
    return module, state, optimizer, torch.random.get_rng_state()


def test_training_is_bit_equal_with_and_without_it(tiny_language_model_folder):
    plain, expected, optimizer, random_state = train(tiny_language_model_folder, rehearse=False)
    module, state, other_optimizer, other_state = train(tiny_language_model_folder, rehearse=True)
    # Two micro-batches, the second beside the gradients of the first; none are left for step 1.
    assert module.lengths == [NUM_TOKENS, NUM_TOKENS, *plain.lengths]
    assert module.with_gradients[0] == module.with_gradients[2] == set()
    assert module.with_gradients[1] == module.trainable
    assert all(torch.equal(value, state[name]) for name, value in expected.items())
    for index, values in optimizer["state"].items():
        for name, value in values.items():
            assert torch.equal(value, other_optimizer["state"][index][name])
    assert torch.equal(random_state, other_state)


def test_what_begins_to_train_later_is_rehearsed_too(tiny_language_model_folder):
    schedule = FreezeSchedule([Thaw(part="lora", from_step=2)])
    module, *_ = train(tiny_language_model_folder, rehearse=True, callbacks=[schedule])
    assert any(".lora_" in name for name in module.with_gradients[1])
    # Step 1, second micro-batch: the schedule still holds.
    assert not any(".lora_" in name for name in module.with_gradients[3])
    assert module.with_gradients[3]


def test_too_little_memory_ends_the_run_before_step_1(tiny_language_model_folder):
    with pytest.raises(
        ValueError,
        match=r"largest shape does not fit into the memory of cpu of rank 0: tried to allocate "
        r"20\.00 GiB: data\.batch_size=1 fits; trainer\.rehearse_largest_batch=false",
    ):
        train(tiny_language_model_folder, rehearse=True, fail_at=NUM_TOKENS)


def train_on_two(folder: str, failing: str) -> None:
    """One rank of two; rank 1 alone has too little memory if ``failing`` is "1"."""
    module = Observed(tiny_training_reasoner(folder, lora=True))
    rehearsal = LargestBatch(largest, lambda: "data.batch_size=1 fits")
    rank = this_rank()
    if failing == str(rank):
        module.fail_at = NUM_TOKENS
    trainer = tiny_trainer(
        devices=2, strategy="ddp", callbacks=[rehearsal], max_steps=2, use_distributed_sampler=False
    )
    try:
        trainer.fit(module, tiny_loader(module.reasoner, 2, rank=rank, world_size=2))
    except ValueError as error:
        # The end of the line with it: unbuffered, print() writes it apart, after the other rank's.
        print(f"rank {rank}: {error}\n", end="", flush=True)
    values = torch.cat([value.flatten() for value in module.reasoner.parameters()])
    print(f"rank {rank}: {module.lengths[0]}, {values.double().sum().item()}\n", end="", flush=True)


@pytest.mark.slow  # two processes that import torch
@pytest.mark.parametrize("failing", ["none", "1"])
def test_two_ranks_try_it_and_fail_together(tiny_language_model_folder, failing):
    output = run_as_program(__file__, tiny_language_model_folder, failing)
    lines = [line for line in output.splitlines() if line.startswith("rank ")]
    complaints = [line for line in lines if "does not fit" in line]
    ends = sorted(set(lines) - set(complaints))
    assert len(ends) == 2, output
    # The same weights on both ranks, after the steps or without any.
    assert ends[0].removeprefix("rank 0") == ends[1].removeprefix("rank 1")
    assert f": {NUM_TOKENS}, " in ends[0]
    expected = ["rank 0", "rank 1"] if failing == "1" else []
    assert sorted(line[:6] for line in complaints) == expected
    assert all("the memory of cpu of rank 1: tried to allocate" in line for line in complaints)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    train_on_two(*sys.argv[1:])
