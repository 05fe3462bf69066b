"""Each code block of the documentation is of this day: programs, options, keys and files exist."""

import ast
import dataclasses
import importlib.util
import json
import re
from pathlib import Path

import pytest
import yaml
from documented_commands import CheckedCommand, is_placeholder, option_names, parser_of
from installed_package import install_examples
from page_blocks import CHECKOUT, SHELL, Block, blocks_of, pages, recorded_commands, write_files

from data_modules.corpora import CorpusConfig
from vidreason.config import ConfigurationError, merge_config
from vidreason.key_paths import key_paths

LANGUAGES = {*SHELL, "console", "text", "python", "yaml", "json"}
_INLINE = re.compile(r"`((?:python -m experiments\.\w|vidreason )[^`]+)`")
_INLINE_KEY = re.compile(r"`([a-z_]+(?:\.[a-z_0-9]+|\[\])*\.[a-z_0-9]+)(?:=[^`]*)?`")


@pytest.fixture(scope="module")
def blocks() -> dict[str, list[Block]]:
    return {page: blocks_of(page) for page in pages()}


@pytest.fixture(scope="module")
def schemas() -> set[type]:
    """The configuration dataclasses of all programs."""
    programs = [path.parent.name for path in CHECKOUT.glob("experiments/*/__main__.py")]
    parsers = [parser_of(f"experiments.{name}", ["--help"]).parser for name in sorted(programs)]
    schemas = {getattr(parser, "schema", None) for parser in parsers} - {None}
    assert len(schemas) > 5
    return schemas


@pytest.fixture
def folder(blocks, tmp_path, monkeypatch) -> Path:
    """The checkout as the commands see it, with the files that pages show."""
    for path in CHECKOUT.iterdir():
        if path.name not in ("runs", "mine") and not path.name.startswith("."):
            (tmp_path / path.name).symlink_to(path)
    for page in blocks:
        write_files(blocks[page], tmp_path)
    (tmp_path / "mine" / "clips").mkdir()
    for name in "abc":
        (tmp_path / "mine" / "clips" / f"{name}.mp4").touch()
    install_examples(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def documented_problems(blocks: dict[str, list[Block]], folder: Path) -> list[str]:
    """Return what is wrong with the commands of pages, each with page and line."""
    checked = {
        page: [
            (block, words, CheckedCommand(folder, words))
            for block, words in recorded_commands(blocks[page])
        ]
        for page in blocks
        if blocks[page]
    }
    problems = []
    for page, commands in checked.items():
        others = [one for other in checked if other != page for *_, one in checked[other]]
        written = [path for one in others for path in one.written]
        for block, words, command in commands:
            # What a page needs comes from another page, or from an earlier command of its own.
            missing = [f"nothing makes {path}" for path in command.missing_after(written)]
            written += command.written
            at = f"{block.where}: {' '.join(words)}"
            problems += [f"{at}: {problem}" for problem in [*command.problems, *missing]]
    return problems


def test_every_command_parses_and_names_what_exists(blocks, folder):
    assert not documented_problems(blocks, folder)


WRONG = {
    "python -m experiments.fits": "there is no program experiments.fits",
    "python -m experiments.fit --fast": "unrecognized arguments: --fast",
    "python -m experiments.fit optimiser.learning_rate=1": "optimiser",
    "python -m experiments.fit data.batch_size=many": "data.batch_size",
    "python -m experiments.fit --config my.yaml": "nothing makes my.yaml",
    "python -m experiments.evaluate baselines.a.weights.b=c.pth": "baselines",
    "python -m experiments.sweep configs=[a] overrides=no.pth": "overrides",
    "python -m experiments.store look store.path=x": "'look' is not of the form key.sub=value",
    "python -m experiments.repro runs/none": "nothing makes runs/none",
    "vidreason asks a.mp4": "invalid choice: 'asks'",
    "vidreason ask clips/none.mp4 what": "nothing makes clips/none.mp4",
    "make demos": "the Makefile has no demos",
    "make gpu GPU_CHEK=--rehearse": "the Makefile has no GPU_CHEK",
    "pip install ./examples/our_parts": "nothing makes ./examples/our_parts",
    "python -c 'import'": "invalid syntax",
    "python examples/our_trainer.py": "nothing makes examples/our_trainer.py",
    "sbatch experiments/slurm/trains.sbatch": "nothing makes experiments/slurm/trains.sbatch",
    "sbatch --array=1 experiments/slurm/train.sbatch sed=1": "sed",
    'sbatch --wrap "python -m experiments.perceives"': "no program experiments.perceives",
    "M=--fast; python -m experiments.fit $M": "unrecognized arguments: --fast",
    "vidreason ask $(vidreason samples hit) what": "invalid choice: 'samples'",
    "pythn x": "there is no program pythn",
}


def test_a_command_of_another_day_is_found(folder):
    overlooked = []
    for command, problem in WRONG.items():
        lines = documented_problems({"page": [Block("page", 1, "", command, "")]}, folder)
        if not any(line.startswith("page:1: ") and problem in line for line in lines):
            overlooked.append((command, problem, lines))
    assert not overlooked


def test_what_commands_write_can_be_read_by_later_ones(folder):
    commands = """
    pip install --target weights/a package && python weights/a/convert.py weights/b
    python -c 'write("runs/x/world")'
    vidreason ask runs/x/world/v.mp4 why --model weights/b
    vidreason export weights/b runs/x/folder
    vidreason ask runs/x/world/v.mp4 why --model runs/x/folder
    """
    assert not documented_problems({"page": [Block("page", 1, "", commands, "")]}, folder)


def test_what_is_no_bash_is_found():
    for text in ("git clone <here> && make demo", "python -m experiments.fit $X", "if"):
        with pytest.raises(ValueError, match=r"page\.md: bash says"):
            list(recorded_commands([Block("page.md", 1, "", text, "")]))


def test_blocks_are_read_as_they_are_rendered(tmp_path, monkeypatch):
    page = "`a/b.yaml`, for all:\n\n```yaml\nx: 1\n```\n\nText.\n- item\n\n  ````\n  ls\n  ```\n"
    page += "  ````\n\n```console\n$ ls a\nb\n$ ls b\n```\n"
    (tmp_path / "page.md").write_text(page)
    monkeypatch.setattr("page_blocks.CHECKOUT", tmp_path)
    file, shell, console = blocks_of("page.md")
    assert (file.file_name, file.text, file.commands, file.line) == ("a/b.yaml", "x: 1", "", 3)
    assert (shell.file_name, shell.text, shell.where) == ("", "ls\n```", "page.md:10")
    assert console.commands == "ls a\nls b"
    (tmp_path / "page.md").write_text("```\nls")
    with pytest.raises(AssertionError, match=r"page\.md:1: the block does not end"):
        blocks_of("page.md")


def test_every_block_has_a_language_that_is_checked(blocks):
    wrong = [one.where for page in blocks.values() for one in page if one.language not in LANGUAGES]
    assert not wrong, f"give them one of {', '.join(LANGUAGES)}; commands need none"


def test_python_blocks_compile_and_import_what_exists(blocks):
    missing = []
    for block in (one for page in blocks.values() for one in page if one.language == "python"):
        for node in ast.walk(ast.parse(block.text)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            missing += [f"{block.where}: {name}" for name in names if not module_exists(name)]
    assert not missing


def module_exists(name: str) -> bool:
    """Look without importing it; of other packages the first name says enough."""
    path = CHECKOUT.joinpath(*name.split("."))
    if path.parts[len(CHECKOUT.parts)] in ("vidreason", "data_modules", "callbacks", "experiments"):
        return path.is_dir() or path.with_suffix(".py").is_file()
    return importlib.util.find_spec(name.partition(".")[0]) is not None


def test_rows_are_json(blocks):
    for block in (one for page in blocks.values() for one in page if one.language == "json"):
        rows = block.text.splitlines() if block.file_name.endswith("l") else [block.text]
        assert all(isinstance(json.loads(row), dict) for row in rows), block.where


@pytest.mark.usefixtures("folder")
def test_configurations_are_of_a_program(blocks, schemas):
    for block in (one for page in blocks.values() for one in page if one.language == "yaml"):
        values = yaml.safe_load(block.text)
        given = [f"{key}={json.dumps(value)}" for key, value in values.items()]
        kinds = [(one, given) for one in schemas if values.keys() <= names_of_fields(one)]
        # Some show the keys of a corpus alone.
        corpus = [*given, "reader=huggingface", "root=folder"]
        kinds += [(CorpusConfig, corpus)] if values.keys() <= names_of_fields(CorpusConfig) else []
        assert kinds, f"{block.where}: no program has all of {', '.join(values)}"
        problems = [problem_of(schema, overrides) for schema, overrides in kinds]
        assert None in problems, f"{block.where}: {problems}"


def names_of_fields(schema: type) -> set[str]:
    return {field.name for field in dataclasses.fields(schema)}


def problem_of(schema: type, overrides: list[str]) -> str | None:
    try:
        merge_config(schema, [], overrides)
    except (ConfigurationError, ValueError) as error:
        return str(error)
    return None


def test_commands_within_lines_name_options_and_keys_that_exist():
    problems = []
    for page in pages():
        for command in _INLINE.findall((CHECKOUT / page).read_text()):
            # Alternatives and what may be left out: "verify\|stats", "[--config b.yaml]".
            words = re.sub(r"[\[\]]|\\?\|[\w-]+|=\.\.\.", "", command).split()
            words = [word for word in words if not is_placeholder(word)]
            module = words[2] if words[0] == "python" else "vidreason.cli"
            rest = words[3:] if words[0] == "python" else words[1:]
            try:
                parser = parser_of(module, rest).parser
            except ValueError as error:
                problems.append(f"{page}: {command}: {error}")
                continue
            options = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
            if unknown := options - option_names(parser):
                problems.append(f"{page}: {command}: {unknown}")
    assert not problems


def test_keys_within_lines_exist(schemas):
    paths = {key for schema in schemas for key in key_paths(schema)}
    paths.add("baselines.NAME.weights.NAME")  # a dictionary of plain texts
    sections = {key.partition(".")[0] for key in paths if "." in key}
    # An entry of a dictionary has any name.
    known = re.compile("|".join(re.escape(key).replace("NAME", r"\w+") for key in paths))
    unknown = [
        f"{page}: {key}"
        for page in pages()
        for key in _INLINE_KEY.findall((CHECKOUT / page).read_text())
        if key.partition(".")[0] in sections
        and not key.endswith((".json", ".py"))
        and not known.fullmatch(re.sub(r"\[\]|\.\d+\b", "", key))
    ]
    assert not unknown


def test_the_table_of_parts_from_outside_is_whole():
    sources = [*CHECKOUT.glob("vidreason/**/*.py"), *CHECKOUT.glob("experiments/*.py")]
    sources += CHECKOUT.glob("data_modules/*.py")
    named = re.compile(r'^[A-Z]+_GROUP = "(vidreason\.\w+)"$', re.MULTILINE)
    groups = {group for path in sources for group in named.findall(path.read_text())}
    table = re.findall(r"\| `(vidreason\.\w+)` \|", (CHECKOUT / "docs/parts.md").read_text())
    assert len(groups) > 6
    assert sorted(table) == sorted(groups)
