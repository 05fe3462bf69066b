"""Checks that fail, hang, are killed or cannot run: the summary says so, and the rest goes on."""

import json
import os
import select

import pytest

from experiments.gpu_check import __main__ as program
from experiments.gpu_check import runner
from experiments.gpu_check.checks import CHECKS, Check
from experiments.gpu_check.results import (
    RESULTS_FILE,
    Failed,
    Recorder,
    Skipped,
    append,
    read_results,
    summary_text,
)
from experiments.gpu_check.runner import Run, Step, run_steps


def shell(name, script, limit=60.0, **fields):
    return Step(name=name, command=("sh", "-c", script), limit_seconds=limit, **fields)


@pytest.fixture
def run(tmp_path):
    """``run(steps, budget)`` gives state and note of each, by name."""

    def start(*steps, budget=60.0):
        order = Run(folder=tmp_path, budget_seconds=budget, heading="checks", say=lambda _: None)
        outcomes = run_steps(steps, order)
        assert read_results(tmp_path).outcomes == outcomes
        return {outcome.check: (outcome.state, outcome.note) for outcome in outcomes}

    return start


def test_what_fails_is_named_and_the_rest_goes_on(run, tmp_path):
    reason = '{"skipped": {"check": "elsewhere", "reason": "too small a GPU"}}'
    outcomes = run(
        shell("good", "echo fine"),
        shell("bad", "echo first; echo because of this >&2; exit 3"),
        shell("killed", "kill -KILL $$"),
        shell("absent", "", missing="not installed: bitsandbytes"),
        shell("elsewhere", f"echo '{reason}' >> {tmp_path / RESULTS_FILE}"),
        shell("last", "true"),
    )
    assert outcomes == {
        "good": ("passed", ""),
        "bad": ("failed", "status 3: because of this"),
        "killed": ("failed", "ended by SIGKILL: it said nothing"),
        "absent": ("skipped", "not installed: bitsandbytes"),
        "elsewhere": ("skipped", "too small a GPU"),
        "last": ("passed", ""),
    }
    summary = (tmp_path / "summary.md").read_text()
    assert "| bad | failed | 0 | status 3: because of this |" in summary
    assert "| absent | skipped | 0 | not installed: bitsandbytes |" in summary
    assert "\nfirst\n" in (tmp_path / "log.txt").read_text()


def test_what_hangs_is_stopped_with_what_it_started(run, tmp_path):
    os.mkfifo(tmp_path / "held")
    reader = os.open(tmp_path / "held", os.O_RDONLY | os.O_NONBLOCK)
    hangs = shell("hangs", f"(trap '' TERM; sleep 600) > {tmp_path / 'held'} & wait", limit=0.4)
    outcomes = run(hangs, shell("next", "true"))
    assert outcomes["hangs"] == ("timed out", "stopped at its limit of 0 s")
    assert outcomes["next"] == ("passed", "")
    select.select([reader], [], [], 20)
    assert os.read(reader, 1) == b""  # nobody is left who could write
    os.close(reader)


def test_the_budget_stops_the_step_it_ends_in_and_skips_the_others(run, monkeypatch):
    monkeypatch.setattr(runner, "LEAST_SECONDS", 0.0)
    outcomes = run(shell("long", "sleep 600"), shell("next", "true"), budget=0.2)
    assert outcomes["long"][0] == "timed out"
    assert "when the budget was spent" in outcomes["long"][1]
    assert outcomes["next"] == ("skipped", "the 0 seconds are spent")


def test_results_are_written_at_once(run, tmp_path):
    seen = f'grep -q \'"check": "first"\' {tmp_path / RESULTS_FILE}'
    in_summary = f"grep -q '| first | passed' {tmp_path / 'summary.md'}"
    outcomes = run(shell("first", "true"), shell("second", f"{seen} && {in_summary}"))
    assert outcomes["second"] == ("passed", "")


def test_a_step_in_the_background_ends_before_the_one_that_waits_for_it(run, tmp_path):
    waits = f"while [ ! -e {tmp_path / 'go'} ]; do sleep 0.01; done; echo done"
    outcomes = run(
        shell("slow one", waits, background=True),
        shell("beside", f"touch {tmp_path / 'go'}"),
        shell("after", "true", waits_for="slow one"),
    )
    assert list(outcomes) == ["beside", "slow one", "after"]
    assert {state for state, _ in outcomes.values()} == {"passed"}
    assert "done" in (tmp_path / "log-slow-one.txt").read_text()
    assert "done" not in (tmp_path / "log.txt").read_text()


def test_a_step_in_the_background_does_not_outlive_the_run(tmp_path):
    def interrupt(line):
        if line.startswith("second"):
            raise KeyboardInterrupt

    order = Run(folder=tmp_path, budget_seconds=60, heading="checks", say=interrupt)
    steps = [shell("first", "sleep 600", background=True), shell("second", "true")]
    with pytest.raises(KeyboardInterrupt):
        run_steps(steps, order)
    assert order.background["first"].popen.returncode == -9


def test_a_cut_off_line_is_left_out_and_the_last_results_count(tmp_path):
    record = Recorder(tmp_path, "machine")
    record("GPU", "A | B")
    record("copy", 4.29876, "TB/s")
    append(tmp_path / RESULTS_FILE, outcome={"check": "machine", "state": "passed"})
    with (tmp_path / RESULTS_FILE).open("a") as file:
        file.write('{"measurement": {"check": "tests", "na')
    results = read_results(tmp_path)
    assert [one.value for one in results.measurements] == ["A | B", 4.29876]
    assert summary_text(results).splitlines()[1] == (
        "machine  passed   0        GPU A | B; copy 4.299 TB/s"
    )


def fake_check(name, run, **fields):
    return Check(name=name, what="", limit_seconds=1, run=run, **fields)


def test_a_check_says_why_it_cannot_run_or_what_it_found(tmp_path, capsys):
    def skipped(setting):
        setting.record("tried", 1)
        raise Skipped("no room")

    def failed(setting):
        raise Failed("the peak is twice its estimate")

    assert program.run_here(fake_check("a", skipped), tmp_path, rehearsal=True) == 0
    assert read_results(tmp_path).skipped == {"a": "no room"}
    assert program.run_here(fake_check("b", failed), tmp_path, rehearsal=True) == 1
    assert capsys.readouterr().err == "the peak is twice its estimate\n"
    absent = fake_check("c", failed, packages=("json", "no_such_package"))
    assert absent.missing() == "not installed: no_such_package"


def test_without_a_gpu_nothing_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    output = tmp_path / "out"
    assert program.main(["--output-dir", str(output)]) == 2
    assert "there is no GPU" in capsys.readouterr().err
    assert not output.exists()


def test_some_checks_are_run_again_and_the_results_of_the_others_stay(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    taken = []

    def note(steps, run):
        taken.append([step.name for step in steps])
        return []

    monkeypatch.setattr(program, "run_steps", note)
    for check in ("machine", "estimates", "memory"):
        Recorder(tmp_path, check)("number", 1)
    arguments = ["--output-dir", str(tmp_path)]
    # Estimates and their comparison need no GPU, once it has left its results.
    assert program.main([*arguments, "--only", "estimates", "memory"]) == 0
    assert [one.check for one in read_results(tmp_path).measurements] == ["machine"]
    assert program.main([*arguments, "--rehearse"]) == 0
    assert not read_results(tmp_path).measurements
    assert taken == [["estimates", "memory"], [check.name for check in CHECKS]]


def results_of(tmp_path, peaks):
    estimates = Recorder(tmp_path, "estimates")
    estimates("strategy", 10.0, "GiB")
    estimates("stage 1", 20.0, "GiB")
    for check, peak in peaks.items():
        Recorder(tmp_path, check)("peak", peak, "GiB")


def compare(tmp_path):
    from experiments.gpu_check.memory import compare as compare_in
    from experiments.gpu_check.setting import Setting

    record = Recorder(tmp_path, "memory")
    compare_in(Setting(rehearsal=True, record=record, output=tmp_path, scratch=tmp_path))
    measured = read_results(tmp_path).measurements
    return {one.name: one.value for one in measured if one.check == "memory"}


def test_peaks_are_held_to_their_estimates(tmp_path):
    results_of(tmp_path, {"strategy fsdp2": 11.0, "stage 1": 19.0, "compile": 5.0})
    assert compare(tmp_path) == {
        "strategy fsdp2: peak / estimate": 1.1,
        "stage 1: peak / estimate": 0.95,
    }


def test_peaks_far_from_their_estimates_are_named(tmp_path):
    results_of(tmp_path, {"strategy auto": 10.0, "stage 1": 24.0})
    with pytest.raises(Failed, match=r"estimate: stage 1 1\.20;"):
        compare(tmp_path)


def test_no_peaks_are_nothing_to_compare(tmp_path):
    results_of(tmp_path, {})
    with pytest.raises(Skipped, match="no peak"):
        compare(tmp_path)


def test_every_file_with_gpu_tests_is_found():
    from experiments.gpu_check.gpu_tests import files_with_gpu_tests

    names = {path.name for path in files_with_gpu_tests()}
    assert {"test_rehearsal.py", "test_strategies_on_gpu.py"} <= names
    assert len(names) < 12  # each file is imported on a GPU's time


def test_of_the_step_benchmark_the_fastest_row_that_fits_is_recorded(tmp_path):
    from experiments.gpu_check.step_benchmark import record_steps

    def row(samples, **fields):
        rates = {"tflops_a_second": 400.0, "percent_of_measured": 50.0, "peak_gib": 20.0}
        sizes = {"batch_size": int(samples)}
        return {
            "sizes": sizes,
            "samples_a_second": samples,
            "out_of_memory": False,
            **rates,
        } | fields

    def median(value):
        return {"median": value}

    measured = {
        "gpu": {"table": [row(90.0), row(160.0), {"sizes": {}, "out_of_memory": True}]},
        "times_joined": {"padded": median(2.5)},
        "framework": {"overhead_percent": median(1.5)},
        "seconds_a_step": {"joined": median(0.1)},
        "batches": {"fill": 0.46},
    }
    record_steps(Recorder(tmp_path, "steps 1"), measured)
    lines = [str(one) for one in read_results(tmp_path).measurements]
    assert lines[0] == "samples a second 160 1/s with {'batch_size': 160}"
    assert "padded / joined 2.5 times" in lines
    del measured["gpu"]
    record_steps(Recorder(tmp_path, "steps 2"), measured)
    assert len(read_results(tmp_path).measurements) == len(lines) + 4


def test_the_files_that_a_run_leaves_are_few():
    logs = {
        Step(name=c.name, command=(), limit_seconds=1, background=c.background).log for c in CHECKS
    }
    written = {RESULTS_FILE, "summary.md", *logs}
    assert len(written) <= 4  # with two of each benchmark of steps, at most eight
    assert json.dumps(sorted(logs)) == '["log-estimates.txt", "log.txt"]'
