"""Parts run once, in order; what changed or was interrupted runs again, and all that follows it."""

from pathlib import Path

import pytest

from experiments.demo.parts import Part, read_records, run_parts


class Steps:
    """Two parts that write a file each, and a list of the parts that ran."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ran: list[str] = []

    def part(self, title: str, settings: object = 1, **more) -> Part:
        def work() -> None:
            self.ran.append(title)
            (self.folder / title).write_text(str(settings))

        return Part(
            title=title,
            settings=settings,
            outputs=(self.folder / title,),
            work=more.pop("work", work),
            **more,
        )

    def run(self, *parts: Part) -> list[str]:
        self.ran = []
        run_parts(parts, self.folder)
        return self.ran


@pytest.fixture
def steps(tmp_path) -> Steps:
    return Steps(tmp_path)


def test_what_is_complete_is_skipped(steps, capsys):
    parts = [steps.part("a"), steps.part("b")]
    assert steps.run(*parts) == ["a", "b"]
    assert capsys.readouterr().out.startswith("[1/2] a ...\n[1/2] a: 0 s\n[2/2] b ...\n")
    assert steps.run(*parts) == []
    assert "[2/2] b: complete" in capsys.readouterr().out


def test_a_change_does_its_part_and_all_later_ones_again(steps, capsys):
    steps.run(steps.part("a"), steps.part("b"), steps.part("c"))
    assert steps.run(steps.part("a"), steps.part("b", 2), steps.part("c")) == ["b", "c"]
    assert "[2/3] b: the configuration has changed" in capsys.readouterr().out
    assert (steps.folder / "b").read_text() == "2"


def test_what_a_changed_part_left_is_gone_before_it_starts(steps):
    steps.run(steps.part("a"))
    result = []
    steps.run(steps.part("a", 2, work=lambda: result.append((steps.folder / "a").exists())))
    assert result == [False]


def test_an_interrupted_part_continues_with_what_it_left(steps):
    def fail() -> None:
        (steps.folder / "a").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        steps.run(steps.part("a", work=fail))
    assert not read_records(steps.folder)["a"].complete
    result = []
    steps.run(steps.part("a", work=lambda: result.append((steps.folder / "a").read_text())))
    assert result == ["half"]
    record = read_records(steps.folder)["a"]
    assert (record.complete, record.starts) == (True, 2)


def test_a_missing_output_is_made_again_and_nothing_after_it(steps):
    parts = [steps.part("a"), steps.part("b")]
    steps.run(*parts)
    (steps.folder / "a").unlink()
    assert steps.run(*parts) == ["a"]


def test_a_repeated_part_runs_each_time(steps):
    parts = [steps.part("a"), steps.part("b", repeat=True)]
    steps.run(*parts)
    assert steps.run(*parts) == ["b"]
    assert read_records(steps.folder)["b"].starts == 1


def test_folders_that_no_record_names_are_left_alone(steps):
    (steps.folder / "a").mkdir()
    (steps.folder / "a" / "mine").touch()
    steps.run(steps.part("a", work=lambda: None))
    assert (steps.folder / "a" / "mine").exists()
