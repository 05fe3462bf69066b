"""The gate's report: every clip is counted once, and nothing of a detail is markup or control."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from vidreason.teacher.clip import Clip
from vidreason.teacher.gate_report import ENDS, GateReport
from vidreason.teacher.verdicts import Failure, Rejection, Verdict


@dataclass
class Ended:
    clip: Clip
    verdict: Verdict | None = None
    failure: Failure | None = None
    detail: str = ""


def clip(source: str, number: int) -> Clip:
    return Clip(source=source, video_id=f"v{number}", media="x")


def rejected(source: str, number: int, rejection: Rejection, detail: str) -> Ended:
    return Ended(clip(source, number), Verdict(rejection=rejection, detail=detail))


def ended() -> Iterator[Ended]:
    for number in range(30):
        yield Ended(clip("ego4d", number), Verdict())
    for number in range(3):
        flags = ("dropped step 2 (0.10)", "dropped step 3 (0.20)")
        yield Ended(clip("ssv2", number), Verdict(flags=flags))
    for number in range(12):
        yield rejected("ssv2", number, "length", f"too many words: step {number} has 99")
    yield rejected("ego4d", 50, "length", "too few words: prediction 1 has 1")
    yield rejected("ego4d", 51, "refusal", "I'm sorry")
    yield Ended(clip("ego4d", 52), failure="endpoint", detail="HTTP 500: after 8 tries")


def test_ends_are_counted_by_source_and_cause():
    report = GateReport(ended()).to_json()
    assert report["num_clips"] == 48
    assert report["ends"] == {"accepted": 33, "refusal": 1, "length": 13, "endpoint": 1}
    assert report["ends_by_source"]["ssv2"] == {"accepted": 3, "length": 12}
    assert report["causes"]["length"] == {"too many words": 12, "too few words": 1}
    assert report["causes"]["refusal"] == {"other": 1}
    assert report["flags"] == {"dropped step": 3}  # answers, not steps
    assert [len(examples) for examples in report["examples"].values()] == [1, 10, 1]
    assert report["examples"]["length"][0]["clip_id"] == clip("ssv2", 0).id
    json.dumps(report)


def test_tables_say_the_same():
    tables = {table.title: table for table in GateReport(ended()).tables()}
    ends = {row[0]: row[1:] for row in tables["Clips by their end"].rows}
    assert ends["accepted"] == ("33", "68.8", "30", "3")
    assert ends["length"] == ("13", "27.1", "1", "12")
    assert ends["clips"] == ("48", "100.0", "33", "15")
    assert ("length: too many words", "12") in tables["Causes"].rows
    assert len(tables["Examples of length"].rows) == 10
    assert "Examples of accepted" not in tables


def test_a_report_of_nothing_has_no_share():
    (table,) = GateReport().tables()
    assert table.rows == (("clips", "0", "-"),)
    assert GateReport().to_json()["num_clips"] == 0


def test_every_end_has_a_row_in_the_order_of_the_gate():
    report = GateReport()
    for number, end in enumerate(reversed(ENDS)):
        if end == "accepted":
            report.add(Ended(clip("a", number), Verdict()))
        elif end in ("unreadable_video", "refused_request", "endpoint"):
            report.add(Ended(clip("a", number), failure=end, detail="x"))
        else:
            report.add(Ended(clip("a", number), Verdict(rejection=end, detail="x")))
    assert [row[0] for row in report.tables()[0].rows] == [*ENDS, "clips"]


def test_hostile_details_are_shown_as_they_are():
    """A journal may be older than this gate, or not its work."""
    report = GateReport()
    detail = "\x1b[31m<script>alert(1)</script>| a | b\n# head\u202e: " + "x" * 10_000
    for number in range(200):
        report.add(rejected("s", number, "schema", f"{number}{detail}"))
    text = "\n".join(table.to_text() + table.to_markdown() for table in report.tables())
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\n# head" not in text
    assert max(map(len, text.splitlines())) < 1000
    assert len(report.to_json()["causes"]["schema"]) <= 51
    assert "<script>" not in "".join(table.to_markdown() for table in report.tables())
