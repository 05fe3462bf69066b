"""Jobs: programs that need each other's results, run a limited number at a time.

A job has a folder of its own, named by a hash of all that its result depends on. So jobs of equal
settings are one job, what is finished stays finished, and changed settings are another folder.
Programs that were killed continue when they are started again.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import runpy
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal, NoReturn

from vidreason.atomic_file import write_json_atomically
from vidreason.config import save_config

CONFIG_FILE = "job.yaml"
RECORD_FILE = "job.json"
LOG_FILE = "job.log"
LOCK_FILE = "job.lock"
_POLL_SECONDS = 0.2  # between two looks at the running programs

State = Literal["waiting", "running", "submitted", "finished", "failed", "stopped"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """One program to be run."""

    title: str
    """Such as ``stage 2: full, seed 0``, of the first that wanted it."""
    key: str
    """See :func:`job_key`."""
    folder: Path
    """Folder of this job alone."""
    program: str
    """Module, such as ``experiments.fit``."""
    arguments: tuple[str, ...] = ()
    needs: tuple["Job", ...] = ()
    """Jobs that must have finished before."""
    config: Any = None
    """A configuration dataclass that is written into ``folder`` as ``job.yaml`` before the start;
    the command then names this file."""
    outputs: tuple[Path, ...] = ()
    """Files that are there when it has finished, to know it of a job that a batch system ran."""

    @property
    def command(self) -> list[str]:
        """The command line."""
        return [sys.executable, "-m", self.program, *self.program_arguments]

    @property
    def program_arguments(self) -> list[str]:
        """The command line after the program's name."""
        config = [] if self.config is None else ["--config", str(self.folder / CONFIG_FILE)]
        return [*config, *self.arguments]

    def write_config(self) -> None:
        """Make the folder, and write ``job.yaml`` if there is one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.config is not None:
            save_config(self.config, self.folder / CONFIG_FILE)


@dataclass(kw_only=True)
class JobRecord:
    """Content of ``job.json``."""

    title: str
    command: list[str]
    state: State = "waiting"
    starts: int = 0
    seconds: float = 0.0
    """Elapsed, over all starts whose end was seen."""
    cpu_seconds: float = 0.0
    """CPU time of the program and the processes that it waited for."""
    exit_status: int | None = None
    """Status of the last start; negative for a signal."""
    submitted_as: str = ""
    """The batch system's number."""


def job_key(program: str, settings: Any, needs: Sequence[Job] = ()) -> str:  # noqa: ANN401
    """A name for a job's result: 12 hex digits.

    Args:
        program: What is run.
        settings: All that its result depends on, beside ``needs``: what JSON holds, or dataclasses.
        needs: The jobs before it.
    """
    described = [program, settings, [need.key for need in needs]]
    canonical = json.dumps(described, sort_keys=True, default=asdict)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def experiment_job(
    run_dir: str,
    kind: str,
    program: str,
    config: Any,  # noqa: ANN401 - any configuration dataclass with a run_dir
    settings: Any,  # noqa: ANN401
    *,
    title: str,
    needs: tuple[Job, ...] = (),
) -> Job:
    """The job of a program that takes a configuration with a ``run_dir``, which is set here.

    Args:
        run_dir: Of the study or sweep; the job's own folder is ``jobs/<kind>-<key>`` in it.
        kind: What the folder's name begins with.
        program: Module that is run.
        config: Its configuration; it becomes the job's own.
        settings: What the result depends on; see :func:`job_key`.
        title: See :class:`Job`.
        needs: The jobs before it.
    """
    key = job_key(program, settings, needs)
    folder = job_folder(run_dir, kind, key)
    config.run_dir = str(folder)
    return Job(title=title, key=key, folder=folder, program=program, config=config, needs=needs)


def job_folder(run_dir: str, kind: str, key: str) -> Path:
    """Return the folder of a job of a study or sweep."""
    return Path(run_dir) / "jobs" / f"{kind}-{key}"


def unique_jobs(jobs: Sequence[Job]) -> list[Job]:
    """Return ``jobs`` and all jobs that they need, each after its needs."""
    ordered: dict[str, Job] = {}

    def add(job: Job) -> None:
        for need in job.needs:
            add(need)
        ordered.setdefault(job.key, job)

    for job in jobs:
        add(job)
    return list(ordered.values())


def pending_jobs(jobs: Sequence[Job]) -> list[Job]:
    """Return the unfinished ones of ``jobs`` and their needs, each after its needs."""
    done = {job.key for job in unique_jobs(jobs) if is_finished(job)}
    ordered: dict[str, Job] = {}

    def add(job: Job) -> None:
        if job.key not in done:
            for need in job.needs:  # what only finished jobs needed need not be there any more
                add(need)
            ordered.setdefault(job.key, job)

    for job in jobs:
        add(job)
    return list(ordered.values())


def read_record(job: Job) -> JobRecord:
    """Return the record of a job; a new one if there is none."""
    path = job.folder / RECORD_FILE
    if not path.is_file():
        return JobRecord(title=job.title, command=job.command)
    return JobRecord(**json.loads(path.read_text()))


def is_finished(job: Job) -> bool:
    """Tell whether the result of a job is there."""
    record = read_record(job)
    if record.state == "submitted":
        return bool(job.outputs) and all(output.exists() for output in job.outputs)
    return record.state == "finished"


def run_jobs(jobs: Sequence[Job], *, max_parallel: int = 1, threads: int = 1) -> list[Job]:
    """Run what is not finished, first things first; print a line as each starts and ends.

    A failed job does not stop those that do not need it. A SIGTERM or Ctrl-C is passed on to the
    programs, which save; this process then ends. Killed without that, its programs run on, and the
    next start waits for them. Two processes may work on the same jobs.

    Args:
        jobs: In the order in which they are wanted; what they need is run as well.
        max_parallel: Programs at a time.
        threads: Of each program, for its arithmetic on the CPU.

    Returns: The jobs that failed, or could not be run because another one had.

    Raises:
        SystemExit: A signal came; its status is 128 and the signal's number.
    """
    every = unique_jobs(jobs)
    pending = pending_jobs(jobs)
    print(f"{len(every)} jobs, {len(pending)} of them to do", flush=True)
    return _Runner(pending, max_parallel, threads).run()


@dataclass
class _Runner:
    jobs: list[Job]
    max_parallel: int
    threads: int
    running: dict[str, tuple[Job, int, float]] = field(default_factory=dict)
    failed: dict[str, Job] = field(default_factory=dict)
    stopping: int = 0
    """The signal that came, or 0."""

    def run(self) -> list[Job]:
        waiting = self.jobs
        with self._signals():
            # Start what is ready, wait a moment, record what has ended.
            while waiting or self.running:
                if self.stopping:
                    waiting = []
                if len(self.running) < self.max_parallel:
                    waiting = self._start_ready(waiting)
                time.sleep(_POLL_SECONDS)
                self._collect()
        if self.stopping:
            raise SystemExit(128 + self.stopping)
        return list(self.failed.values())

    def _start_ready(self, waiting: list[Job]) -> list[Job]:
        """Start what can be started; return what still waits."""
        left = []
        held = 0
        for job in waiting:
            # A failure passes on to all jobs that wait for it.
            if any(need.key in self.failed for need in job.needs):
                self.failed[job.key] = job
                self._say(job, "not run, because a job that it needs failed")
            elif len(self.running) + held < self.max_parallel and all(map(is_finished, job.needs)):
                # One that another process runs takes a place here, too, and is looked at again.
                if self._start(job) == "held":
                    held += 1
                    left.append(job)
            else:
                left.append(job)
        return left

    def _start(self, job: Job) -> str:
        """Start a job, unless another process has it ("held") or has finished it meanwhile."""
        job.folder.mkdir(parents=True, exist_ok=True)
        # The program inherits the lock, and holds it for as long as it lives.
        with (job.folder / LOCK_FILE).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return "held"
            if is_finished(job):
                return "finished"
            job.write_config()
            record = read_record(job)
            record.command = job.command
            record.state, record.starts, record.exit_status = "running", record.starts + 1, None
            write_record(job, record)
            sys.stdout.flush()
            with warnings.catch_warnings():
                # Python 3.12 warns of threads; those of the libraries' pools are idle here.
                warnings.simplefilter("ignore", DeprecationWarning)
                process = os.fork()
            if process == 0:
                _become(job, self.threads)
        self.running[job.key] = (job, process, time.monotonic())
        if self.stopping:  # the signal came between these lines
            os.kill(process, signal.SIGTERM)
        self._say(job, "started")
        return "started"

    def _collect(self) -> None:
        """Record what has ended."""
        for key, (job, process, started) in list(self.running.items()):
            ended, status, usage = os.wait4(process, os.WNOHANG)
            if not ended:
                continue
            exit_status = os.waitstatus_to_exitcode(status)
            del self.running[key]
            # A job may be started several times: seconds add up.
            record = read_record(job)
            record.seconds += time.monotonic() - started
            record.cpu_seconds += usage.ru_utime + usage.ru_stime
            record.exit_status = exit_status
            record.state = "finished" if exit_status == 0 else "failed"
            if self.stopping and exit_status:
                record.state = "stopped"
            write_record(job, record)
            took = f"{record.seconds:.0f} s, CPU {record.cpu_seconds:.0f} s"
            if record.state == "failed":
                self.failed[key] = job
                last = _last_line(job.folder / LOG_FILE)
                took += f", status {exit_status}: {last} (see {job.folder / LOG_FILE})"
            self._say(job, f"{record.state} ({took})")

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may handle signals
            return

        def stop(number: int, frame: FrameType | None) -> None:
            self.stopping = number
            for _job, process, _started in self.running.values():
                with contextlib.suppress(ProcessLookupError):  # it has just ended
                    os.kill(process, signal.SIGTERM)

        signals = (signal.SIGTERM, signal.SIGINT)
        former = [signal.signal(number, stop) for number in signals]
        try:
            yield
        finally:
            for number, handler in zip(signals, former, strict=True):
                signal.signal(number, handler)

    def _say(self, job: Job, what: str) -> None:
        done = sum(map(is_finished, self.jobs))
        clock = time.strftime("%H:%M:%S")
        print(f"{clock} [{done}/{len(self.jobs)}] {job.title}: {what}", flush=True)


def write_record(job: Job, record: JobRecord) -> None:
    """Write ``job.json``, whole or not at all."""
    write_json_atomically(job.folder / RECORD_FILE, asdict(record))


def _become(job: Job, threads: int) -> NoReturn:
    """In a new child: become ``python -m job.program``, and end.

    A fork of this process has the libraries loaded. To load them again takes each program about 10
    seconds of a CPU, which is a part of what a small run takes.
    """
    status = 1
    try:
        os.setsid()  # Ctrl-C goes to the parent alone, which passes it on
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with (job.folder / LOG_FILE).open("a") as log, open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        # The parent's may be others, as under pytest.
        sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
        os.environ["OMP_NUM_THREADS"] = str(threads)
        if "torch" in sys.modules:  # it has read the variable
            sys.modules["torch"].set_num_threads(threads)
        # As if started by `python -m`: messages and the run record name this command.
        sys.orig_argv = job.command
        sys.argv = job.command[2:]
        with warnings.catch_warnings():
            # It is: this process has imported the programs. They keep no state in their modules.
            warnings.filterwarnings("ignore", ".* found in sys.modules after import of package")
            runpy.run_module(job.program, run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # whatever it is, this child must not run on in its parent's code
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
