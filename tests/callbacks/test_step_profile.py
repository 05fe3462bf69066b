import json

import pytest
from tiny_training import EXPECTED_WARNINGS, tiny_fit, tiny_module

from callbacks.step_profile import StepProfile

pytestmark = EXPECTED_WARNINGS


def profiled(language_model_folder, folder, num_steps, max_steps):
    """The profiled steps of AdamW, of ``max_steps`` of 2 micro-batches each, but the first."""
    callback = StepProfile(folder, num_steps, after_steps=1)
    options = {"max_steps": max_steps, "accumulate_grad_batches": 2, "batch_size": 2}
    tiny_fit(tiny_module(language_model_folder), callback, **options)
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
