"""Structure of the tree: imports go one way, files stay small, names say something."""

import ast
from collections import defaultdict
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[1]
PACKAGES = ("vidreason", "data_modules", "callbacks", "experiments")

ALLOWED = {
    "vidreason": {"vidreason"},
    "data_modules": {"data_modules", "vidreason"},
    "callbacks": {"callbacks", "vidreason"},
    "experiments": set(PACKAGES),
}
# A part of the library imports only itself and parts of lower rank (ARCHITECTURE section 2).
RANKS = {
    "secrets": 0,
    "hub_access": 1,
    "added_parts": -2,
    "cores": 0,
    "closed_pipe": 0,
    "devices": 0,
    "atomic_file": -2,
    "bounded_patterns": -2,
    "field_texts": -2,
    "key_paths": -3,
    "json_object": -2,
    "literal_yaml": -3,
    "other_trainers": -2,
    "ranges": -2,
    "command_line": -2,
    "errors": -2,
    "merge_messages": -2,
    "typed_merge": -1,
    "example": 0,
    "finite_values": 0,
    "released_parts": 0,
    "markdown": 0,
    "near_texts": 0,
    "config": 1,
    "endpoints": 1,
    "video": 1,
    "perception": 2,
    "perceived_videos": 3,
    "fusion": 3,
    "reasoning": 4,
    "pretrained": 5,
    "model": 6,
    "store": 7,
    "training": 8,
    "evaluation": 8,
    "export": 9,
    "baselines": 9,
    "answer": 9,
    "evidence": 10,
    "teacher": 11,
    "microworld": 11,
    "conversation": 10,
    "pipeline": 11,
    "cli": 12,
}
FORBIDDEN_NAMES = {"utils", "util", "common", "base", "registry", "factory", "helpers", "misc"}
NO_BEGINNING = {"What", "Whether", "That", "Those", "Of"}
VAGUE_NAMES = {"place", "places", "own", "asked", "found", "foresee", "lacks", "so_many", "_answer"}
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 80
MAX_FILES_OF_FIT = 200
MAX_FILES_OF_EVALUATE = 230
MAX_CALLBACKS = 16
"""Half of them only watch a run, or end it well: what training at scale asks for."""


def source_files() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((CHECKOUT / package).rglob("*.py"))]


def files_of_tests() -> list[Path]:
    return sorted((CHECKOUT / "tests").rglob("*.py"))


def relative(path: Path) -> str:
    return path.relative_to(CHECKOUT).as_posix()


@cache
def nodes_of(path: Path) -> dict[type[ast.AST], list[Any]]:
    """The nodes of a file's syntax tree by their class; several tests look at each file."""
    by_class: dict[type[ast.AST], list[Any]] = defaultdict(list)
    for node in ast.walk(ast.parse(path.read_text())):
        by_class[type(node)].append(node)
    return by_class


@cache
def imported_modules(path: Path) -> tuple[str, ...]:
    """Dotted names of the imported modules; ``from a import b`` gives both ``a`` and ``a.b``."""
    package = relative(path).removesuffix(".py").split("/")[:-1]
    names = [alias.name for node in nodes_of(path)[ast.Import] for alias in node.names]
    for node in nodes_of(path)[ast.ImportFrom]:
        parents = package[: len(package) - node.level + 1] if node.level else []
        module = ".".join([*parents, *([node.module] if node.module else [])])
        names += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return tuple(names)


def own_imports(path: Path) -> set[str]:
    return {name for name in imported_modules(path) if name.split(".")[0] in PACKAGES}


def test_imports_go_one_way() -> None:
    wrong = {
        relative(path): sorted(names)
        for path in source_files()
        if (names := {name for name in own_imports(path) if not may_import(path, name)})
    }
    assert not wrong, "these import what they must not"


def may_import(path: Path, name: str) -> bool:
    return name.split(".")[0] in ALLOWED[relative(path).split("/")[0]]


def test_library_parts_import_only_lower_parts() -> None:
    wrong: dict[str, list[str]] = {}
    for path in sorted((CHECKOUT / "vidreason").rglob("*.py")):
        part = relative(path).removesuffix(".py").split("/")[1]
        if part == "__init__":
            assert not own_imports(path), "`import vidreason` must stay light"
            continue
        assert part in RANKS, f"give {part} its place in the order of ARCHITECTURE section 2"
        others = {name.split(".")[1] for name in own_imports(path) if "." in name} - {part}
        higher = sorted(other for other in others & RANKS.keys() if RANKS[other] >= RANKS[part])
        if higher:
            wrong[relative(path)] = higher
    assert not wrong, "these import parts that are not lower"


def test_no_files_import_each_other_in_a_circle() -> None:
    """Imports inside functions count: a circle that is broken at run time is one for a reader."""
    files = {module_name(path): path for path in source_files()}
    graph = {name: own_imports(path) & files.keys() - {name} for name, path in files.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


def test_training_loads_no_scores_and_evaluation_no_training() -> None:
    """Files that a program loads before it looks at its configuration; the numbers only fall."""
    fit, evaluate = reached_from("experiments.fit.run"), reached_from("experiments.evaluate.run")
    parts = {name for name in fit if name.startswith("vidreason.evaluation.")}
    assert parts == {"vidreason.evaluation.config"}
    parts = {name for name in evaluate if name.startswith("vidreason.training.")}
    assert parts == {"vidreason.training.config"}
    assert not {name for name in evaluate if name.startswith(("callbacks.", "experiments.fit."))}
    assert len(fit) <= MAX_FILES_OF_FIT
    assert len(evaluate) <= MAX_FILES_OF_EVALUATE


def reached_from(program: str) -> set[str]:
    """Return the modules that importing ``program`` imports, itself included."""
    files = {module_name(path): path for path in source_files()}
    reached: set[str] = set()
    waiting = {program}
    while waiting:
        reached.add(name := waiting.pop())
        waiting |= (imported_at_once(files[name]) & files.keys()) - reached
    return reached


def imported_at_once(path: Path) -> set[str]:
    """Return what importing a file imports: neither what functions do, nor what only types need."""
    statements = list(ast.parse(path.read_text()).body)
    names: set[str] = set()
    for node in statements:
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                pass
            case ast.If() | ast.Try() | ast.With():
                statements += node.body
            case ast.Import():
                names |= {alias.name for alias in node.names}
            case ast.ImportFrom(module=str(module), level=0):
                names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return names


def module_name(path: Path) -> str:
    return relative(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def test_the_library_does_not_use_the_trainer() -> None:
    for path in (CHECKOUT / "vidreason").rglob("*.py"):
        assert not {n for n in imported_modules(path) if n.endswith(".Trainer")}, relative(path)
        attributes = {node.attr for node in nodes_of(path)[ast.Attribute]}
        uses_lightning = any(n.split(".")[0] == "lightning" for n in imported_modules(path))
        assert not (uses_lightning and "Trainer" in attributes), relative(path)


def test_only_the_command_line_knows_the_microworld() -> None:
    for path in (CHECKOUT / "vidreason").rglob("*.py"):
        if relative(path).split("/")[1] not in ("microworld", "cli.py"):
            assert not any(".microworld" in name for name in own_imports(path)), relative(path)


def test_files_and_functions_stay_small() -> None:
    large = {}
    for path in source_files():
        lines = len(path.read_text().splitlines())
        if lines > MAX_FILE_LINES:
            large[relative(path)] = lines
        for node in (*nodes_of(path)[ast.FunctionDef], *nodes_of(path)[ast.AsyncFunctionDef]):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                large[f"{relative(path)}: {node.name}"] = lines
    assert not large, "these have too many lines"


def test_every_module_says_what_it_is() -> None:
    modules = {relative(path): nodes_of(path)[ast.Module][0] for path in source_files()}
    assert len(modules) > 200
    without = [name for name, module in modules.items() if not ast.get_docstring(module)]
    assert not without, "these have no docstring"


def test_docstrings_begin_with_a_noun_or_an_imperative() -> None:
    # A text by itself is the docstring of a module, a class, a function, a field or a constant.
    wrong = [
        f"{relative(path)}: {text.splitlines()[0]}"
        for path in (*source_files(), *files_of_tests())
        for node in nodes_of(path)[ast.Expr]
        if isinstance(node.value, ast.Constant) and isinstance(text := node.value.value, str)
        if first_word(text) in NO_BEGINNING
    ]
    assert not wrong, "these begin with a word that says nothing (CONTRIBUTING, Words)"


def first_word(docstring: str) -> str:
    return docstring.split()[0].rstrip(",:.")


def test_names_say_what_a_thing_is() -> None:
    wrong = {
        relative(path): sorted(names)
        for path in (*source_files(), *files_of_tests())
        if (names := defined_names(path) & VAGUE_NAMES)
    }
    assert not wrong, "name these by what they are (CONTRIBUTING, Words)"


def defined_names(path: Path) -> set[str]:
    """Names that a file gives to variables, attributes, arguments, functions and classes."""
    nodes = nodes_of(path)
    names = {node.id for node in nodes[ast.Name] if isinstance(node.ctx, ast.Store)}
    names |= {node.attr for node in nodes[ast.Attribute] if isinstance(node.ctx, ast.Store)}
    names |= {node.arg for node in nodes[ast.arg]}
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return names | {node.name for kind in kinds for node in nodes[kind]}


def test_no_module_has_a_name_that_says_nothing() -> None:
    for path in source_files():
        parts = set(relative(path).removesuffix(".py").split("/"))
        assert not parts & FORBIDDEN_NAMES, relative(path)


def test_there_are_few_callbacks() -> None:
    modules = [path for path in (CHECKOUT / "callbacks").glob("*.py") if path.stem != "__init__"]
    assert len(modules) <= MAX_CALLBACKS


def test_sources_are_ascii() -> None:
    for path in source_files():
        assert path.read_text().isascii(), relative(path)


def test_test_file_names_are_unique() -> None:
    # pytest imports test modules by their bare name, because tests/ has no packages.
    names = [path.name for path in (CHECKOUT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))
