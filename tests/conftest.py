"""Shared fixtures: a tiny tokenizer, language model and reasoner, and made-up visual tokens.

The libraries are imported where they are used: xdist's controller, which runs no test, imports this
file, and torch with transformers takes it seconds.
"""

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from run_summary import (
    pytest_collection_finish,
    pytest_configure,
    pytest_sessionfinish,
    pytest_terminal_summary,
)

if TYPE_CHECKING:
    from loopback import Loopback
    from transformers import PreTrainedTokenizerFast

    from vidreason.model import VideoReasoner
    from vidreason.perception.visual_tokens import VisualTokens

__all__ = [
    "pytest_collection_finish",
    "pytest_configure",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
]

TINY_VISUAL_DIM = 24
SPECIAL_TOKENS = ("<|begin|>", "<|end_of_turn|>", "<|user|>", "<|assistant|>", "<|pad|>")
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<|{{ message['role'] }}|>\n{{ message['content'] | trim }}<|end_of_turn|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_tokenizer() -> "PreTrainedTokenizerFast":
    """One token a byte, so any text round-trips.

    Like Llama 3's, it has a BOS in the template *and* adds one in its post-processor.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in SPECIAL_TOKENS])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", tokenizer.token_to_id("<|begin|>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|begin|>",
        eos_token="<|end_of_turn|>",
        pad_token="<|pad|>",
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


@pytest.fixture(scope="session")
def tiny_language_model_folder(
    tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: "PreTrainedTokenizerFast"
) -> str:
    """A Hugging Face folder: two-layer Llama (float32, random), tiny tokenizer; only to be read."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny-llama")
    config = LlamaConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        # Ten times the usual spread, so that random logits differ by more than rounding does.
        initializer_range=0.2,
        bos_token_id=tiny_tokenizer.bos_token_id,
        eos_token_id=tiny_tokenizer.eos_token_id,
        pad_token_id=tiny_tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def tiny_reasoner(tiny_language_model_folder: str) -> "VideoReasoner":
    """The tiny language model behind 4 queries of width 32, for TINY_VISUAL_DIM; without LoRA."""
    import torch

    from vidreason.fusion.fusion_core import FusionConfig
    from vidreason.model import ReasonerConfig, build_reasoner
    from vidreason.reasoning.language_model import LanguageModelConfig

    config = ReasonerConfig(
        fusion=FusionConfig(num_queries=4, width=32, num_layers=2, num_heads=4),
        language_model=LanguageModelConfig(
            name_or_path=tiny_language_model_folder, dtype="float32"
        ),
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return build_reasoner(config, visual_dim=TINY_VISUAL_DIM, device="cpu")


@pytest.fixture(scope="session")
def make_visual_tokens() -> "Callable[..., VisualTokens]":
    """``make(num_clips, num_objects, seed=0, visual_dim=TINY_VISUAL_DIM)``: tokens of one video."""
    import torch

    from vidreason.perception.visual_tokens import CLIP_TOKEN, OBJECT_TOKEN, VisualTokens

    def make(
        num_clips: int, num_objects: int, seed: int = 0, visual_dim: int = TINY_VISUAL_DIM
    ) -> VisualTokens:
        generator = torch.Generator().manual_seed(seed)
        total, duration = num_clips + num_objects, 8.0
        edges = torch.linspace(0.0, duration, num_clips + 1)
        moments = torch.rand(num_objects, generator=generator) * duration
        corners = torch.rand(num_objects, 2, 2, generator=generator).sort(dim=1).values
        clip_boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(num_clips, 4)
        return VisualTokens(
            features=torch.randn(total, visual_dim, generator=generator),
            kinds=torch.tensor([CLIP_TOKEN] * num_clips + [OBJECT_TOKEN] * num_objects).long(),
            spans=torch.cat(
                [
                    torch.stack([edges[:-1], edges[1:]], dim=1),
                    torch.stack([moments, moments], dim=1),
                ]
            ),
            boxes=torch.cat([clip_boxes, corners.flatten(1)]),
            areas=torch.cat(
                [torch.ones(num_clips), torch.rand(num_objects, generator=generator) * 0.2]
            ),
            track_ids=torch.tensor([-1] * num_clips + list(range(num_objects))).long(),
            masks=(None,) * num_clips + ({"size": [2, 2], "counts": [0, 1, 3]},) * num_objects,
            duration_seconds=duration,
        )

    return make


@pytest.fixture(scope="module")
def loopback() -> "Iterator[Loopback]":
    """A server on this machine that answers what a test scripts."""
    from loopback import Loopback

    server = Loopback()
    yield server
    server.close()


@pytest.fixture
def server(loopback: "Loopback", monkeypatch: pytest.MonkeyPatch) -> "Loopback":
    """A chat-completions endpoint that says ``fine``; its key is in ``TEST_KEY``, nobody waits."""
    from loopback import KEY, reply

    from vidreason.endpoints import client

    monkeypatch.setattr(client, "_FIRST_WAIT_SECONDS", 0.0)
    monkeypatch.setenv("TEST_KEY", KEY)
    loopback.script(reply("fine"))
    return loopback


@pytest.fixture(scope="session", autouse=True)
def _caches_are_kept_apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests, and the programs that they start, leave the user's own caches alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDREASON_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _no_process_group_is_left() -> Iterator[None]:
    """A process group that a test leaves open would change what the next test measures."""
    yield
    distributed = sys.modules.get("torch.distributed")
    if distributed and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
