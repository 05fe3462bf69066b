"""Verifiers from their configurations."""

from dataclasses import replace
from pathlib import Path

import torch

from vidreason.baselines.build import Baseline, system_class
from vidreason.evaluation.config import Control
from vidreason.evaluation.controls import controlled_source
from vidreason.evidence.calibrated_verifier import CalibratedVerifier, SignalSource
from vidreason.evidence.calibration import CALIBRATION_FILE, Calibration, read_calibration
from vidreason.evidence.config import VerifierConfig
from vidreason.evidence.reasoner_signals import ReasonerSignals
from vidreason.evidence.system_signals import UNCALIBRATED, SystemSignals
from vidreason.evidence.verifier import Verifier
from vidreason.model import VideoReasoner
from vidreason.perception.perceiver import build_perceiver, shown_tokens
from vidreason.perception.visual_tokens import VisualTokens
from vidreason.pretrained.hub import local_reasoner_folder
from vidreason.pretrained.identity import reasoner_identity
from vidreason.pretrained.packaged import shipped_reasoner
from vidreason.reasoning.reasoner_config import DecodingConfig
from vidreason.video.reader import GUARDED, VideoReader

SHIPPED = "shipped"
"""Name of the reasoner that comes with the package."""
_MAX_WORDS = 16  # tokens of an answer in words
_NAME = "verifier"


def build_verifier(config: VerifierConfig, device: str | torch.device = "cpu") -> Verifier | None:
    """Load the model that verifies claims.

    Args:
        config: Which model, and how sure it has to be.
        device: Where it computes.

    Returns:
        None where the configuration names no model.

    Raises:
        ValueError: The model or its calibration is missing, damaged or of another kind.
    """
    if not config.model:
        return None
    source = signal_source(config, device)
    return CalibratedVerifier(source, calibration_of(config, source), config.threshold)


def signal_source(
    config: VerifierConfig,
    device: str | torch.device = "cpu",
    reader: VideoReader = GUARDED,
    control: Control = "none",
) -> SignalSource:
    """Load the model without its calibration: what one is fitted on.

    Args:
        config: Which model.
        device: Where it computes.
        reader: Reads the videos.
        control: Replacement of what it is shown, other than another video.

    Raises:
        ValueError: The model is missing, damaged or of another kind.
    """
    if config.kind == "reasoner":
        return _reasoner_signals(config, device, reader, control)
    # Yes and no are scored as texts, whatever the configuration says of options.
    system = replace(
        config.system, kind=config.kind, weights={"model": config.model}, option_scoring="text"
    )
    decoding = DecodingConfig(max_new_tokens=_MAX_WORDS)
    problems = system_class(system).problems(system, decoding)
    if problems:
        raise ValueError(f"verifier: {'; '.join(problems)}")
    baseline = Baseline(_NAME, {_NAME: system}, decoding, torch.device(device), reader)
    return SystemSignals(baseline.answerer([], control), reader, config.margin_seconds)


def calibration_of(config: VerifierConfig, source: SignalSource) -> Calibration:
    """Read the calibration that a configuration names, or that of its model.

    Args:
        config: Which model.
        source: The model as it is loaded.

    Raises:
        ValueError: It is missing, damaged, or was fitted on signals of something else.
    """
    path = Path(config.calibration)
    if not config.calibration:
        if config.kind != "reasoner":
            return UNCALIBRATED
        path = reasoner_folder(config) / CALIBRATION_FILE
        if not path.is_file():
            raise ValueError(
                f"{path} is missing: likelihoods of claims become probabilities by a calibration; "
                "fit one with `python -m experiments.verify`, and name it by verifier.calibration"
            )
    calibration = read_calibration(path)
    # One that does not say what it was fitted on is taken to fit.
    fitted_on = calibration.provenance.get("model", source.source_id)
    if fitted_on != source.source_id:
        raise ValueError(
            f"{path} was fitted on {fitted_on}, and the verifier is {source.source_id}: another "
            "model, other margins or other code; fit one for it with "
            "`python -m experiments.verify`, and name it by verifier.calibration"
        )
    return calibration


def reasoner_folder(config: VerifierConfig) -> Path:
    """Return the folder of the reasoner that a configuration names, downloaded if need be."""
    return shipped_reasoner() if config.model == SHIPPED else local_reasoner_folder(config.model)


def _reasoner_signals(
    config: VerifierConfig, device: str | torch.device, reader: VideoReader, control: Control
) -> ReasonerSignals:
    folder = reasoner_folder(config)
    reasoner = VideoReasoner.from_pretrained(folder, device)
    assert reasoner.perceiver is not None  # it comes with every folder
    perceiver = build_perceiver(reasoner.perceiver, device, reader)

    def shown(media: str, start: float | None, end: float | None) -> VisualTokens:
        return shown_tokens(perceiver.perceive(media, start, end), perceiver.config)

    return ReasonerSignals(
        reasoner,
        controlled_source(shown, [], control),
        reader,
        f"reasoner:{reasoner_identity(folder).model[:16]}",
        config.margin_seconds,
        config.context_seconds,
    )
