import json

import pytest
from tiny_training import tiny_loader, tiny_optimizer, tiny_trainer, tiny_training_reasoner

from callbacks.step_profile import StepProfile
from vidreason.training.instruction import InstructionModule

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:You defined a `validation_step` but have no `val_dataloader`",
    "ignore:Found .* in eval mode at the start of training",  # the frozen ones, on purpose
)


def profiled(language_model_folder, folder, num_steps, max_steps):
    """The profiled steps of AdamW, of ``max_steps`` of 2 micro-batches each, but the first."""
    module = InstructionModule(
        tiny_training_reasoner(language_model_folder, lora=True), tiny_optimizer(), 8
    )
    callback = StepProfile(folder, num_steps, after_steps=1)
    trainer = tiny_trainer(callbacks=[callback], max_steps=max_steps, accumulate_grad_batches=2)
    trainer.fit(module, tiny_loader(module.reasoner, 2))
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    return sum(event.get("name") == "Optimizer.step#AdamW.step" for event in events)


@pytest.mark.parametrize(
    ("num_steps", "max_steps"), [(1, 3), pytest.param(9, 2, marks=pytest.mark.slow)]
)
@pytest.mark.slow
def test_the_steps_that_were_asked_for_are_profiled(
    tiny_language_model_folder, tmp_path, num_steps, max_steps
):
    folder = tmp_path / "profile"
    assert profiled(tiny_language_model_folder, folder, num_steps, max_steps) == 1
    table = (folder / "operations.txt").read_text()
    assert "aten::mm" in table
    assert "Self CPU" in table
