"""Programs of a hostile language model, in the sandbox of program synthesis."""

import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor
from viper_stubs import LIMITS, SECRET, SHORT, StubModules, run

from vidreason.baselines.viper.modules import Box, ModuleError
from vidreason.baselines.viper.program_api import MAX_QUESTIONS
from vidreason.baselines.viper.sandbox import Exposure, run_program

ATTACKS: dict[str, tuple[str, str]] = {
    # Imports
    "import os": ("import os\nreturn os.environ['VIPER_TEST_KEY']", "error"),
    "getenv": ("import os\nreturn os.getenv('VIPER_TEST_KEY')", "error"),
    "import a process": ("import subprocess\nreturn subprocess.getoutput('env')", "error"),
    "import sockets": ("import socket\nreturn str(socket.gethostname())", "error"),
    "import foreign memory": ("import ctypes\nreturn str(ctypes.pythonapi)", "error"),
    "import the host": ("from vidreason.secrets import os\nreturn str(os.environ)", "error"),
    "import by name": ("return __import__('os').environ['VIPER_TEST_KEY']", "error"),
    "import the garbage collector": ("import gc\nreturn str(gc.get_objects())", "error"),
    "loaded modules": ("import sys\nreturn str(sys.modules)", "error"),
    # Walks over double underscores
    "subclasses": ("return str(().__class__.__base__.__subclasses__())", "error"),
    "globals of a method": ("return str(video.trim.__globals__)", "error"),
    "self of a method": ("return str(video.frame_from_index.__self__)", "error"),
    "class of the host": ("return str(type(video).__init__.__globals__['SECRET'])", "error"),
    "bases": ("return str(type(video).__mro__[1].__subclasses__())", "error"),
    "dictionary": ("return str(video.__dict__)", "error"),
    "pickle protocol": ("return str(video.__reduce_ex__(2))", "error"),
    "code object": ("return str((lambda: 0).__code__.co_consts)", "error"),
    "builtins": ("return str(__builtins__)", "error"),
    "globals": ("return str(globals())", "error"),
    "names": ("return str(dir(video))", "error"),
    "variables": ("return str(vars(video))", "error"),
    "input": ("return input()", "error"),
    # Walks by format
    "format": ("return '{0.__class__.__init__.__globals__}'.format(video)", "error"),
    "format of an item": ("return '{0._api.modules.secret}'.format(video)", "error"),
    "f-string": ("return f'{video._api.modules.secret}'", "error"),
    "percent": ("return '%(secret)s' % video", "error"),
    # Frames and tracebacks
    "traceback": (
        "try:\n    1 / 0\nexcept Exception as e:\n    return str(e.__traceback__.tb_frame.f_back)",
        "error",
    ),
    "traceback of the host": (
        "try:\n    video.trim('x')\nexcept Exception as e:\n    return e.__traceback__.tb_next",
        "error",
    ),
    "frames of generators": ("return str((x for x in [1]).gi_frame.f_back.f_globals)", "error"),
    "stack": ("import sys\nreturn str(sys._getframe(1).f_globals)", "error"),
    # Files
    "open": ("return open('{path}').read()", "error"),
    "read by pathlib": ("from pathlib import Path\nreturn Path('{path}').read_text()", "error"),
    "list a folder": ("import os\nreturn str(os.listdir('/'))", "error"),
    "write": ("open('{path}', 'w').write('gone')\nreturn 'written'", "error"),
    "remove": ("import os\nos.remove('{path}')\nreturn 'removed'", "error"),
    "environment of the process": ("return open('/proc/self/environ').read()", "error"),
    # Code from text: interpreted by the sandbox or refused, never by this process
    "eval": ('return eval(\'__import__("os").environ["VIPER_TEST_KEY"]\')', "error"),
    "compile": ("return compile('1', 'x', 'eval')", "error"),
    # Loops
    "loop": ("while True:\n    pass", "time"),
    "comprehension": ("return str(sum(range(10**12)))", "time"),
    "catch the time": (
        "while True:\n  try:\n    while True: pass\n  except BaseException: pass",
        "time",
    ),
    "finally": ("try:\n    while True: pass\nfinally:\n    return 'late'", "time"),
    "regular expression": (
        "import re\nreturn str(re.match(r'(a|a)*(a|aa)*$(?=b)\\\\1', 'a' * 3000 + 'b'))",
        "error",
    ),
    "sort": (
        "x = list(range(20000))\nwhile True:\n    x.sort(key=lambda n: n * 7919 % 20011)",
        "time",
    ),
    "sleep": ("import time\ntime.sleep(1e6)\nwhile True: pass", "time"),
    # Memory
    "growing list": ("x = []\nwhile True:\n    x.append('a' * 10**5)", "memory"),
    "catch the memory": (
        "x = []\nwhile True:\n  try:\n    while True: x.append('a' * 10**5)\n"
        "  except BaseException: pass",
        "memory",
    ),
    "text times a number": ("return 'a' * 10**10", "memory"),
    "list times a number": ("return str([0] * 10**9)", "memory"),
    "doubling": ("x = 'ab'\nwhile True:\n    x += x", "memory"),
    "power": ("return str(9**9**9)", "memory"),
    "shift": ("return str(1 << 10**12)", "memory"),
    "padding": ("return f'{1:>1000000000}'", "memory"),
    "percent padding": ("return '%1000000000d' % 1", "memory"),
    "justified": ("return 'a'.ljust(10**9)", "memory"),
    "replaced": ("return ('a' * 10**5).replace('a', 'b' * 10**5)", "memory"),
    "joined": ("return ('b' * 10**5).join(['a'] * 10**5)", "memory"),
    "digits": ("return str(10**100000)", "error"),
    "set": ("x = set()\nn = 0\nwhile True:\n    x.add(str(n) * 10**4)\n    n += 1", "memory"),
    # Floods
    "calls": ("while True:\n    video.trim(0, 1)", "calls"),
    "catch the calls": (
        "while True:\n  try:\n    video.trim(0)\n  except BaseException: pass",
        "calls",
    ),
    "names that are not there": (
        "while True:\n  try:\n    nothing_here\n  except BaseException: pass",
        "calls",
    ),
    "attributes that are not there": (
        "while True:\n  try:\n    video.nothing\n  except BaseException: pass",
        "calls",
    ),
    "files that are not there": (
        "while True:\n  try:\n    open('x')\n  except BaseException: pass",
        "calls",
    ),
    "print": ("while True:\n    print('a' * 1000)", "memory"),
    # Recursion
    "recursion": ("def f(): return f()\nreturn f()", "recursion"),
    "recursion by repr": ("x = []\nfor i in range(500): x = [x]\nreturn repr(x)", ""),
    "generators": ("def g():\n    yield 1\nreturn str(list(g()))", "error"),
    "nested source": ("return " + "(" * 5000 + "1" + ")" * 5000, "syntax"),
    "long source": ("#" * 30000 + "\nreturn 'x'", "syntax"),
    "no python": ("return ]", "syntax"),
    # Results and arguments
    "huge result": ("return 'a' * 10**6", "result"),
    "huge number": ("return 10**20000", "result"),
    "not a number": ("return float('nan')", "result"),
    "nothing": ("pass", "result"),
    "blank": ("return '  '", "result"),
    "host object": ("return video", "result"),
    "host class": ("return type(video)", "result"),
    "function": ("return {'f': len}", "result"),
    "one list a thousand million times": (
        "x = ['x'] * 50\nfor i in range(9): x = [x] * 50\nreturn x",
        "result",
    ),
    "list that holds itself": ("x = [video]\nx.append(x)\nreturn x", "result"),
    "deep result": ("x = []\nfor i in range(50000): x = [x]\nreturn x", "result"),
    "many times as an argument": (
        "x = ['x'] * 50\nfor i in range(9): x = [x] * 50\nreturn video.select_answer({'x': x}, 'q')"
        "\nreturn video.select_answer(x, x, x)",
        "",
    ),
    "itself as an argument": (
        "x = [video.frame_from_index(0)]\nx.append(x)\nreturn best_image_match(x, 'red')",
        "error",
    ),
    "key that Python cannot hash": (
        "class A: pass\ntry:\n    distance(video, {A(): 1})\nexcept BaseException:\n    return 'x'",
        "error",
    ),
    "set of such": ("class A: pass\nreturn video.trim(**{'end': {A()}})", "error"),
    "such keys as arguments of a file": ("class A: pass\nreturn open({A(): 1})", "error"),
    "such keys as a result": ("class A: pass\nreturn {A(): 1}", "error"),
    "frozen data class as a key": (
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass A:\n    x: int\n"
        "return llm_query({A(1): 1})",
        "error",
    ),
    "wrong kinds": ("return video.frame_from_index(0).find(video)", "error"),
    "wrong numbers": ("return video.frame_from_index(float('inf'))", "error"),
    "long text": ("return video.frame_from_index(0).simple_query('a' * 3000)", "error"),
    "many names": ("return video.trim(**{str(i): i for i in range(1000)})", "error"),
    # Objects of the host
    "hidden attribute": ("return video._api.modules.secret", "error"),
    "by getattr": ("return getattr(getattr(video, '_api'), 'secret')", "error"),
    "number that is not listed": ("return video.frame_from_index(1).frame", "error"),
    "tuple that is not listed": ("return str(video.frame_from_index(1).window)", "error"),
    "pixels": ("return str(video.frame_from_index(0).pixels)", "error"),
    "method of the host": ("return video._api.complete('x')", "error"),
    "through the class": ("return ImagePatch.find(video, 'x')", "error"),
    "new object": ("return type(video.frame_from_index(0))('x')", "error"),
    "made of a subclass": ("class X(VideoSegment):\n    pass\nreturn X(video)", "error"),
    "look-alike": (
        "class ImagePatch:\n    pass\nx = ImagePatch()\nx._api = video\nreturn distance(x, x)",
        "error",
    ),
    "set an attribute": ("video.trim = 3\nvideo.start = -5\nreturn str(video.trim(1))", "error"),
}
"""Body of a program, and the kind of failure that ends it; "" where it gives an honest result."""


def test_each_attack_is_contained_and_recorded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VIPER_TEST_KEY", SECRET)
    hidden = tmp_path / "hidden.txt"
    hidden.write_text(SECRET)
    wrong: dict[str, str] = {}
    for name, (body, kind) in ATTACKS.items():
        # Printing too much is noticed when the time is over.
        limits = SHORT if kind == "time" or name == "print" else LIMITS
        outcome = run(body.replace("{path}", str(hidden)), limits=limits)
        written = json.dumps(outcome)
        if (outcome.failure.kind if outcome.failure else "") != kind:
            wrong[name] = f"{outcome.failure or outcome.result!r}, expected {kind!r}"
        elif (outcome.result is None) != (outcome.failure is not None):
            wrong[name] = f"{outcome.result!r} and {outcome.failure}"
        elif SECRET in written or "pytest" in written.replace(str(hidden), ""):
            wrong[name] = f"the program has seen the host: {written[:500]}"
        elif len(outcome.calls) > LIMITS.calls or len(written) > 30_000:
            wrong[name] = f"{len(outcome.calls)} calls, {len(written)} characters written down"
    assert not wrong, "\n".join(f"{name}: {text}" for name, text in wrong.items())
    assert len(ATTACKS) >= 24
    assert hidden.read_text() == SECRET
    assert SECRET not in capfd.readouterr().out


class Exposed:
    """A host class of which programs see a part."""

    listed = 1
    unlisted = SECRET

    def method(self) -> str:
        return "seen"

    def unlisted_method(self) -> str:
        return SECRET


class TinyHost:
    """One object and one function; ``fatal`` is nothing."""

    exposed: Mapping[type, Exposure] = {
        Exposed: Exposure(attributes=("listed",), methods=frozenset({"method"}))
    }
    fatal = ()

    def __init__(self) -> None:
        self.functions: Mapping[str, Callable[..., Any]] = {"function": self.function}

    def function(self) -> Exposed:
        return Exposed()

    def unlisted_function(self) -> str:
        return SECRET

    def shown(self, value: object) -> str:
        return type(value).__name__


def test_what_is_not_listed_is_not_there() -> None:
    """Names decide, whatever the objects of the host have: attributes, methods, classes."""
    inputs = {"video": Exposed(), "possible_answers": [], "query": ""}
    results = {}
    for expression in (
        *("video.listed", "video.method()", "function().method()", "type(video).__name__"),
        *("video.unlisted", "video.unlisted_method()", "type(video).unlisted", "type(video)()"),
        *("type(video).method(video)", "unlisted_function()", "Exposed()", "function().unlisted"),
        *("video.method", "getattr(video, 'unlisted')", "function.__self__", "str(function)"),
    ):
        source = f"def execute_command(video, options, query):\n    return {expression}"
        run_of = run_program(source, inputs, TinyHost(), LIMITS)
        results[expression] = run_of.result or (run_of.failure.kind if run_of.failure else "")
    seen = {name: result for name, result in results.items() if result != "error"}
    assert seen.pop("str(function)").startswith("<function")
    assert seen == {
        "video.listed": "1",
        "video.method()": "seen",
        "function().method()": "seen",
        "type(video).__name__": "Exposed",
    }


def test_what_a_model_says_in_an_error_stays_with_the_host() -> None:
    """A failing module ends the program, which cannot catch it; the record has the reason."""

    def fail(picture: Tensor, question: str) -> str:
        raise RuntimeError(f"CUDA error at {SECRET}")

    body = """
try:
    return video.frame_from_index(0).simple_query('What?')
except BaseException as error:
    return str(error)
"""
    outcome = run(body, StubModules(fail))
    assert outcome.result is None
    assert outcome.failure is not None
    assert outcome.failure.kind == "module"
    assert outcome.failure.reason == (
        f"ImagePatch.simple_query: RuntimeError: CUDA error at {SECRET}"
    )
    assert [(call.name, call.result) for call in outcome.calls[1:]] == [
        ("ImagePatch.simple_query", "failed")
    ]


def test_a_record_is_of_bounded_size_whatever_is_handed_over() -> None:
    """Long arguments by the dozen, in each of as many calls as there may be."""
    body = """
text = 'a' * 200
first = video.trim(0, 2)
x = [[text] * 8] * 8
while True:
    try:
        video.trim(x, x, x, x, x, x, x, x, a=x, b=x, c=x, d=x, e=x, f=x, g=x, h=x)
    except TypeError:
        pass
"""
    outcome = run(body)
    assert outcome.failure is not None
    assert outcome.failure.kind == "calls"
    assert len(outcome.calls) == LIMITS.calls
    # The calls before are whole, and all are there, if not with all of their arguments.
    assert outcome.calls[0].arguments == ("VideoSegment(0, 4)", "0", "2")
    assert {call.name for call in outcome.calls} == {"VideoSegment.trim"}
    assert len(json.dumps(outcome)) < 150_000


def test_objects_that_are_asked_about_are_counted() -> None:
    """One call asks about each of fifty objects: of 400 calls, a model would see 20,000."""

    class Crowd(StubModules):
        def detect(self, picture: Tensor, name: str) -> list[Box]:
            return [Box(0, 0, 4, 4)] * 50

    modules = Crowd(lambda picture, question: "no")
    body = """
frame = video.frame_from_index(0)
while True:
    try:
        frame.exists('crowd')
    except ValueError:
        pass
"""
    outcome = run(body, modules)
    assert outcome.failure is not None
    assert outcome.failure.kind == "calls"
    assert len(modules.prompts) == MAX_QUESTIONS
    assert outcome.calls[-1].result == "error: more than 1,000 questions about pictures"


def test_missing_weights_and_memory_end_the_run() -> None:
    for error in (ModuleError("weights.vqa is missing"), MemoryError("all of it")):

        def fail(picture: Tensor, question: str, error: Exception = error) -> str:
            raise error

        with pytest.raises(type(error), match=str(error)):
            run("return video.frame_from_index(0).simple_query()", StubModules(fail))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads /proc")
def test_a_killed_and_a_stopped_interpreter_are_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both within the limits: nobody waits for an interpreter that does not come back.

    It has no environment that a flaw in it could give away.
    """
    monkeypatch.setenv("VIPER_TEST_KEY", SECRET)
    body = "video.frame_from_index(0).simple_query()\nreturn 'late'"
    environments: list[bytes] = []
    for sent, kind in ((signal.SIGKILL, "crash"), (signal.SIGSTOP, "time")):

        def send(picture: Tensor, question: str, sent: signal.Signals = sent) -> str:
            [worker] = _interpreters()
            environments.append(Path(f"/proc/{worker}/environ").read_bytes())
            os.kill(worker, sent)
            # A signal takes effect a moment later.
            while _state(worker) not in "TZ":
                time.sleep(0.001)
            return "yes"

        outcome = run(body, StubModules(send), replace(LIMITS, compute_seconds=0.5))
        assert outcome.failure is not None, sent
        assert outcome.failure.kind == kind, outcome.failure
        assert [call.name for call in outcome.calls][-1] == "ImagePatch.simple_query"
        # The next program has a new one.
        assert run("return 'there'").result == "there"
        assert not _interpreters()
    assert len(environments) == 2
    assert not any(b"VIPER_TEST_KEY" in environment for environment in environments)


def _interpreters() -> list[int]:
    """Process ids of this process' interpreters."""
    pids = [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if _state(pid, os.getpid()) not in "Z"]


def _state(pid: int, parent: int | None = None) -> str:
    """The letter of an interpreter's state; Z where there is none (of the parent) any more."""
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition(" (")[2].rpartition(")")
    except OSError:
        return "Z"
    state, of_parent = rest.split()[:2]
    return state if name == "monty" and parent in (None, int(of_parent)) else "Z"
