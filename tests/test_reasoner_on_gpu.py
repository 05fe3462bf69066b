"""A GPU gives in float32 what the CPU gives: losses, gradients and answers of a tiny reasoner.

Not run on a GPU so far: none was at hand.
"""

import copy

import pytest
import torch
from gpu_twins import DEVICES

from vidreason.model import DecodingConfig
from vidreason.perception.visual_tokens import collate_visual_tokens
from vidreason.reasoning.text_batch import collate_texts, move_texts

PROMPTS = ("what?", "why did the red ball stop rolling?")


@pytest.fixture
def videos(make_visual_tokens):
    return collate_visual_tokens([make_visual_tokens(2, 3, 0), make_visual_tokens(3, 0, 1)])


@pytest.fixture
def moved(tiny_reasoner):
    """``moved(device)`` gives the reasoner with the same weights there."""
    return lambda device: copy.deepcopy(tiny_reasoner).to(device)


@pytest.mark.parametrize("device", DEVICES)
def test_values_and_gradients_are_those_of_the_cpu(moved, videos, device):
    results = []
    for where in ("cpu", device):
        reasoner = moved(where).train()
        texts = [reasoner.encode_example(p, f"because {p}", 200) for p in PROMPTS]
        visual = {name: value.to(where) for name, value in videos.items()}
        values = reasoner(visual, move_texts(collate_texts(texts), torch.device(where)))
        (-values.mean()).backward()
        gradients = [p.grad.cpu() for p in reasoner.fusion.parameters() if p.grad is not None]
        results.append((values.detach().cpu(), gradients))
    (expected, expected_gradients), (actual, gradients) = results
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)
    assert gradients
    for one, other in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("strategy", ["greedy", "beam"])
@pytest.mark.parametrize("device", DEVICES)
def test_answers_are_those_of_the_cpu(moved, videos, device, strategy):
    decoding = DecodingConfig(strategy=strategy, max_new_tokens=12, num_beams=2)
    expected, actual = (
        moved(where).generate_ids(videos, PROMPTS, decoding) for where in ("cpu", device)
    )
    assert actual == expected
    assert any(actual)


@torch.no_grad()
@pytest.mark.parametrize("device", DEVICES)
def test_options_have_the_scores_of_the_cpu(moved, videos, device):
    options = ("it hit a wall", "it hit", "no reason")
    results = []
    for where in ("cpu", device):
        reasoner = moved(where)
        texts = [reasoner.encode_example(p, o, 200) for p in PROMPTS for o in options]
        visual = {name: value.to(where) for name, value in videos.items()}
        results.append(reasoner.response_log_likelihoods(visual, [0, 0, 0, 1, 1, 1], texts))
    (expected, expected_counts), (actual, counts) = results
    torch.testing.assert_close(actual, expected, atol=1e-3, rtol=1e-4)
    assert torch.equal(counts, expected_counts)
    assert torch.equal(actual.view(2, 3).argmax(1), expected.view(2, 3).argmax(1))
