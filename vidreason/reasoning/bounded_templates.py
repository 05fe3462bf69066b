"""Chat templates of any origin, rendered within bounds of steps, sizes and characters.

A chat template is a program that comes with a tokenizer. The sandbox of jinja2 keeps it from
reaching anything, but not from running for ever or from filling the memory: two loops within one
another, a text doubled thirty times, a macro that calls itself twice. So here it is compiled with
counters in it. Each pass of a loop and each call counts as a step; what is written, stored, passed
on or computed has a largest size; and only such filters and methods are there as cannot make much
of little. The text that comes out is transformers' own: the same options, globals and extensions.
"""

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import lru_cache
from itertools import islice
from typing import Any, cast

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_STEPS = 100_000
"""Passes of loops and calls in one rendering."""
MAX_LENGTH = 2**20
"""Characters of one value."""
MAX_ITEMS = 2**16
"""Items of one value, those within others counted as often as they are in it."""
MAX_WRITTEN = 2**24
"""Characters written in one rendering, those of macros and blocks counted where they are written
and where they are put in."""
MAX_TEMPLATE = 2**17
"""Characters of a template."""
MAX_SECONDS = 10.0
"""Longest time of one rendering; a published template takes a millisecond."""
_CHARACTERS_PER_STEP = 1024
"""Length of a searched, copied or changed value that counts as one step."""
_STEPS_OF_CALL = 10  # of a template's budget, for each call
_MAX_BITS = 4096  # of an int, more than 1,000 digits
_MAX_INDENT = 64  # blanks
_MAX_DEPTH = 100
"""Calls within one another, each of which takes several of Python's frames."""

_FILTERS = frozenset(
    (
        *("abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first"),
        *("float", "forceescape", "groupby", "indent", "int", "items", "join", "last", "length"),
        *("list", "lower", "map", "max", "min", "reject", "rejectattr", "replace", "reverse"),
        *("safe", "select", "selectattr", "sort", "string", "striptags", "sum", "title"),
        *("tojson", "trim", "unique", "upper", "wordcount"),
    )
)
"""Filters of jinja2 that published chat templates use, and whose results are known not to be much
larger than their input."""
_GROWING_METHODS = frozenset(
    (
        *("center", "ljust", "rjust", "zfill", "expandtabs", "translate", "to_bytes", "encode"),
        *("maketrans", "fromkeys"),
    )
)
_FORMATTED_WIDTH = re.compile(r"%[^a-zA-Z%]*[0-9*]|\{[^{}]*[:!]")


class TemplateLimitError(jinja2.TemplateError):
    """A template goes on for too long, or makes too much."""


class _Budget:
    """Resources that one rendering has used."""

    def __init__(self) -> None:
        self.steps = 0
        self.written = 0
        self.depth = 0
        self.ends = time.monotonic() + MAX_SECONDS


_budget: ContextVar[_Budget] = ContextVar("budget")


def render_template(template: str, variables: Mapping[str, Any]) -> str:
    """Render a chat template.

    Args:
        template: Its text.
        variables: What it is told: messages, special tokens and so on, as plain values.

    Raises:
        ValueError: It is no template, fails, asks for what templates have no use for, or goes
            beyond the bounds of this module. The message says why.
    """
    token = _budget.set(_Budget())
    try:
        return _compiled(template).render(**variables)
    except Exception as error:  # a template is a program: it can fail in any way
        raise ValueError(_cause(error)) from error
    finally:
        _budget.reset(token)


@lru_cache(maxsize=16)
def _compiled(template: str) -> jinja2.Template:
    if len(template) > MAX_TEMPLATE:
        raise TemplateLimitError(f"the template has more than {MAX_TEMPLATE:,} characters")
    return _Environment().from_string(template)


def _cause(error: Exception) -> str:
    cause = " ".join(str(error).split())
    line = getattr(error, "lineno", None)
    return f"{type(error).__name__}{f' in line {line}' if line else ''}: {cause}"


class _Environment(ImmutableSandboxedEnvironment):
    """The environment that transformers renders chat templates in, with counters."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_GenerationTag, jinja2.ext.loopcontrols],
        )
        kept = {name: self.filters[name] for name in _FILTERS}
        kept["tojson"] = _to_json
        self.filters = {name: _counted_filter(name, function) for name, function in kept.items()}
        self.globals = {
            "range": _short_range,
            "raise_exception": _raise,
            "dict": _new_dict,
            "namespace": _Namespace,
            "__checked": _checked,
            "__stepped": _stepped,
            "__written": _written,
        }
        self.globals["joiner"] = jinja2.utils.Joiner
        self.globals["cycler"] = jinja2.utils.Cycler

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for imported in (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends):
            if node := next(iter(tree.find_all(imported)), None):
                raise TemplateLimitError(f"line {node.lineno} wants another template")
        for named in tree.find_all(nodes.Name):
            if named.name.startswith("__"):
                raise TemplateLimitError(f"line {named.lineno} names {named.name}")
        _count(tree)
        return tree

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401, N805
        if any(__obj is counter for counter in (_checked, _stepped, _written)):
            return __obj(*args)
        _check_method(__obj, args)
        budget = _budget.get()
        _stepped(_STEPS_OF_CALL * _CHARACTERS_PER_STEP + sum(map(_length, args)))
        budget.depth += 1
        if budget.depth > _MAX_DEPTH:
            raise TemplateLimitError(f"more than {_MAX_DEPTH} calls within one another")
        try:
            return _checked(super().call(__context, __obj, *args, **kwargs))
        finally:
            budget.depth -= 1

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:  # noqa: ANN401
        if operator == "*":
            for some, times in ((left, right), (right, left)):
                if isinstance(some, str | bytes | list | tuple) and isinstance(times, int):
                    _check_length(len(some) * times)
        if operator in ("*", "**") and isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * right if operator == "**" else left.bit_length()
            if bits + right.bit_length() > _MAX_BITS:
                raise TemplateLimitError("a number of more than a thousand digits")
        if operator == "%" and isinstance(left, str):
            _check_format(left)
        _stepped(_length(left) + _length(right))
        return _checked(super().call_binop(context, operator, left, right))


class _GenerationTag(jinja2.ext.Extension):
    """``{% generation %}``, around what the assistant says; it writes its content."""

    tags = {"generation"}  # noqa: RUF012 - an instance's in jinja2's types

    def parse(self, parser: Any) -> nodes.Node | list[nodes.Node]:  # noqa: ANN401 - jinja's types
        next(parser.stream)
        body: list[nodes.Node] = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body)


class _Namespace(jinja2.utils.Namespace):
    """A namespace whose attributes do not begin with an underscore."""

    def __setitem__(self, name: str, value: Any) -> None:  # noqa: ANN401
        if name.startswith("_"):
            raise SecurityError(f"a namespace has no attribute {name!r}")
        super().__setitem__(name, value)


def _count(tree: nodes.Template) -> None:
    """Put the counters into a parsed template."""
    for loop in list(tree.find_all(nodes.For)):
        loop.body = [nodes.ExprStmt(_call("__stepped")).set_lineno(loop.lineno), *loop.body]
    for assigned in list(tree.find_all(nodes.Assign)):
        assigned.node = _call("__checked", cast(nodes.Expr, assigned.node))
    for output in list(tree.find_all(nodes.Output)):
        output.nodes = [
            node if isinstance(node, nodes.TemplateData) else _call("__written", node)
            for node in output.nodes
        ]
        length = sum(len(n.data) for n in output.nodes if isinstance(n, nodes.TemplateData))
        if length:
            output.nodes.append(_call("__written", nodes.Const(""), nodes.Const(length)))
    for joined in list(tree.find_all(nodes.Concat)):
        joined.nodes = [_call("__checked", node) for node in joined.nodes]
    tree.set_environment(tree.environment)  # type: ignore[arg-type]


def _call(name: str, *arguments: nodes.Expr) -> nodes.Expr:
    return nodes.Call(nodes.Name(name, "load"), list(arguments), [], None, None)


def _stepped(size: int = 0) -> None:
    budget = _budget.get()
    budget.steps += 1 + size // _CHARACTERS_PER_STEP
    if budget.steps > MAX_STEPS:
        raise TemplateLimitError(f"more than {MAX_STEPS:,} passes of loops and calls")
    if time.monotonic() > budget.ends:
        raise TemplateLimitError(f"it goes on for more than {MAX_SECONDS:.0f} s")


def _written(value: Any, more: int = 0) -> str:  # noqa: ANN401 - anything that is written
    budget = _budget.get()
    if isinstance(value, str | int | float | list | tuple | Mapping | jinja2.Undefined | None):
        text = str(_checked(value))
    else:
        text = f"<{type(value).__name__}>"
    budget.written += len(text) + more
    if budget.written > MAX_WRITTEN:
        raise TemplateLimitError(f"more than {MAX_WRITTEN:,} characters")
    return text


def _checked(value: Any) -> Any:  # noqa: ANN401 - any value of a template
    if isinstance(value, str | bytes):
        _check_length(len(value))
    elif isinstance(value, list | tuple | Mapping):
        _check_items(value)
    elif isinstance(value, int) and value.bit_length() > _MAX_BITS:
        raise TemplateLimitError("a number of more than a thousand digits")
    return value


def _check_items(value: Any) -> None:  # noqa: ANN401
    """Make sure that lists within lists, maybe the same ones many times, are few all in all."""
    items = characters = 0
    stack = [value]
    while stack:
        current = stack.pop()
        items += 1
        if isinstance(current, str):
            characters += len(current)
        elif isinstance(current, Mapping):
            stack += [*current.keys(), *current.values()]
        elif isinstance(current, list | tuple):
            stack += current
        if items + len(stack) > MAX_ITEMS:
            raise TemplateLimitError(f"a value of more than {MAX_ITEMS:,} items")
    _check_length(characters)
    _stepped(items + characters)


def _length(value: Any) -> int:  # noqa: ANN401
    return len(value) if isinstance(value, str | bytes | list | tuple | dict) else 1


def _check_method(method: Any, arguments: Sequence[Any]) -> None:  # noqa: ANN401
    """Refuse what makes much of little, before it does."""
    name = getattr(method, "__name__", "")
    owner = getattr(getattr(method, "__wrapped__", method), "__self__", None)
    if not isinstance(owner, str | bytes | list | tuple | dict | int | float):
        return
    if name in _GROWING_METHODS:
        raise SecurityError(f"a template has no use for the method {name}")
    if name in ("format", "format_map"):
        _check_format(str(owner))
    elif name == "replace":
        _check_growth(str(owner), str(arguments[1]) if len(arguments) > 1 else "")
    elif name == "join":
        _check_joined(str(owner), arguments[0] if arguments else ())
    _stepped(_length(owner))


def _check_format(text: str) -> None:
    if _FORMATTED_WIDTH.search(text):
        raise SecurityError("a template has no use for widths and conversions of formatted text")


def _check_length(length: int) -> None:
    if length > MAX_LENGTH:
        raise TemplateLimitError(f"a value of more than {MAX_LENGTH:,} characters")


def _check_growth(text: str, new: str) -> None:
    """Bound a replacement, as if every character and every gap between two were replaced."""
    if len(new) > 1:
        _check_length((len(text) + 1) * len(new))


def _check_joined(separator: str, items: Any) -> None:  # noqa: ANN401
    if isinstance(items, str | list | tuple | Mapping):
        total = sum(len(item) if isinstance(item, str) else 1 for item in items)
        _check_length(total + len(separator) * len(items))


def _counted_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that counts as a call, and whose result has a largest size."""
    first = 1 if hasattr(function, "jinja_pass_arg") else 0

    def counted(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - as the filter's
        value, others = arguments[first], arguments[first + 1 :]
        # A filter takes a step for each item of its value.
        _stepped(_length(value))
        if name in ("join", "list", "unique", "sort", "sum", "groupby") and not isinstance(
            value, str | Mapping
        ):
            value = list(islice(value, MAX_ITEMS + 1))  # a generator may have no end
            arguments = (*arguments[:first], value, *others)
        _checked(value)
        # These make more of a text than they get: the size is known before it is made.
        if name == "replace":
            _check_growth(str(value), str(others[1] if len(others) > 1 else named.get("new", "")))
        elif name == "join":
            _check_joined(str(others[0] if others else named.get("d", "")), value)
        elif name == "indent":
            width = others[0] if others else named.get("width", 4)
            size = len(width) if isinstance(width, str) else width
            _check_length(len(str(value)) + (str(value).count("\n") + 1) * size)
        return _checked(function(*arguments, **named))

    for attribute in ("jinja_pass_arg", "jinja_async_variant"):
        if hasattr(function, attribute):
            setattr(counted, attribute, getattr(function, attribute))
    return counted


def _to_json(
    value: Any,  # noqa: ANN401 - a plain value
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: Sequence[str] | None = None,
    sort_keys: bool = False,
) -> str:
    size = len(indent) if isinstance(indent, str) else indent or 0
    if size > _MAX_INDENT:
        raise TemplateLimitError(f"tojson with an indent of {size}")
    pair = None if separators is None else (str(separators[0])[:8], str(separators[1])[:8])
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=pair, sort_keys=sort_keys
    )


def _short_range(*arguments: int) -> range:
    numbers = range(*arguments)
    if len(numbers) > MAX_ITEMS:
        raise TemplateLimitError(f"a range of {len(numbers):,}")
    return numbers


def _new_dict(*arguments: Any, **named: Any) -> dict[Any, Any]:  # noqa: ANN401
    return dict(*arguments, **named)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(str(message)[:500])
