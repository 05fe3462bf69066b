"""A tiny video language model behind ``transformers serve``, asked as a baseline."""

import pytest
import torch
from blind_frames import no_frames
from served_model import served_model

from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.endpoint import Endpoint
from vidreason.baselines.frames import Frames
from vidreason.endpoints.config import EndpointConfig
from vidreason.example import Example
from vidreason.reasoning.reasoner_config import DecodingConfig


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Address and model id of a server in a process of its own."""
    with served_model(tmp_path_factory.mktemp("served")) as served:
        yield served


@pytest.mark.slow
def test_frames_reach_a_model_that_is_served(served, tmp_path):
    url, model = served
    config = BaselineConfig(
        kind="endpoint",
        weights={"model": model},
        num_frames=3,
        replies=str(tmp_path / "replies.sqlite"),
        endpoint=EndpointConfig(base_url=url, api_key_variable="", timeout_seconds=120),
    )
    system = Endpoint.load(config, DecodingConfig(max_new_tokens=4), torch.device("cpu"))
    pixels = torch.zeros(3, 3, 56, 56, dtype=torch.uint8)
    seen = Frames(pixels, (0.5, 1.5, 2.5), (5, 15, 25), 30, 3.0)
    other = seen._replace(pixels=pixels + 200)
    question = Example(
        id="q", corpus="nextqa", media="m", video_id="v", prompt="What is it?", response=""
    )
    shown, bright, blind = system.answer([seen, other, no_frames(seen)], [question] * 3)
    assert shown.num_generated_tokens == bright.num_generated_tokens == 4
    # The pictures are tokens of the prompt, as many of each video, and they change the answer.
    assert shown.num_prompt_tokens == bright.num_prompt_tokens > blind.num_prompt_tokens
    assert shown.output != bright.output
