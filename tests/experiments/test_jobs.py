"""The job runner on quick programs of the tests' own: order, sharing, failures, kills."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from experiments import jobs as jobs_module
from experiments.jobs import (
    Job,
    is_finished,
    job_key,
    pending_jobs,
    read_record,
    run_jobs,
    unique_jobs,
    write_record,
)

PROGRAM = "quick_program_of_jobs"
SOURCE = """
import sys, time, pathlib, signal
folder, action = pathlib.Path(sys.argv[1]), sys.argv[2]
with (folder / "starts").open("a") as file:
    file.write("start\\n")
if action == "fail":
    print("something is wrong here")
    sys.exit(3)
if action == "raise":
    raise RuntimeError("nobody has expected this")
if action == "wait":  # a trained run, which saves when it is told to stop and goes on later
    if (folder / "saved").exists():
        sys.exit(0)
    signal.signal(signal.SIGTERM, lambda *_: ((folder / "saved").touch(), sys.exit(75)))
    (folder / "waits").touch()
    time.sleep(60)
if action == "brief":
    time.sleep(0.5)
"""


@pytest.fixture
def make(tmp_path, monkeypatch):
    """``make(name, action, *needs)``: a job that does something quick."""
    (tmp_path / f"{PROGRAM}.py").write_text(textwrap.dedent(SOURCE))
    monkeypatch.syspath_prepend(str(tmp_path))

    def build(name: str, action: str = "nothing", *needs: Job) -> Job:
        key = job_key(PROGRAM, name, needs)
        folder = tmp_path / "jobs" / key
        arguments = (str(folder), action)
        return Job(
            title=name, key=key, folder=folder, program=PROGRAM, arguments=arguments, needs=needs
        )

    return build


def num_starts(job: Job) -> int:
    path = job.folder / "starts"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_a_key_stands_for_settings_and_needs(make):
    assert job_key("a", {"x": 1, "y": 2}) == job_key("a", {"y": 2, "x": 1})
    first, other = make("first"), make("other")
    keys = {
        job_key("a", 1),
        job_key("b", 1),
        job_key("a", 2),
        job_key("a", 1, (first,)),
        job_key("a", 1, (other,)),
    }
    assert len(keys) == 5


def test_equal_jobs_are_done_once_and_after_what_they_need(make):
    shared, again = make("shared"), make("shared")
    left, right = make("left", "nothing", shared), make("right", "nothing", again)
    assert [job.title for job in unique_jobs([left, right])] == ["shared", "left", "right"]
    assert run_jobs([left, right], max_parallel=2) == []
    assert [num_starts(job) for job in (shared, left, right)] == [1, 1, 1]
    record = read_record(shared)
    assert (record.state, record.exit_status, record.starts) == ("finished", 0, 1)
    assert record.command == [sys.executable, "-m", PROGRAM, *shared.arguments]


def test_what_is_finished_is_not_run_again_nor_what_only_it_needed(make):
    first = make("first")
    second = make("second", "nothing", first)
    run_jobs([second])
    (first.folder / "job.json").unlink()  # someone has made room
    assert pending_jobs([second]) == []
    run_jobs([second])
    assert (num_starts(first), num_starts(second)) == (1, 1)
    third = make("third", "nothing", second)
    assert [job.title for job in pending_jobs([third])] == ["third"]


def test_a_failure_stops_only_what_needs_it(make, capsys):
    bad, error = make("bad", "fail"), make("error", "raise")
    behind = make("behind", "nothing", bad)
    alone = make("alone")
    failed = run_jobs([behind, error, alone])
    assert {job.title for job in failed} == {"bad", "behind", "error"}
    assert is_finished(alone)
    assert (read_record(bad).state, read_record(bad).exit_status) == ("failed", 3)
    assert "RuntimeError: nobody has expected this" in (error.folder / "job.log").read_text()
    printed = capsys.readouterr().out
    assert "something is wrong here" in printed
    assert "behind: not run" in printed
    assert num_starts(behind) == 0
    run_jobs([behind])
    assert num_starts(bad) == 2  # tried again


def test_as_many_run_at_a_time_as_are_allowed(make, monkeypatch):
    jobs = [make(str(number), "brief") for number in range(3)]
    running: list[int] = []
    start = jobs_module._Runner._start

    def watched(self, job):
        state = start(self, job)
        running.append(len(self.running))
        return state

    monkeypatch.setattr(jobs_module._Runner, "_start", watched)
    run_jobs(jobs, max_parallel=2)
    assert max(running) == 2
    assert all(map(is_finished, jobs))


def runner(job_folder: Path, tmp_path: Path, actions: str) -> subprocess.Popen[bytes]:
    """Another process that runs one waiting job; ``job_folder`` is where."""
    code = (
        "import sys; from pathlib import Path; from experiments.jobs import Job, run_jobs\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        f"folder = Path({str(job_folder)!r})\n"
        f"run_jobs([Job(title='waiting', key=folder.name, folder=folder, program={PROGRAM!r}, "
        f"arguments=(str(folder), {actions!r}))])\n"
    )
    return subprocess.Popen([sys.executable, "-c", code])


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.05)


def test_a_stopped_study_stops_its_programs_and_goes_on_later(make, tmp_path):
    job = make("waiting", "wait")
    process = runner(job.folder, tmp_path, "wait")
    wait_for(job.folder / "waits")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert (job.folder / "saved").exists()
    assert read_record(job).state == "stopped"
    assert run_jobs([job]) == []
    assert (num_starts(job), read_record(job).starts) == (2, 2)


def test_a_killed_study_leaves_its_programs_running_and_waits_for_them(make, tmp_path):
    job = make("waiting", "wait")
    process = runner(job.folder, tmp_path, "wait")
    wait_for(job.folder / "waits")
    process.kill()
    process.wait()
    second = runner(job.folder, tmp_path, "wait")
    time.sleep(1.0)
    assert num_starts(job) == 1  # the first program still has the job
    orphans = [
        int(entry)
        for entry in os.listdir("/proc")
        if entry.isdigit() and _holds(int(entry), job.folder / "job.lock")
    ]
    assert len(orphans) == 1
    os.kill(orphans[0], signal.SIGTERM)
    assert second.wait(timeout=120) == 0
    assert (num_starts(job), read_record(job).state) == (2, "finished")


def _holds(pid: int, path: Path) -> bool:
    folder = Path(f"/proc/{pid}/fd")
    try:
        return any(os.path.realpath(file) == str(path) for file in folder.iterdir())
    except OSError:
        return False


def test_a_submitted_job_is_finished_when_its_outputs_are_there(make, tmp_path):
    job = make("submitted")
    output = tmp_path / "output"
    job = Job(**{**vars(job), "outputs": (output,)})
    record = read_record(job)
    record.state, record.submitted_as = "submitted", "17"
    write_record(job, record)
    assert not is_finished(job)
    output.touch()
    assert is_finished(job)
    assert json.loads((job.folder / "job.json").read_text())["submitted_as"] == "17"
