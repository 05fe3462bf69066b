"""The first day of a user, on fabricated data, with the commands that the pages show.

What needs a checkout is run from one: check, perceive, both stages, the benchmark, parts of other
packages, a plain Trainer. What an installed wheel has is run from a wheel: ask, predict, chat,
export, plain transformers and peft, an encoder of another package, the notebook.
"""

import re
import zipfile
from pathlib import Path

import pytest
from first_day import (
    NOT_RUN,
    WALKED,
    Environment,
    build_wheel,
    copy_checkout,
    fabricate_data,
    unexplained_blocks,
    walk,
)
from page_blocks import CHECKOUT, Block, blocks_of, cells_of, write_files


def test_no_block_is_left_out_in_silence():
    assert not unexplained_blocks()


def test_the_tests_that_stand_in_for_a_block_are_there():
    reasons = " ".join(reason for page in NOT_RUN.values() for reason in page.values())
    names = set(re.findall(r"\btest_\w+\.py", reasons))
    assert len(names) > 8
    assert not {name for name in names if not any(CHECKOUT.glob(f"tests/**/{name}"))}


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A checkout with the files that the pages show, and those that they speak of."""
    folder = copy_checkout(tmp_path_factory.mktemp("day") / "vidreason")
    for page in WALKED:
        write_files(blocks_of(page), folder)
    fabricate_data(folder)
    return folder


def installed(environment: Environment, folder: Path, *what: str) -> None:
    done = environment.run(f"pip install {' '.join(what)}", folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(2400)  # minutes on a free core; other work may share it
def test_the_first_day(tree):
    folder = tree.parent
    wheel = build_wheel(tree)  # before anything is written beside the package
    checkout = Environment(folder / "checkout")
    installed(checkout, tree, "-e", str(tree))
    for page in WALKED:
        walk(page, checkout, tree, with_wheel=False)
    made = {path.relative_to(tree).as_posix() for path in tree.glob("runs/*/**/*.html")}
    stages = {f"runs/mine/{stage}/evaluation/report.html" for stage in ("stage1", "stage2")}
    assert made >= {"runs/mine/training_rows.html", *stages, "runs/own/evaluation/report.html"}
    assert "gradient_norm/fusion" in (tree / "runs/own/metrics.csv").read_text()
    assert "token F1" in (tree / "runs/own/evaluation/tables.md").read_text()
    with zipfile.ZipFile(wheel) as archive:
        top = {name.partition("/")[0] for name in archive.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"vidreason"}
    user = Environment(folder / "user")
    installed(user, folder, str(wheel))
    ask = 'vidreason ask mine/clips/a.mp4 "what stops?" --model runs/own/reasoner'
    refused = user.run(ask, tree)
    assert refused.returncode == 2
    expected = ("resnet_frames", "vidreason.video_encoders", "my-parts 0.1.0", "install that")
    assert not [words for words in expected if words not in refused.stderr], refused.stderr
    installed(user, tree, "./examples/my_parts")
    printed = {page: walk(page, user, tree, with_wheel=True) for page in WALKED}
    for block in (one for page in WALKED for one in blocks_of(page) if one.language == "console"):
        assert_printed(block, printed[block.page][block.line])
    run_notebooks(user, folder)


def assert_printed(block: Block, printed: str) -> None:
    """Make sure that a page shows what its commands print; numbers may differ by machine."""
    lines = [line for line in block.text.splitlines() if line != "..." and line[:2] != "$ "]
    assert len(lines) > 3
    said = re.sub(r"[\d.]+", "0", printed)
    missing = [line for line in lines if re.sub(r"[\d.]+", "0", line) not in said]
    assert not missing, f"{block.where}: {missing} is not in\n{printed}"


def run_notebooks(environment: Environment, folder: Path) -> None:
    for notebook in (CHECKOUT / "examples").glob("*.ipynb"):
        program = folder / f"{notebook.stem}.py"
        program.write_text("\n".join(cells_of(notebook)))
        done = environment.run(f"python {program}", folder, PYTHONSAFEPATH="1")
        assert done.returncode == 0, done.stderr
        assert "Probability: " in done.stdout
