"""The code blocks of the documentation: one way in which the tests read them and run them.

A block is what stands between two fences. Its language says what it is:

- none, or ``bash``: commands, as somebody pastes them into a shell;
- ``console``: commands after ``$``, with what they print;
- ``python``: a program;
- ``yaml``, ``json``, ``text`` and others: a file if the paragraph before begins with its name in
  backticks (followed by nothing or a comma), else something to look at.

Bash itself reads the commands, so there is no second opinion on what a line means. A word in
capitals, such as ``FILE``, stands for what a reader has.
"""

import json
import re
import shutil
import subprocess
import tempfile
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
SHELL = ("", "bash")
_FENCE = re.compile(r" *(`{3,})(\w*)")
_FILE_NAME = re.compile(r"`([\w/-]+\.(?:yaml|jsonl?|csv|txt|py))`(,|$)")
_PAGE_LINK = re.compile(r"\]\(((?:docs|experiments)/[\w/]+\.md)\)")
_BASH = shutil.which("bash") or "/bin/bash"


@dataclass(frozen=True)
class Block:
    """One code block."""

    page: str
    """Path of the page below the checkout."""
    line: int
    """Line of its first fence, from 1."""
    language: str
    text: str
    file_name: str
    """The file that the page says it is, or nothing."""

    @property
    def where(self) -> str:
        """Page and line, for messages."""
        return f"{self.page}:{self.line}"

    @property
    def first_line(self) -> str:
        """Name of the block in the list of those that are not run."""
        return self.text.partition("\n")[0]

    @property
    def commands(self) -> str:
        """Text for bash; nothing if the block holds no commands."""
        if self.language == "console":
            lines = re.findall(r"^\$ (.*)$", self.text, re.MULTILINE)
            return "\n".join(lines)
        return self.text if self.language in SHELL else ""


def blocks_of(page: str) -> list[Block]:
    """Return the blocks of a page, in its order."""
    lines = (CHECKOUT / page).read_text().splitlines()
    blocks: list[Block] = []
    start, fence, paragraph = 0, "", ""
    for number, line in enumerate(lines, start=1):
        opened = _FENCE.match(line)
        if fence and line.strip() == fence:
            text = textwrap.dedent("\n".join(lines[start : number - 1]))
            language = _FENCE.match(lines[start - 1])[2]
            named = _FILE_NAME.match(paragraph)
            blocks.append(Block(page, start, language, text, named[1] if named else ""))
            fence = paragraph = ""
        elif not fence and opened:
            start, fence = number, opened[1]
        elif not fence and line.strip():
            # The first line of the paragraph that a block follows.
            is_new = number == 1 or not lines[number - 2].strip()
            paragraph = line.strip() if is_new else paragraph
    assert not fence, f"{page}:{start}: the block does not end"
    return blocks


def pages() -> list[str]:
    """Return all pages with blocks, in the order in which the README tells to read them."""
    linked = _PAGE_LINK.findall((CHECKOUT / "README.md").read_text())
    rest = sorted(path.relative_to(CHECKOUT).as_posix() for path in CHECKOUT.glob("docs/*.md"))
    return list(dict.fromkeys(["README.md", *linked, *rest, "CONTRIBUTING.md"]))


def write_files(blocks: Sequence[Block], folder: Path) -> None:
    """Write the files that pages show, under the names that they give them."""
    for block in blocks:
        if block.file_name:
            path = folder / block.file_name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text + "\n")


def without_environment(text: str) -> str:
    """Leave out the folder of the environment: it is on the path of who runs the tests."""
    return text.replace(".venv/bin/", "")


_RECORD = """
set -u
PATH=/dev/null
cd() { :; }
command_not_found_handle() { printf '%s\\0' "$block" "$#" "$@" >> "$record"; }
"""


def recorded_commands(blocks: Sequence[Block]) -> list[tuple[Block, list[str]]]:
    """Return the words of each command of a page as bash would start it; nothing is started.

    Raises:
        ValueError: A block is no bash.
    """
    shell = [block for block in blocks if block.commands]
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder, "record")
        record.touch()
        lines = [f"record={record}", _RECORD]
        for number, block in enumerate(shell):
            lines += [f"block={number}", without_environment(block.commands)]
        script = "\n".join(lines)
        done = subprocess.run([_BASH, "-c", script], cwd=folder, capture_output=True, text=True)
        words = iter(record.read_text().split("\0")[:-1])
    if done.stderr:
        raise ValueError(f"{blocks[0].page}: bash says: {done.stderr}")
    return [
        (shell[int(number)], [next(words) for _ in range(int(next(words)))]) for number in words
    ]


def printed_file(block: Block, folder: Path) -> Path:
    """Return the file of what a block prints when a script of :func:`script_of` is run."""
    return folder / f"{block.page.replace('/', '-')}-{block.line}.out"


def script_of(blocks: Sequence[Block], folder: Path) -> str:
    """Return a bash script that runs blocks in order and stops at the first failure.

    Args:
        blocks: Commands and Python programs.
        folder: Gets the Python programs, and what each block prints.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["set -euE -o pipefail"]
    lines += ["trap 'echo \"$block: $BASH_COMMAND: status $?\" >&2' ERR"]
    for block in blocks:
        output = printed_file(block, folder)
        commands = without_environment(block.commands)
        if block.language == "python":
            program = output.with_suffix(".py")
            program.write_text(block.text + "\n")
            commands = f"python {program}"
        lines += [f"block={block.where}", "{", commands, f"}} > {output}"]
    return "\n".join(lines)


def cells_of(notebook: Path) -> list[str]:
    """Return the code cells of a notebook, which has no outputs."""
    cells = json.loads(notebook.read_text())["cells"]
    assert all(not cell.get("outputs") for cell in cells), f"{notebook}: clear its outputs"
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
