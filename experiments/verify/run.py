"""The measurement of a verifier: signals of all claims, a calibration, scores, controls, tables."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]

from experiments.verify.claims import KnownClaim, known_claims, write_videos
from experiments.verify.config import VerifyConfig
from experiments.verify.scores import score_rows, scores_table
from experiments.writer_lock import sole_writer
from vidreason.atomic_file import write_atomically, write_json_atomically
from vidreason.devices import torch_device
from vidreason.evaluation.manifest import digest_of
from vidreason.evaluation.tables import record_row
from vidreason.evidence.build import calibration_of, signal_source
from vidreason.evidence.calibrated_verifier import SignalSource
from vidreason.evidence.calibration import (
    CALIBRATION_FILE,
    Calibration,
    Signals,
    fit_calibration,
    write_calibration,
)
from vidreason.microworld.oracle_verifier import OracleVerifier, rollouts_by_path
from vidreason.video.reader import GUARDED

SUMMARY_FILE = "summary.json"
TABLES_FILE = "tables.md"
CLAIMS_FILE = "claims.jsonl"


def verify(config: VerifyConfig) -> int:
    """Fit a calibration, measure the verifier with it, print the tables and write all files.

    Raises:
        ValueError: The model is missing or damaged; or another process writes to the same folder.
        VideoReadError: A video that was written cannot be read.
    """
    folder = Path(config.run_dir)
    with sole_writer(folder, "verify"):
        return _verify_into(folder, config)


def _verify_into(folder: Path, config: VerifyConfig) -> int:
    device = torch_device(config.device)
    # The model first: what is wrong with it is said before videos are rendered.
    source = signal_source(config.verifier, device)
    tests = _claims(folder, "test", config.num_videos, config.world_seed)
    calibration = _calibration(folder, config, source)
    # One that is configured wins over the fitted one.
    threshold = config.verifier.threshold
    threshold = calibration.threshold if threshold is None else threshold
    signals = _signals(folder / "signals", source, tests)
    runs = {
        "the verifier": (tests, calibration.probabilities(signals)),
        "oracle of the event log": (tests, _oracle_scores(config, tests)),
    }
    # All claims about the first videos, in the order in which these were drawn.
    first = {claim.video_id: None for claim in tests}
    chosen = set(islice(first, config.num_control_videos))
    controlled = [claim for claim in tests if claim.video_id in chosen]
    blind = signal_source(config.verifier, device, GUARDED, "blind")
    for name, of_control, shown in (
        ("blind", blind, controlled),
        ("another video", source, _exchanged(controlled)),
    ):
        # In a folder of its own: the blind model has the id of the seeing one.
        values = _signals(folder / f"signals_{name.replace(' ', '_')}", of_control, shown)
        runs[name] = (shown, calibration.probabilities(values))
    rows = {
        name: score_rows(claims, scores, threshold, config.false_alarms)
        for name, (claims, scores) in runs.items()
    }
    _write(folder, config, source.source_id, calibration, rows, runs["the verifier"])
    return 0


def _claims(folder: Path, split: str, num_videos: int, seed: int) -> list[KnownClaim]:
    videos = folder / "videos" / f"{split}-{seed}"
    write_videos(videos, split, num_videos, seed)
    return list(known_claims(videos, split, num_videos, seed))


def _calibration(folder: Path, config: VerifyConfig, source: SignalSource) -> Calibration:
    """Fit it and write it, or read that of the verifier."""
    if not config.num_fit_videos:
        return calibration_of(config.verifier, source)
    # What is chosen on videos of this split is measured on those of the other one.
    claims = _claims(folder, "val", config.num_fit_videos, config.world_seed)
    signals = _signals(folder / "signals", source, claims)
    calibration = fit_calibration(
        signals,
        [known.is_true for known in claims],
        [known.video_id for known in claims],
        config.false_alarms,
        {
            "model": source.source_id,
            "claims": f"{len(claims)} planted claims about {config.num_fit_videos} validation "
            f"videos of the microworld, world_seed={config.world_seed}",
            "false_alarms": config.false_alarms,
        },
    )
    write_calibration(folder / CALIBRATION_FILE, calibration)
    return calibration


def _oracle_scores(config: VerifyConfig, claims: Sequence[KnownClaim]) -> list[float]:
    oracle = OracleVerifier(rollouts_by_path(config.world_seed))
    return [support.score for support in oracle.verify([known.claim for known in claims])]


def _exchanged(claims: Sequence[KnownClaim]) -> list[KnownClaim]:
    """Return the claims about the next video each, which they were not made for."""
    media = {known.video_id: known.claim.media for known in claims}
    following = dict(
        # The last video is followed by the first one; there are at least two.
        zip(media, [*list(media.values())[1:], *list(media.values())[:1]], strict=True)
    )
    return [
        replace(known, claim=replace(known.claim, media=following[known.video_id]))
        for known in claims
    ]


def _signals(folder: Path, source: SignalSource, claims: Sequence[KnownClaim]) -> list[Signals]:
    """Return the signals of claims; those of a video are stored once all of them are known."""
    folder.mkdir(parents=True, exist_ok=True)
    signals: list[Signals] = []
    for video_id, of_video in tqdm(list(_by_video(claims)), desc=folder.name):
        texts = [asdict(known.claim) for known in of_video]
        # By model and claims: signals of others are never taken for these.
        path = folder / f"{video_id}-{digest_of([source.source_id, texts])}.json"
        if not path.is_file():
            values = source.signals([known.claim for known in of_video])
            write_atomically(path, json.dumps([dict(of_claim) for of_claim in values]))
        signals += json.loads(path.read_text())
    return signals


def _by_video(claims: Iterable[KnownClaim]) -> Iterator[tuple[str, list[KnownClaim]]]:
    # Claims about one video follow each other.
    for video_id, of_video in groupby(claims, key=lambda known: known.video_id):
        yield video_id, list(of_video)


def _write(
    folder: Path,
    config: VerifyConfig,
    source_id: str,
    calibration: Calibration,
    rows: dict[str, dict[str, dict[str, Any]]],
    verified: tuple[Sequence[KnownClaim], Sequence[float]],
) -> None:
    share = f"{100 * config.false_alarms:g}% false alarms"
    tables = [
        scores_table(f"{name}: AUROC, and recall of false claims at {share}, in %", of_run)
        for name, of_run in rows.items()
    ]
    summary = {
        "config": asdict(config),
        "model": source_id,
        "calibration": asdict(calibration),
        "rows": {
            name: {kind: record_row(numbers) for kind, numbers in of_run.items()}
            for name, of_run in rows.items()
        },
    }
    lines = [
        json.dumps(
            {**asdict(known.claim), "kind": known.kind, "is_true": known.is_true}
            | {"video_id": known.video_id, "form": known.form, "score": score}
        )
        for known, score in zip(*verified, strict=True)
    ]
    write_atomically(folder / CLAIMS_FILE, "\n".join(lines) + "\n")
    write_json_atomically(folder / SUMMARY_FILE, summary)
    markdown = "\n\n".join(table.to_markdown() for table in tables) + "\n"
    write_atomically(folder / TABLES_FILE, markdown)
    print("\n\n".join(table.to_text() for table in tables))
