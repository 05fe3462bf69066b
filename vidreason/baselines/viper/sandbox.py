"""Programs that a language model has written, run by pydantic-monty under limits.

The interpreter is a process of its own, without the environment, files or modules of this one. A
program gets stand-ins for objects of the host: it reads their listed attributes and calls their
listed methods. Each call comes back here, is checked and answered, and is written down. No text of
a program is ever run by this process's Python.
"""

import importlib.util
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol, TypeVar
from uuid import UUID

from vidreason.secrets import first_line

ENTRY_POINT = "execute_command"
"""The function that a program defines."""
PARAMETERS = "video, possible_answers, query"
"""Its parameters, as ViperGPT's programs for videos name them (cvlab-columbia/viper@09fe346,
``prompts/benchmarks/nextqa.prompt``)."""
MAX_SOURCE = 20_000
"""Characters of the longest program that is run."""

_MAX_REASON = 300  # characters of a failure's reason
_MAX_INTEGER_BITS = 64  # of a result
_MAX_NAME = 60  # characters
_MAX_ARGUMENTS = 8  # of each call, written down
_MAX_WRITTEN = 100_000  # characters of all arguments of a program that are written down
_CLOCK = datetime(2024, 7, 26)  # every program sees this time: runs are alike

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of one program. Exceeding one ends it; it cannot catch that."""

    compute_seconds: float = 5.0
    """Seconds that the interpreter runs; those of the modules that it calls do not count."""
    memory_bytes: int = 64 * 2**20
    depth: int = 100
    """Calls within calls."""
    calls: int = 400
    """Questions to the host: calls, and names and attributes that the program does not have."""
    result_characters: int = 2000
    printed_bytes: int = 2**16
    """Printed text is not kept."""
    grace_seconds: float = 1.0
    """After ``compute_seconds``, time for the interpreter to stop before it is killed."""


class Exposure(NamedTuple):
    """The part of a host class that programs see."""

    attributes: tuple[str, ...] = ()
    """Numbers, sent along with each object."""
    objects: frozenset[str] = frozenset()
    """Attributes that are objects of the host, sent when they are read."""
    methods: frozenset[str] = frozenset()
    create: Callable[..., Any] | None = None
    """Makes an object when a program calls the class."""


class Host(Protocol):
    """Objects and functions that a program may use."""

    exposed: Mapping[type, Exposure]
    functions: Mapping[str, Callable[..., Any]]
    fatal: tuple[type[Exception], ...]
    """Errors of the functions that end the whole run, not the program alone."""

    def shown(self, value: object) -> str:
        """Return an argument or result of a call in a few words, whatever its size."""
        ...


class ProgramError(ValueError):
    """A call that a program must not make as it did; raised inside the program, with this text."""


class Call(NamedTuple):
    """A question of a program to the host, with its answer, both shortened."""

    name: str
    arguments: tuple[str, ...]
    result: str


class Failure(NamedTuple):
    """Why a program gave no result."""

    kind: str
    """``syntax``, ``error`` (it raised), ``time``, ``memory``, ``recursion``, ``calls``, ``result``
    (none, or one that is not taken), ``module`` (a model failed) or ``crash``."""
    reason: str


class ProgramRun(NamedTuple):
    """A program's run: its result, or why there is none."""

    result: str | None
    failure: Failure | None
    calls: list[Call]


def check_sandbox() -> None:
    """Make sure that programs can be run.

    Raises:
        ValueError: The extra ``viper`` is not installed.
    """
    if importlib.util.find_spec("pydantic_monty") is None:
        raise ValueError(
            "programs run in the sandbox of pydantic-monty only, which is not installed: install "
            "it by `pip install 'vidreason[viper]'`; or leave nothing but code_model (and prompt) "
            "in the baseline's weights, so that programs are written and none is run"
        )


def run_program(
    source: str, inputs: Mapping[str, Any], host: Host, limits: Limits | None = None
) -> ProgramRun:
    """Run a program and call its :data:`ENTRY_POINT`.

    Args:
        source: The program, from anywhere.
        inputs: Values by name, :data:`PARAMETERS` among them: texts, numbers, lists, and objects
            that ``host`` exposes.
        host: Answers its calls.
        limits: Limits of the run; None for the defaults.

    Returns:
        The text that it returns, "yes" or "no" for a truth value, or a number in digits; or why
        there is none of these. Whatever the program does is in here.

    Raises:
        Exception: One of ``host.fatal``, as it was raised.
    """
    check_sandbox()
    run = _Run(host, limits or Limits())
    try:
        result = run.result_of(f"{source}\n\n{ENTRY_POINT}({PARAMETERS})\n", inputs)
    except _EndedError as end:
        failure = Failure(end.kind, " ".join(end.reason.split())[:_MAX_REASON])
        return ProgramRun(None, failure, run.calls)
    return ProgramRun(result, None, run.calls)


class _EndedError(Exception):
    """The end of a program that has failed."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


class _Question(NamedTuple):
    """A call of a program to the host."""

    name: str
    object_id: UUID | None
    """Id of the stand-in whose method is called; None for a function."""
    arguments: tuple[Any, ...]
    named: Mapping[str, Any]


class _Run:
    """One program in an interpreter of its own."""

    def __init__(self, host: Host, limits: Limits) -> None:
        # Here, since the package is optional.
        import pydantic_monty

        # The interpreter calls a function by its name.
        assert all(function.__name__ == name for name, function in host.functions.items())
        self.calls: list[Call] = []
        self._monty = pydantic_monty
        self._host = host
        self._limits = limits
        self._classes = {
            kind: pydantic_monty.ClassType(kind, init=exposure.create is not None)
            for kind, exposure in host.exposed.items()
        }
        # Host objects and classes by the ids of their stand-ins in the program.
        self._sent: dict[UUID | None, Any] = {one.id: kind for kind, one in self._classes.items()}
        self._room = _MAX_WRITTEN

    def result_of(self, source: str, inputs: Mapping[str, Any]) -> str:
        """Run the program to its end."""
        if len(source) > MAX_SOURCE + 100:
            raise _EndedError("syntax", f"the program has more than {MAX_SOURCE:,} characters")
        limits, monty = self._limits, self._monty
        bound = {name: self._for_program(value) for name, value in inputs.items()}
        named = {kind.__name__: one for kind, one in self._classes.items() if one.init}
        try:
            # A new process each time: nothing of one program is left for the next.
            with (
                monty.Monty(
                    min_processes=0,
                    max_processes=1,
                    request_timeout=limits.compute_seconds + 2 * limits.grace_seconds,
                    feed_duration_limit_grace=limits.grace_seconds,
                ) as pool,
                pool.checkout(
                    limits={
                        "max_feed_duration_secs": limits.compute_seconds,
                        "max_memory": limits.memory_bytes,
                        "max_recursion_depth": limits.depth,
                        "max_suspensions": limits.calls + 1,  # counted below as well
                    },
                    os_policy={"sleep": "zero", "datetime": _CLOCK, "random_start": {"seed": 0}},
                ) as session,
            ):
                step: Any = session.feed_start(
                    source,
                    inputs={**self._host.functions, **named, **bound},
                    print_callback=monty.CollectString(max_bytes=limits.printed_bytes),
                )
                number = 0
                # The program runs until it asks the host for something, or ends.
                while not isinstance(step, monty.MontyComplete):
                    number += 1
                    if number > limits.calls:
                        raise _EndedError(
                            "calls", f"more than {limits.calls} questions to the host"
                        )
                    step = self._answered(step)
                return self._result(_of_program(lambda: step.output))
        except monty.MontyError as error:
            raise self._ended(error) from error

    def _answered(self, step: Any) -> Any:  # noqa: ANN401 - one of the package's snapshots
        """Answer one question, and let the program go on to its next."""
        if isinstance(step, self._monty.NameLookupSnapshot):
            receiver = self._sent.get(step.object_id)
            # A plain name has no receiver: of None nothing is exposed.
            exposure = self._host.exposed.get(type(receiver), Exposure())
            if step.variable_name not in exposure.objects:
                return step.resume()  # there is no such name or attribute
            return step.resume(value=self._for_program(getattr(receiver, step.variable_name)))
        if not isinstance(step, self._monty.FunctionSnapshot):
            raise _EndedError("error", "the program waits for something that never comes")
        question = _of_program(
            lambda: _Question(str(step.function_name), step.object_id, step.args, step.kwargs)
        )
        if step.is_os_function:  # a file, the environment, a module that is not there
            self._note(question.name, question, "refused")
            return step.resume_not_handled()
        return step.resume(self._call(question))

    def _call(self, question: _Question) -> Any:  # noqa: ANN401 - one of the package's answers
        """Call what the program asks for, and return its value or an error for the program."""
        name, function = self._function(question)
        if function is None:
            self._note(name, question, "refused")
            kind = NameError if question.object_id is None else AttributeError
            return {"exception": kind(f"{name!r} is not there")}
        try:
            # Wrong arguments are the program's mistake, which it may catch; a TypeError inside is
            # ours.
            inspect.signature(function).bind(*question.arguments, **question.named)
        except TypeError as error:
            self._note(name, question, f"error: {error}")
            return {"exception": TypeError(f"{name}: {error}")}
        try:
            value = function(*question.arguments, **question.named)
        except ProgramError as error:
            self._note(name, question, f"error: {error}")
            return {"exception": ValueError(str(error))}
        except self._host.fatal:
            raise
        except Exception as error:
            # The program is not told: the message may name what is none of its business.
            self._note(name, question, "failed")
            reason = f"{name}: {type(error).__name__}: {first_line(error)}"
            raise _EndedError("module", reason) from error
        self._note(name, question, self._host.shown(value))
        return {"return_value": self._for_program(value)}

    def _function(self, question: _Question) -> tuple[str, Callable[..., Any] | None]:
        """The name of what is called, and the function if the program may call it."""
        name, exposed = question.name, self._host.exposed
        if question.object_id is None:
            return name, self._host.functions.get(name)
        receiver = self._sent.get(question.object_id)
        # Of a class, a program may make an object and do nothing else.
        if isinstance(receiver, type):
            create = exposed[receiver].create if name == "__call__" else None
            return receiver.__name__ if create else f"{receiver.__name__}.{name}", create
        kind = type(receiver)
        allowed = kind in exposed and name in exposed[kind].methods
        return f"{kind.__name__}.{name}", getattr(receiver, name) if allowed else None

    def _for_program(self, value: Any) -> Any:  # noqa: ANN401 - anything that a function returns
        """The value with stand-ins for objects of the host."""
        if isinstance(value, list):
            return [self._for_program(one) for one in value]
        exposure = self._host.exposed.get(type(value))
        if exposure is None:
            return value
        stand_in = self._monty.ClassInstance(
            value, eager_attrs=exposure.attributes, class_type=self._classes[type(value)]
        )
        self._sent[stand_in.id] = value
        return stand_in

    def _result(self, value: object) -> str:
        """The result as text."""
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, int) and value.bit_length() <= _MAX_INTEGER_BITS:
            return str(value)
        if isinstance(value, float) and math.isfinite(value):
            return f"{value:g}"
        if isinstance(value, str) and value.strip():
            if len(value) > self._limits.result_characters:
                most = self._limits.result_characters
                raise _EndedError(
                    "result", f"a text of {len(value):,} characters; at most {most:,}"
                )
            return value
        raise _EndedError("result", f"{self._host.shown(value)}; expected a text or a number")

    def _ended(self, error: Any) -> _EndedError:  # noqa: ANN401 - an error of the package
        """The kind of a failure, by what the interpreter has raised."""
        monty = self._monty
        if isinstance(error, monty.MontyCrashedError):
            return _EndedError("time" if error.timed_out else "crash", str(error))
        if isinstance(error, monty.MontySyntaxError):
            return _EndedError("syntax", str(error)[:_MAX_REASON])
        # The interpreter's own limits, and what a program raises under their names.
        kinds = {TimeoutError: "time", MemoryError: "memory", RecursionError: "recursion"}
        return _EndedError(kinds.get(type(error.exception()), "error"), str(error)[:_MAX_REASON])

    def _note(self, name: str, question: _Question, result: str) -> None:
        """Write a call down: the object, if it has one, then the arguments."""
        shown = self._host.shown
        receiver = self._sent.get(question.object_id)
        arguments = [] if receiver is None or isinstance(receiver, type) else [shown(receiver)]
        arguments += map(shown, question.arguments[:_MAX_ARGUMENTS])
        named = list(question.named.items())[:_MAX_ARGUMENTS]
        # Without the quotation marks around the name.
        arguments += [f"{shown(key)[1:-1]}={shown(value)}" for key, value in named]
        # Each is short, and hundreds of calls with many of them fill a disk all the same.
        for index, text in enumerate(arguments):
            arguments[index] = text[: self._room]
            self._room -= len(arguments[index])
        self.calls.append(Call(name[:_MAX_NAME], tuple(arguments), result[:_MAX_REASON]))


def _of_program(read: Callable[[], T]) -> T:
    """Read what a program has handed over.

    Raises:
        _EndedError: Python has no such value, such as a mapping whose key it cannot hash. The
            package makes the value when it is read, and raises what that raises.
    """
    try:
        return read()
    except Exception as error:
        reason = f"a value that cannot leave the sandbox: {type(error).__name__}: {error}"
        raise _EndedError("error", reason) from error
