import re
from pathlib import Path

import pytest
from run_summary import REMEDIES, own_cpu_seconds, remedy_of, skipped_proofs


def test_skipped_proofs_are_grouped_by_what_would_let_them_run():
    lines = skipped_proofs(
        [
            ("tests/a/test_a.py::test_one[1]", "Skipped: needs a CUDA device"),
            ("tests/a/test_a.py::test_one[2]", "Skipped: there is no CUDA device"),
            ("tests/a/test_b.py::test_two", "Skipped: needs the extra 'sweep'"),
            ("tests/a/test_b.py::test_three", "Skipped: it rains"),
        ]
    )
    assert lines == [
        "1 with a machine with an NVIDIA GPU: pytest -m gpu: test_a.py::test_one",
        "1 with it rains: test_b.py::test_three",
        "1 with the extra: pip install -e '.[sweep]': test_b.py::test_two",
    ]


def test_every_reason_in_the_suite_has_a_remedy():
    reasons: list[str] = []
    for path in Path(__file__).parent.rglob("test_*.py"):
        if path.name != Path(__file__).name:
            text = path.read_text()
            reasons += re.findall(r"pytest\.skip\(f?\"([^\"]+)", text)
            reasons += re.findall(r"skipif\([^@]*?reason=f?\"([^\"]+)", text, re.DOTALL)
    assert len(reasons) > 10
    known = re.compile("|".join(REMEDIES))
    # A missing package is the condition of this one test: nothing has to be installed for it.
    without = {reason for reason in reasons if not known.search(reason)}
    # Nor for the reasoner that does not ship yet.
    assert without <= {"the package deepspeed is installed", "no trained reasoner ships yet"}


def test_cpu_time_counts_what_this_process_does():
    before = own_cpu_seconds()
    sum(number * number for number in range(300_000))
    assert own_cpu_seconds() > before


@pytest.mark.parametrize("reason", ["Skipped: needs the extra 'quantize'"])
def test_the_remedy_names_the_extra(reason):
    assert remedy_of(reason).endswith("'.[quantize]'")
