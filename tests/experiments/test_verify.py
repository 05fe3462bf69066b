"""The program that measures verifiers, with a scripted model and with the shipped one."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.verify import run
from experiments.verify.__main__ import main
from experiments.verify.claims import KnownClaim, known_claims, write_videos
from experiments.verify.scores import score_rows
from vidreason.evaluation.confidence.calibration import confidence_auroc
from vidreason.evaluation.statistics.intervals import bootstrap_statistic
from vidreason.evidence.build import signal_source
from vidreason.evidence.config import VerifierConfig
from vidreason.evidence.verifier import Claim
from vidreason.microworld.oracle_verifier import OracleVerifier, rollouts_by_path
from vidreason.microworld.planted_errors import ERROR_KINDS


class ScriptedSource:
    """A model that knows the event log, and errs about every seventh claim."""

    source_id = "scripted"

    def __init__(self, seed: int) -> None:
        self.oracle = OracleVerifier(rollouts_by_path(seed))
        self.num_claims = 0

    def signals(self, claims):
        values = []
        for support in self.oracle.verify(claims):
            self.num_claims += 1
            wrong = self.num_claims % 7 == 0
            values.append({"odds": (1.0 if support.is_supported != wrong else -1.0)})
        return values


def known(kind: str, video: int, *, is_true: bool) -> KnownClaim:
    claim = Claim(text="x", media=f"{video}.mp4")
    return KnownClaim(claim=claim, video_id=str(video), kind=kind, form="step", is_true=is_true)


def test_numbers_of_known_scores() -> None:
    claims = [
        known(kind, video, is_true=is_true)
        for video in range(50)
        for kind in ("wrong_object", "wrong_cause")
        for is_true in (False, True)
    ]
    # Wrong objects are told apart, wrong causes are not.
    scores = [
        0.9 if claim.is_true else 0.1 if claim.kind == "wrong_object" else 0.9 for claim in claims
    ]
    rows = score_rows(claims, scores, threshold=0.5, false_alarms=0.05)
    assert rows["wrong_object"]["auroc"][0] == 1.0
    assert rows["wrong_cause"]["auroc"][0] == 0.5
    assert rows["all"]["auroc"][0] == 0.75
    assert rows["wrong_object"]["recall"][0] == rows["wrong_object"]["recall_deployed"][0] == 1.0
    assert rows["wrong_cause"]["recall"][0] == 0.0
    assert rows["all"]["recall"][0] == 0.5
    assert rows["all"]["false_alarms_deployed"][0] == 0.0
    assert rows["all"]["num_false"] == rows["all"]["num_true"] == 100
    assert rows["wrong_cause"]["ece"][0] == pytest.approx(0.4)
    assert set(rows) == {"all", "wrong_object", "wrong_cause"}


def test_a_measurement_writes_its_files_and_asks_once(tmp_path, monkeypatch, capsys) -> None:
    sources: list[ScriptedSource] = []

    def scripted(*_: object) -> ScriptedSource:
        sources.append(ScriptedSource(seed=5))
        return sources[-1]

    monkeypatch.setattr(run, "signal_source", scripted)
    argv = [
        *(f"run_dir={tmp_path}", "world_seed=5", "num_videos=4", "num_fit_videos=4"),
        *("num_control_videos=2", "device=cpu"),
    ]
    assert main(argv) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary["rows"]) == {
        "the verifier",
        "oracle of the event log",
        "blind",
        "another video",
    }
    oracle = summary["rows"]["oracle of the event log"]
    assert set(ERROR_KINDS) <= set(oracle)
    assert all(numbers["auroc"] == 1.0 == numbers["recall"] for numbers in oracle.values())
    assert 0.5 < summary["rows"]["the verifier"]["all"]["auroc"] < 1.0
    # True claims about one video are not true of another one.
    assert summary["rows"]["another video"]["all"]["recall"] <= 0.5
    lines = [json.loads(line) for line in (tmp_path / "claims.jsonl").read_text().splitlines()]
    assert len(lines) == summary["rows"]["the verifier"]["all"]["num_false"] * 2
    assert {line["is_true"] for line in lines} == {True, False}
    calibration = json.loads((tmp_path / "verifier.json").read_text())
    assert calibration["provenance"]["model"] == "scripted"
    assert "validation" in calibration["provenance"]["claims"]
    assert "**oracle of the event log" in (tmp_path / "tables.md").read_text()
    # A second start verifies nothing again, and finds the same.
    sources.clear()
    assert main(argv) == 0
    assert not any(source.num_claims for source in sources)
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    # The calibration that it wrote is taken as it is.
    taken = [f"verifier.calibration={tmp_path / 'verifier.json'}", "num_fit_videos=0"]
    assert main([*argv, *taken]) == 0
    assert json.loads((tmp_path / "summary.json").read_text())["rows"] == summary["rows"]
    capsys.readouterr()


def test_no_model_is_a_mistake(capsys) -> None:
    assert main(["verifier.model="]) != 0
    assert "verifier.model is empty" in capsys.readouterr().err


def claims_of(folder: Path, split: str, num_videos: int, seed: int) -> list[KnownClaim]:
    write_videos(folder, split, num_videos, seed)
    return list(known_claims(folder, split, num_videos, seed))


@pytest.mark.slow
def test_the_shipped_reasoner_verifies_by_what_it_sees(tmp_path) -> None:
    """With the video it tells true from false; without it, texts alone tell nothing."""
    config = VerifierConfig(model="shipped")
    claims = [
        known
        for known in claims_of(tmp_path, "test", 16, 460)
        if known.kind in ("wrong_object", "invented_event")
    ]
    truth = np.array([float(known.is_true) for known in claims])
    found_apart = {}
    for control in ("none", "blind"):
        source = signal_source(config, control=control)
        values = source.signals([known.claim for known in claims])
        # From 0 to 1, in the order of the signal.
        ranks = np.argsort(np.argsort([one["event_video"] for one in values])) / len(values)

        def auroc(indices, ranks=ranks):
            return confidence_auroc(ranks[indices], truth[indices])

        found_apart[control] = bootstrap_statistic(auroc, [known.video_id for known in claims])
    seen, blind = found_apart["none"], found_apart["blind"]
    assert seen.low > 0.7
    assert blind.low <= 0.5 <= blind.high
