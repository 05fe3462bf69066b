"""Video language models as verifiers: a tiny random one of transformers, and an endpoint."""

import sys
from pathlib import Path

import pytest
from loopback import ByRequest, reply

from vidreason.baselines.config import BaselineConfig
from vidreason.endpoints.config import EndpointConfig
from vidreason.evidence.build import build_verifier
from vidreason.evidence.config import VerifierConfig
from vidreason.evidence.verifier import Claim
from vidreason.video.failures import VideoReadError

CHECKOUT = Path(__file__).parents[2]
VIDEO = str(CHECKOUT / "tests" / "assets" / "videos" / "h264_10bits.mp4")
TOOL = "the mechanic uses a torque wrench to ensure they are at the specified tightness"


@pytest.fixture(scope="module")
def qwen(tmp_path_factory) -> str:
    """The folder of a tiny random Qwen2.5-VL."""
    sys.path.insert(0, str(CHECKOUT / "tests" / "baselines"))
    try:
        from tiny_video_models import BUILDERS, write_tiny_video_model
    finally:
        sys.path.pop(0)
    return write_tiny_video_model(BUILDERS["qwen2_5_vl"], tmp_path_factory.mktemp("qwen") / "m")


def claims(media: str = VIDEO) -> list[Claim]:
    return [
        Claim(text=TOOL, media=media, start_seconds=0.1, end_seconds=0.3),
        Claim(text="a hand waves", media=media),
    ]


def test_a_video_language_model_verifies_by_its_odds(qwen) -> None:
    system = BaselineConfig(dtype="float32", num_frames=2, max_pixels=56 * 56)
    config = VerifierConfig(kind="transformers", model=qwen, margin_seconds=0.01, system=system)
    verifier = build_verifier(config)
    assert verifier is not None
    together = verifier.verify(claims())
    assert together == verifier.verify(claims())
    assert len({support.score for support in together}) == 2
    alone = [verifier.verify([claim])[0] for claim in claims()]
    for one, other in zip(together, alone, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-4)
        assert one.is_supported == (one.score >= 0.5)
    with pytest.raises(VideoReadError, match=r"absent\.mp4"):
        verifier.verify(claims(str(CHECKOUT / "absent.mp4")))


def endpoint_verifier(server, tmp_path):
    system = BaselineConfig(
        num_frames=2,
        replies=str(tmp_path / "replies.sqlite"),
        endpoint=EndpointConfig(base_url=server.url, api_key_variable="TEST_KEY", max_attempts=1),
    )
    verifier = build_verifier(VerifierConfig(kind="endpoint", model="m", system=system))
    assert verifier is not None
    return verifier


def test_an_endpoint_verifies_in_words(server, tmp_path, caplog) -> None:
    def answer(request) -> bytes:
        text = request.body["messages"][0]["content"][-1]["text"]
        assert "Answer yes or no." in text
        return reply("No, there is none." if "torque wrench" in text else "Yes.")

    server.script(ByRequest(answer))
    verifier = endpoint_verifier(server, tmp_path)
    assert [support.is_supported for support in verifier.verify(claims())] == [False, True]
    num_requests = len(server.requests)
    # Paid for once.
    verifier.verify(claims())
    assert len(server.requests) == num_requests == 2
    assert not caplog.records


def test_only_a_clear_yes_supports(server, tmp_path, caplog) -> None:
    server.script(reply("It is hard to say."))
    supports = endpoint_verifier(server, tmp_path).verify(claims())
    assert [support.is_supported for support in supports] == [False, False]
    assert "2 of 2 answers are neither yes nor no" in caplog.text


def test_an_endpoint_without_a_key_is_refused_at_the_start(tmp_path) -> None:
    system = BaselineConfig(endpoint=EndpointConfig(api_key_variable="ABSENT_KEY"))
    with pytest.raises(ValueError, match=r"verifier: .*ABSENT_KEY"):
        build_verifier(VerifierConfig(kind="endpoint", model="m", system=system))
