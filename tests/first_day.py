"""The first day of a user, as the pages tell it: environments, fabricated data, and what is run.

``WALKED`` names the pages that are walked, block by block. Of those, and of all other pages, what
is not run stands in ``NOT_RUN`` with the reason, so that no block is left out in silence.
"""

import os
import re
import shutil
import site
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from page_blocks import (
    CHECKOUT,
    Block,
    blocks_of,
    pages,
    printed_file,
    recorded_commands,
    script_of,
)
from tiny_experiment import write_clip

WALKED = ("README.md", "docs/own_data.md", "docs/parts.md", "docs/python.md")
"""In this order: each needs what the former made."""

NOT_RUN: dict[str, dict[str, str]] = {
    "README.md": {
        "git clone REPOSITORY vidreason && cd vidreason && make install": "the network; the walk "
        "installs a copy of the tree itself",
    },
    "docs/demo.md": {
        "": "10 minutes; test_demo.py runs it small, and the walk asks the rehearsal's reasoner "
        "the same",
    },
    "docs/prediction.md": {"": "two hours; test_demo.py runs all that the recipe has"},
    "docs/own_data.md": {
        "python -m experiments.data check --config mine.yaml": "the paper's models, gigabytes; the "
        "rehearsal runs the same with small ones, and test_own_data.py what needs none",
    },
    "docs/programs.md": {"": "the paper's models; test_explain.py explains small ones"},
    "docs/python.md": {"make wheel": "the network; the walk builds the wheel with hatchling alone"},
    "docs/data.md": {
        "": "SLURM; test_slurm_scripts.py runs its scripts, test_perceive_runs.py both"
    },
    "docs/training.md": {"": "the paper's models, gigabytes; test_sweep_runs.py runs a sweep"},
    "docs/baselines.md": {
        "": "weights of gigabytes, and hours of training; tests/baselines has each system, "
        "test_train_baseline.py and test_rivals_overfit.py train them small"
    },
    "docs/evaluation.md": {
        "": "several runs of one's own; test_system_table.py makes tables of small ones"
    },
    "docs/instructions.md": {
        "": "a teacher of gigabytes; test_instruction_set_runs.py makes a set with a small one"
    },
    "docs/performance.md": {
        "": "minutes of measuring; test_benchmark_models.py, "
        "test_benchmark_decode.py and test_benchmark_masks.py run each at small size"
    },
    "docs/real_language_model.md": {"": "a download; test_real_language_model.py walks it"},
    "docs/gpu.md": {"": "a GPU; test_gpu_check_rehearsal.py runs the rehearsal"},
    "experiments/ablate/README.md": {"": "hours; test_ablate_runs.py runs a study"},
    "experiments/slurm/README.md": {"": "SLURM; test_slurm_scripts.py runs them with a stand-in"},
    "CONTRIBUTING.md": {"": "the network, and it is this"},
}
"""Reasons by page and first line of the block; an empty line is the whole page."""


def is_run(block: Block) -> bool:
    """Tell whether the walk runs a block: commands and programs that are not left out."""
    is_program = bool(block.commands) or block.language == "python"
    return is_program and block.first_line not in NOT_RUN.get(block.page, {})


def unexplained_blocks() -> list[str]:
    """Return the blocks that nobody runs and nobody explains, and explanations of no block."""
    programs = [
        block
        for page in pages()
        for block in blocks_of(page)
        if block.commands or block.language == "python"
    ]
    silent = [
        f"{block.where}: neither run nor explained: {block.first_line}"
        for block in programs
        if block.page not in WALKED
        and not {"", block.first_line} & NOT_RUN.get(block.page, {}).keys()
    ]
    lines = {(block.page, block.first_line) for block in programs}
    lines |= {(block.page, "") for block in programs}
    stale = [
        f"{page}: there is no such block: {line}"
        for page, reasons in NOT_RUN.items()
        for line in reasons
        if (page, line) not in lines
    ]
    return silent + stale


class Environment:
    """A virtual environment that has the packages of this one, but not vidreason itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.create(folder, with_pip=True, symlinks=True)
        purelib = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
        # Only folders: what is installed in the editable way is found by files that are not read.
        paths = dict.fromkeys([*site.getsitepackages(), sysconfig.get_path("purelib")])
        (purelib / "packages_of_the_tests.pth").write_text("\n".join(paths))

    def run(self, script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run bash with this environment's programs, in a folder, without a network."""
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment = {
            **kept,
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            **{"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
            # Nothing is downloaded, also not what builds a package.
            **{"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0"},
            **{"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_QUIET": "1"},
            **variables,
        }
        command = [shutil.which("bash") or "bash", "-c", script]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def copy_checkout(folder: Path) -> Path:
    """Copy what a clone has, but for the tests, and return the folder."""
    names = ("vidreason", "data_modules", "callbacks", "experiments", "examples", "docs")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in names:
        shutil.copytree(CHECKOUT / name, folder / name, ignore=ignored)
    for path in CHECKOUT.iterdir():
        if path.is_file() and (path.name == ".gitignore" or not path.name.startswith(".")):
            shutil.copy(path, folder / path.name)
    return folder


def build_wheel(tree: Path) -> Path:
    """Build the wheel of a tree with hatchling of this environment, and return its path."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tree / "dist")]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = (tree / "dist").glob("*.whl")
    return wheel


def fabricate_data(tree: Path) -> None:
    """Make the files that the pages speak of and do not show: clips, and weights of a download."""
    import torch
    from torchvision.models import resnet18

    samples = sorted((tree / "vidreason" / "microworld" / "samples").glob("*.mp4"))
    shutil.copy(samples[0], tree / "video.mp4")
    clips = tree / "mine" / "clips"
    clips.mkdir()
    for name, sample in zip("abc", samples, strict=True):
        shutil.copy(sample, clips / f"{name}.mp4")
    write_clip(clips / "d.mp4", 4)
    torch.manual_seed(0)
    torch.save(resnet18().state_dict(), tree / "resnet18-f37072fd.pth")


def is_of_the_wheel(block: Block) -> bool:
    """Tell whether a block needs the package alone: the command ``vidreason``, or the library."""
    if block.language == "python":
        return not re.search(r"\b(data_modules|callbacks|experiments)\b", block.text)
    return all(words[0] == "vidreason" for _, words in recorded_commands([block]))


def walk(page: str, environment: Environment, folder: Path, *, with_wheel: bool) -> dict[int, str]:
    """Run the blocks of a page that need the wheel alone, or those that need a checkout.

    Args:
        page: The page.
        environment: Where vidreason is installed in that way.
        folder: Where the commands are run.
        with_wheel: Which of the two.

    Returns: What each block printed, by its line.

    Raises:
        AssertionError: A command failed; the message has its page and line.
    """
    blocks = [block for block in blocks_of(page) if is_run(block)]
    blocks = [block for block in blocks if is_of_the_wheel(block) == with_wheel]
    printed = folder.parent / "printed"
    script = script_of(blocks, printed)
    done = environment.run(script, folder, **({"PYTHONSAFEPATH": "1"} if with_wheel else {}))
    assert done.returncode == 0, f"{done.stdout[-8000:]}\n{done.stderr[-8000:]}"
    return {block.line: printed_file(block, printed).read_text() for block in blocks}
