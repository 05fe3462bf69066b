"""The program around reviews: a page with real frames, agreement, and the reviewed set."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from experiments.review_instructions.__main__ import main
from vidreason.teacher.reviews import row_sha

SAMPLE = Path(__file__).parents[2] / "vidreason/microworld/samples/push.mp4"


def row(number: int, **changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "id": f"r{number}",
        "source": "world" if number % 2 else "ego4d",
        "video_id": f"v{number}",
        "media": "",
        "start": 0.0,
        "end": 2.0,
        "instruction": "Explain.",
        "causal_explanation": [f"Ball {number} rolls."],
        "step_times": [],
        "prediction": "It stops.",
        "predictions": [],
        "license_tag": "CC0-1.0" if number % 2 else "ego4d",
        "flags": [],
    }
    return fields | changes


ROWS = [row(number) for number in range(6)]
REJECTED = [
    row(number, split="train", ended="rejected", cause="temporal", detail="late")
    for number in (10, 11)
]


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))


def review(of: dict[str, Any], decision: str, reviewer: str) -> dict[str, Any]:
    fields = {"id": of["id"], "row_sha": row_sha(of), "decision": decision, "reviewer": reviewer}
    fields["reviewed_at"] = "2026-02-01T10:00:00Z"
    if decision == "reject":
        fields["reason"] = "unclear"
    if decision == "edit":
        fields |= {"steps": [{"text": "It was kicked."}], "predictions": []}
    return fields


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    write_lines(root / "train.jsonl", ROWS[:5])
    write_lines(root / "val.jsonl", ROWS[5:])
    failed = row(12, split="train", ended="failed", cause="endpoint")
    write_lines(root / "rejected.jsonl", [*REJECTED, failed])
    (root / "videos").mkdir()
    shutil.copy(SAMPLE, root / "videos/v0.mp4")
    (root / "videos/v1.mp4").symlink_to(SAMPLE)
    return root


def items_of(page: Path) -> dict[str, Any]:
    (text,) = re.findall(r'id="review-data">(.*?)</script>', page.read_text())
    return {item["id"]: item for item in json.loads(text)["items"]}


def test_a_page_of_a_set(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["page", f"run_dir={run_dir}", "num_frames=4"]) == 0
    items = items_of(run_dir / "review/review.html")
    assert items.keys() == {*(f"r{number}" for number in range(6)), "r10", "r11"}
    frames = items["r0"]["frames"]
    assert [frame["seconds"] for frame in frames] == sorted({f["seconds"] for f in frames})
    assert 0 <= frames[0]["seconds"] < frames[-1]["seconds"] < 2
    assert len(frames) == 4
    assert all(frame["picture"].startswith("data:image/jpeg;base64,") for frame in frames)
    assert (items["r1"]["frames"], items["r1"]["missing"]) == (
        [],
        "it lies outside of run_dir; media_dir allows a further folder",
    )
    assert items["r2"]["missing"] == "there is no such file"
    assert (items["r10"]["verdict"], items["r10"]["split"]) == ("temporal", "rejected")
    told = capsys.readouterr().out
    assert "8 rows, 1 of them with frames" in told
    assert "keep it on this machine: the frames of ego4d may not be passed on" in told
    options = ["frames=shareable", f"media_dir={SAMPLE.parent}", f"output={run_dir}/other"]
    assert main(["page", f"run_dir={run_dir}", *options]) == 0
    items = items_of(run_dir / "other/review.html")
    assert {name for name, item in items.items() if item["frames"]} == {"r1"}


def test_hostile_rows_open_nothing(run_dir: Path) -> None:
    wrong = {
        "../../secret": {"video_id": "../../secret"},
        "/etc/passwd": {"media": "/etc/passwd"},
        "http": {"media": "http://127.0.0.1:9/v.mp4"},
        "none": {"video_id": None},
        "reversed": {"start": 3, "end": 1},
        "number": {"media": 7},
    }
    rows = [row(0, id=name) | change for name, change in wrong.items()]
    write_lines(run_dir / "train.jsonl", rows)
    (run_dir / "rejected.jsonl").write_text("not JSON\n[1]\n")
    assert main(["page", f"run_dir={run_dir}"]) == 0
    items = items_of(run_dir / "review/review.html")
    assert items.keys() == {*wrong, "r5"}
    assert not [name for name, item in items.items() if item["frames"] or not item["missing"]]


def test_agreement_of_two(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ann = [
        *(review(one, "accept", "ann") for one in ROWS[:5]),
        review(REJECTED[0], "reject", "ann"),
    ]
    bob = [*(review(one, "accept", "bob") for one in ROWS[:4]), review(ROWS[4], "reject", "bob")]
    bob += [review(REJECTED[0], "accept", "bob"), review(row(99), "accept", "bob")]
    write_lines(run_dir / "reviews/review-ann.jsonl", ann)
    write_lines(run_dir / "reviews/review-bob.jsonl", bob)
    assert main(["agreement", f"run_dir={run_dir}"]) == 0
    numbers = json.loads((run_dir / "review/agreement.json").read_text())
    assert (numbers["num_stale"], numbers["num_unknown"]) == (0, 1)
    pair = numbers["pairs"]["ann and bob"]
    assert pair["exact"] == pytest.approx(4 / 6)
    assert pair["kappa"] == pytest.approx((4 / 6 - (25 + 1) / 36) / (10 / 36))
    assert numbers["accepted"]["(all)"]["num_in_set"] == 6
    # ego4d: 2 of 3 rows, of 3 in the set; world: 2 of 2, of 3.
    assert numbers["accepted"]["(all)"]["precision"] == pytest.approx((2 / 3 + 1) / 2)
    assert numbers["rejected"]["temporal"]["num_in_set"] == 2
    told = capsys.readouterr().out
    assert "agreement of two reviewers (Cohen's kappa)" in told
    assert "| ann and bob | 6 |" in (run_dir / "review/agreement.md").read_text()
    assert main(["agreement", f"run_dir={run_dir}", f"reviews=[{run_dir}/reviews/x.jsonl]"]) == 2


def test_the_reviewed_set(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["apply", f"run_dir={run_dir}"]) == 2
    assert "there are no reviews: put the files that the page saves into" in capsys.readouterr().err
    other = row(2, causal_explanation=["Older."])
    reviews = [review(ROWS[0], "accept", "ann"), review(ROWS[1], "reject", "ann")]
    reviews += [review(ROWS[5], "edit", "ann"), review(other, "reject", "ann")]
    reviews += [review(REJECTED[0], "accept", "ann"), review(row(99), "accept", "ann")]
    write_lines(run_dir / "reviews/review-ann.jsonl", reviews)
    assert main(["apply", f"run_dir={run_dir}", f"output={run_dir}/../set"]) == 2
    assert "the set itself is never overwritten" in capsys.readouterr().err
    assert main(["apply", f"run_dir={run_dir}"]) == 0
    train, val = (
        list(map(json.loads, (run_dir / f"reviewed/{name}.jsonl").read_text().splitlines()))
        for name in ("train", "val")
    )
    assert [one["id"] for one in train] == ["r0", "r2", "r3", "r4"]
    assert train[1] == ROWS[2] | {"review": {"decision": "", "reviewers": [], "reviewed_at": ""}}
    assert val[0]["causal_explanation"] == ["It was kicked."]
    assert val[0]["review"] == {
        "decision": "edit",
        "reviewers": ["ann"],
        "reviewed_at": "2026-02-01T10:00:00+00:00",
    }
    assert json.loads((run_dir / "reviewed/reviews.json").read_text()) == {
        "rows": 6,
        "not_reviewed": 3,
        "accepted": 1,
        "edited": 1,
        "rejected": 1,
        "reviews_of_another_version": 1,
        "of_answers_that_the_gate_rejected": 1,
        "of_rows_that_the_set_has_not": 1,
    }


def test_what_is_no_set_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["page", f"run_dir={tmp_path}"]) == 2
    assert "there is no train.jsonl and no val.jsonl: name the folder" in capsys.readouterr().err
    assert main(["page", "num_rows=0", "frames=some"]) == 2
    assert "frames" in capsys.readouterr().err
