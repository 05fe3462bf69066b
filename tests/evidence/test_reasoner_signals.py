"""A reasoner as a verifier: tiny untrained ones, on videos of the microworld."""

import hashlib
import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_shipped import write_tiny_reasoner

from vidreason.evidence.build import build_verifier, signal_source
from vidreason.evidence.calibrated_verifier import CalibratedVerifier
from vidreason.evidence.calibration import Calibration, write_calibration
from vidreason.evidence.config import VerifierConfig
from vidreason.evidence.reasoner_signals import ReasonerSignals
from vidreason.evidence.verifier import Claim
from vidreason.microworld.renderer import write_video
from vidreason.microworld.scenes import rollout_of
from vidreason.reasoning.reasoner_config import DecodingConfig
from vidreason.video.failures import VideoReadError
from vidreason.video.reader import DIRECT

TEXTS = (
    "the red circle hits the blue square, so the blue square starts moving",
    "the wall blocks the red circle before the blue square leaves on the right",
    "the blue square starts moving because the red circle hits it",
    "the mechanic uses a torque wrench to ensure they are at the specified tightness",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two videos, and a file that is none."""
    root = tmp_path_factory.mktemp("verifier")
    for number in (0, 1):
        write_video(rollout_of("test", number, 77), root / f"{number}.mp4")
    (root / "broken.mp4").write_bytes(b"no video")
    return root


@pytest.fixture
def spans() -> list[tuple]:
    """The spans that were looked at."""
    return []


@pytest.fixture
def source(tiny_reasoner, make_visual_tokens, spans) -> ReasonerSignals:
    """Signals of the tiny reasoner, whose tokens of a span are drawn by its file's name."""

    def tokens(media, start, end):
        spans.append((media, start, end))
        # Not by the folder, which is another one in each run.
        digest = hashlib.sha256(f"{Path(media).name}|{start}|{end}".encode()).digest()
        return make_visual_tokens(4, 3, seed=int.from_bytes(digest[:4]))

    tiny_reasoner.decoding = DecodingConfig(max_new_tokens=8)
    return ReasonerSignals(tiny_reasoner, tokens, DIRECT, "m", 0.5, 10.0)


def even(source, folder) -> Calibration:
    """A calibration that weighs every signal."""
    (names,) = source.signals([Claim(text="a b c", media=str(folder / "0.mp4"))])
    weights = {name: 1e-3 * (number + 1) for number, name in enumerate(sorted(names))}
    return Calibration(weights=weights, intercept=1.0, threshold=0.3)


def claims(folder, number=0) -> list[Claim]:
    media = str(folder / f"{number}.mp4")
    spans = [(1.0, 2.0), (0.5, 4.0), (None, None), (5.0, 6.0)]
    return [
        Claim(text=text, media=media, start_seconds=start, end_seconds=end)
        for text, (start, end) in zip(TEXTS, spans, strict=True)
    ]


def test_scores_depend_on_nothing_but_claim_and_video(source, folder) -> None:
    verifier = CalibratedVerifier(source, even(source, folder))
    mixed = [*claims(folder, 0)[:3], claims(folder, 1)[1]]
    together = verifier.verify(mixed)
    assert together == verifier.verify(mixed)
    backwards = verifier.verify(mixed[::-1])[::-1]
    alone = [verifier.verify([claim])[0] for claim in mixed]
    for one, other, third in zip(together, backwards, alone, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-4)
        assert one.score == pytest.approx(third.score, abs=1e-4)
        assert 0 < one.score < 1
        assert one.is_supported == (one.score >= 0.3)
    # The same sentence about the same span of another video.
    assert abs(together[1].score - together[3].score) > 1e-4
    assert verifier.verify([]) == []


def test_signals_differ_with_span_video_and_form(source, folder) -> None:
    event, order, cause, tool = (source.signals([claim])[0] for claim in claims(folder))
    for signals in (event, tool):
        assert signals["is_order"] == signals["is_cause"] == signals["order_span"] == 0
    assert order["is_order"] == cause["is_cause"] == 1
    assert order["event_span"] == order["cause_span"] == 0
    # A whole video is looked at twice, and a span differs from its context.
    assert cause["cause_span"] == cause["cause_video"] != 0
    assert tool["event_span"] != tool["event_video"]
    (moved,) = source.signals([replace(claims(folder)[3], start_seconds=1.0, end_seconds=2.0)])
    assert moved["event_span"] != tool["event_span"]
    assert moved["event_video"] == pytest.approx(tool["event_video"], abs=1e-3)


def test_an_order_said_the_other_way_round_has_the_opposite_number(source, folder) -> None:
    order = claims(folder)[1]
    one, other = order.text.split(" before ")
    said = [order, replace(order, text=f"{other} after {one}")]
    said += [replace(order, text=f"{other} before {one}")]
    same, also, opposite = source.signals(said)
    assert same == also
    assert opposite["order_span"] == pytest.approx(-same["order_span"], abs=1e-3)
    assert opposite["order_events_span"] == pytest.approx(same["order_events_span"], abs=1e-3)


def test_an_unreadable_video_raises(source, folder) -> None:
    for name in ("broken.mp4", "absent.mp4"):
        with pytest.raises(VideoReadError, match=name):
            source.signals([*claims(folder)[:1], Claim(text="x", media=str(folder / name))])


def test_control_tokens_and_long_texts_are_texts(source, folder) -> None:
    media = str(folder / "0.mp4")
    hostile = ["<|end_of_turn|>", "\x00\x1b[2J", "\u202e", "{{ x }} ${y}", "1. \n2. ", "\ud83d"]
    values = source.signals([Claim(text=text, media=media) for text in hostile])
    assert len(values) == len(hostile)
    assert len({tuple(signals.values()) for signals in values}) == len(hostile)


def test_claims_of_a_span_share_what_is_perceived(source, folder, spans) -> None:
    media = str(folder / "0.mp4")
    source.signals(
        [
            Claim(text=text, media=media, start_seconds=start, end_seconds=start + 1)
            for start, text in itertools.product((1.0, 3.0), TEXTS)
        ]
    )
    assert len(spans) == len(set(spans)) == 3  # two spans and the whole video


def test_no_model_is_no_verifier() -> None:
    assert build_verifier(VerifierConfig()) is None


@pytest.mark.slow
def test_a_verifier_is_built_from_its_configuration(folder, tmp_path) -> None:
    write_tiny_reasoner(tmp_path / "reasoner")
    config = VerifierConfig(model=str(tmp_path / "reasoner"))
    with pytest.raises(ValueError, match=r"verifier\.json is missing.*experiments\.verify"):
        build_verifier(config)
    source, claim = signal_source(config), claims(folder)[2]
    (signals,) = source.signals([claim])
    calibration = even(source, folder)
    write_calibration(tmp_path / "reasoner" / "verifier.json", calibration)
    verifier = build_verifier(config)
    assert verifier is not None
    (support,) = verifier.verify([claim])
    assert support.score == pytest.approx(calibration.probabilities([signals])[0], abs=1e-4)
    with pytest.raises(VideoReadError):
        verifier.verify([replace(claim, start_seconds=70.0, end_seconds=71.0)])
    # Without the video, no span is like the true one.
    (blind,) = signal_source(config, control="blind").signals([claim])
    assert blind["cause_span"] != signals["cause_span"]
    # All that changes answers is in the id.
    write_calibration(tmp_path / "other.json", replace(calibration, intercept=0.0))
    ids = {
        build_verifier(changed).verifier_id
        for changed in (
            config,
            replace(config, margin_seconds=1.0),
            replace(config, context_seconds=1.0),
            replace(config, threshold=0.9),
            replace(config, calibration=str(tmp_path / "other.json")),
        )
    }
    assert len(ids) == 5
    assert verifier.verifier_id in ids
    # A calibration of other signals is refused.
    fitted = replace(calibration, provenance={"model": source.source_id})
    write_calibration(tmp_path / "reasoner" / "verifier.json", fitted)
    assert build_verifier(config) is not None
    with pytest.raises(ValueError, match="was fitted on"):
        build_verifier(replace(config, margin_seconds=1.0))


def test_numbers_out_of_range_are_refused() -> None:
    for field, value in (
        ("margin_seconds", -1.0),
        ("context_seconds", float("nan")),
        ("threshold", 1.5),
    ):
        with pytest.raises(ValueError, match=f"verifier.{field}"):
            VerifierConfig(**{field: value})
