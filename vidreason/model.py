"""``VideoReasoner``: Algorithm 1 from the visual tokens on. Fuse, prepend, loss or text.

Notable choices:

* ``forward`` returns log-likelihoods of the target tokens, never logits of all positions.
* Rows of a batch are joined to one sequence without padding, where the language model allows it.
* Options of a question share the computation of their common beginning.
* Frozen modules stay in eval mode in training: their dropout does not act.
* Decoding has one configuration; recommendations in a model's folder are not used.

Shapes: B batch, V visual tokens, Q queries, N text tokens, M targets of the batch, D width.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedTokenizerBase

from vidreason.example import Turn
from vidreason.fusion.fusion_core import Fusion, build_fusion
from vidreason.perception.config import PerceiverConfig
from vidreason.perception.visual_tokens import (
    VisualBatch,
    VisualTokens,
    collate_visual_tokens,
    move_visual_tokens,
)
from vidreason.pretrained.folder import ReasonerParts, read_folder, write_folder
from vidreason.pretrained.folder_config import Form
from vidreason.pretrained.hub import local_reasoner_folder, upload
from vidreason.pretrained.model_card import Provenance
from vidreason.reasoning.adapter_checks import check_mergeable
from vidreason.reasoning.decoding import answer_prompts
from vidreason.reasoning.evidence import parts_left_out
from vidreason.reasoning.future_search import Forecasts, FutureSearch
from vidreason.reasoning.futures import Future
from vidreason.reasoning.language_model import (
    add_lora,
    causal_lm,
    evaluating,
    load_language_model,
    load_tokenizer,
    num_word_embeddings,
    set_language_model_mode,
    word_embedding_size,
)
from vidreason.reasoning.log_likelihoods import row_log_likelihoods, text_log_likelihoods
from vidreason.reasoning.packed_attention import packs_rows
from vidreason.reasoning.reasoner_config import DecodingConfig, FuturesConfig, ReasonerConfig
from vidreason.reasoning.text_batch import TextBatch
from vidreason.reasoning.tokenization import (
    IGNORE_INDEX,
    EncodedText,
    answer_text,
    check_texts,
    encode_example,
    encode_prompt,
    stop_ids,
)

__all__ = ["DecodingConfig", "Provenance", "ReasonerConfig", "VideoReasoner", "build_reasoner"]


class VideoReasoner(nn.Module):
    """A fusion core before a frozen language model.

    Made by :func:`build_reasoner` to be trained, by :meth:`from_pretrained` to be used.

    Args:
        config: Configuration that it was built from.
        visual_dim: Width of the visual tokens.
        fusion: Visual tokens to embeddings.
        language_model: A causal language model of transformers, or one with LoRA around it.
        tokenizer: Its tokenizer; None on the meta device, where there is no text.
        perceiver: Configuration of the perceiver of its visual tokens, if known.
        decoding: Default of :meth:`generate` and :meth:`predict_futures`.
    """

    def __init__(
        self,
        config: ReasonerConfig,
        visual_dim: int,
        fusion: Fusion,
        language_model: nn.Module,
        tokenizer: PreTrainedTokenizerBase | None,
        perceiver: PerceiverConfig | None = None,
        decoding: DecodingConfig | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.visual_dim = visual_dim
        self.fusion = fusion
        self.language_model = language_model
        self.perceiver = perceiver
        self.decoding = decoding or DecodingConfig()
        self._tokenizer = tokenizer
        # transformers would fill in options from here. Decoding is configured in one place, so the
        # recommendations of the model's folder are replaced.
        causal_lm(language_model).generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
            eos_token_id=None if tokenizer is None else self.stop_ids
        )
        self.train(self.training)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The language model's tokenizer."""
        if self._tokenizer is None:
            raise ValueError("a reasoner on the meta device has no tokenizer; build it on another")
        return self._tokenizer

    @property
    def stop_ids(self) -> list[int]:
        """Tokens that end an answer."""
        return stop_ids(self.tokenizer)

    def encode_prompt(self, prompt: str, earlier_turns: Sequence[Turn] = ()) -> list[int]:
        """Return the token ids of a prompt after the configured system prompt, as in training."""
        return encode_prompt(self.tokenizer, prompt, self.config.system_prompt, earlier_turns)

    def encode_example(
        self, prompt: str, response: str, max_tokens: int, earlier_turns: Sequence[Turn] = ()
    ) -> EncodedText:
        """Return ids and labels of a prompt with its response; see :func:`encode_example`."""
        system = self.config.system_prompt
        return encode_example(self.tokenizer, prompt, response, max_tokens, system, earlier_turns)

    def train(self, mode: bool = True) -> "VideoReasoner":
        """Set training mode for modules that train; frozen ones stay in eval mode."""
        super().train(mode)
        set_language_model_mode(self.language_model, mode)
        return self

    def forward(self, visual: VisualBatch, text: TextBatch) -> Tensor:
        """Return the log-likelihood of each target token.

        Only positions that predict a target reach the output layer. The rows of the batch are
        joined to one sequence, so that nothing is computed for padding; a language model that
        cannot be told where rows begin gets them padded.

        Args:
            visual: Visual tokens of B videos.
            text: Prompts with responses about them.

        Returns:
            Shape ``(M,)``, float32, in the order of the targets.
        """
        return row_log_likelihoods(causal_lm(self.language_model), self.fusion(visual), text)

    def num_positions(self, text: TextBatch) -> tuple[int, int]:
        """Return the positions of a batch, videos included, and those computed with padding."""
        num_rows, queries = len(text["lengths"]), self.fusion.num_embeddings
        positions = len(text["input_ids"]) + num_rows * queries
        if packs_rows(causal_lm(self.language_model)):
            return positions, positions
        return positions, num_rows * (text["longest"] + queries)

    def response_log_likelihoods(
        self, visual: VisualBatch, videos: Sequence[int], texts: Sequence[EncodedText]
    ) -> tuple[Tensor, Tensor]:
        """Return log-likelihoods of texts with common beginnings, such as options of a question.

        Each video is fused once, and a common beginning of texts about it is computed once. A
        language model whose attention cannot do that gets a row for each text.

        Args:
            visual: Visual tokens of V videos.
            videos: Of each text, the index of its video.
            texts: The texts, in any order.

        Returns:
            Sums over each text's targets, float64, and their numbers, int64; on the CPU.
        """
        model = causal_lm(self.language_model)
        sums = text_log_likelihoods(model, self.fusion(visual), videos, texts)
        counts = [sum(label != IGNORE_INDEX for label in text.labels) for text in texts]
        return sums, torch.tensor(counts)

    def generate(
        self, visual: VisualBatch, prompts: Sequence[str], decoding: DecodingConfig | None = None
    ) -> list[str]:
        """Answer one prompt about each video: :meth:`decode` of :meth:`generate_ids`."""
        return self.decode(self.generate_ids(visual, prompts, decoding))

    def decode(self, ids: list[list[int]]) -> list[str]:
        """Return the texts of generated tokens; see :func:`answer_text`."""
        return [answer_text(self.tokenizer, answer) for answer in ids]

    @torch.no_grad()
    def generate_ids(
        self,
        visual: VisualBatch,
        prompts: Sequence[str],
        decoding: DecodingConfig | None = None,
        earlier_turns: Sequence[Sequence[Turn]] = (),
        videos: Sequence[int] | None = None,
    ) -> list[list[int]]:
        """Answer prompts about videos, in tokens.

        Greedy and beam search give a batch the answers that its rows get alone. The nucleus is
        drawn with ``decoding.seed`` and leaves the global random state as it was.

        Args:
            visual: Visual tokens of the videos, on any device.
            prompts: B prompts, without chat markup.
            decoding: How to choose tokens; None for the reasoner's own way.
            earlier_turns: The conversation before each prompt; empty for none.
            videos: Of each prompt, the index of its video; None where each has another one.

        Returns:
            B answers' tokens, without the one that ends an answer.
        """
        videos = range(len(visual["mask"])) if videos is None else videos
        if len(prompts) != len(videos):
            raise ValueError(f"{len(prompts)} prompts for {len(videos)} videos")
        model = causal_lm(self.language_model)
        rows = list(map(self.encode_prompt, prompts, earlier_turns or [()] * len(prompts)))
        with evaluating(self):
            decoding, video = decoding or self.decoding, self._fuse(visual)
            return answer_prompts(model, video, videos, rows, decoding, self.stop_ids)

    @torch.no_grad()
    def predict_futures(
        self, visual: VisualBatch, config: FuturesConfig | None = None, num_described: int = 0
    ) -> list[tuple[Future, ...]]:
        """Return the next events after each video with computed probabilities.

        A video gets the futures that it gets alone, but for the rounding of numbers.

        Args:
            visual: Visual tokens of B videos, on any device.
            config: How to search and weigh; None for the reasoner's own way.
            num_described: How many of each video get a justification and an expected time.

        Returns:
            Of each video, the likeliest first; none where the model writes no event.
        """
        with evaluating(self):
            video, search = self._fuse(visual), self._future_search()
            return search.futures(video, config or self.decoding.futures, num_described)

    @torch.no_grad()
    def forecast(
        self, tokens: VisualTokens, config: FuturesConfig | None = None, num_events: int = 3
    ) -> Forecasts:
        """Return the likeliest next events after one video, and the tokens that they rest on.

        Arguments are as for :meth:`predict_futures`. The prompt asks for three events.
        """
        parts, without = parts_left_out(tokens)
        with evaluating(self):
            video = self._fuse(collate_visual_tokens([tokens, *without]))
            search = self._future_search()
            return search.forecasts(video, parts, config or self.decoding.futures, num_events)

    def save_pretrained(
        self,
        folder: str | Path,
        form: Form = "trained",
        provenance: Provenance | None = None,
        *,
        known_hashes: Mapping[str, str] | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Write a folder that :meth:`from_pretrained` reads, replacing one that is there.

        A process killed in here leaves no half-written folder of this name. The reasoner is not
        changed.

        Args:
            folder: Where to.
            form: ``trained`` holds the fusion core and the adapters, and refers to the language
                model; ``merged`` has the language model in it, adapters added to its weights.
            provenance: Training data and scores, for the model card.
            known_hashes: Content hashes of the perceiver's weights, by their paths in its
                configuration; these weights need not be there.
            dtype: Of the trained weights in the files, for the form ``trained``; they load as
                float32. None for the dtype that they have.

        Raises:
            ValueError: The perceiver is not known, a frozen part is not where it was, the form
                cannot hold what was trained or has its own dtype, or ``folder`` is there and
                something else.
        """
        write_folder(self._parts(), Path(folder), form, provenance, known_hashes, dtype)

    def push_to_hub(
        self,
        repository: str,
        form: Form = "trained",
        provenance: Provenance | None = None,
        *,
        private: bool = True,
    ) -> str:
        """Upload what :meth:`save_pretrained` writes to the Hugging Face Hub.

        Args:
            repository: ``owner/name``; it is made if need be.
            form: As for :meth:`save_pretrained`.
            provenance: As for :meth:`save_pretrained`.
            private: Whether a new repository is private.

        Returns:
            Address of the commit.

        Raises:
            ValueError: As :meth:`save_pretrained`, or the Hub refuses.
        """
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "reasoner"
            self.save_pretrained(folder, form, provenance)
            return upload(folder, repository, private=private)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        device: str | torch.device = "cpu",
        *,
        revision: str | None = None,
        frozen_parts: Mapping[str, str] | None = None,
    ) -> "VideoReasoner":
        """Read a folder that :meth:`save_pretrained` has written; the reasoner is in eval mode.

        Args:
            name_or_path: The folder, or a repository on the Hugging Face Hub.
            device: Where to.
            revision: Commit, tag or branch of the repository.
            frozen_parts: Where frozen parts lie here, if not where the folder says, by
                ``language_model``, ``video_encoder`` and ``segmenter``.

        Raises:
            ValueError: Something is missing, damaged or unexpected, or a frozen part has another
                content than the reasoner was trained with; the message names it.
        """
        parts = read_folder(local_reasoner_folder(name_or_path, revision), device, frozen_parts)
        return cls(**vars(parts)).eval()

    def _parts(self) -> ReasonerParts:
        if self.perceiver is None:
            raise ValueError(
                "a reasoner is of no use after another perceiver: build it with perceiver=, so "
                "that the perceiver's configuration is saved with it"
            )
        return ReasonerParts(
            config=self.config,
            visual_dim=self.visual_dim,
            fusion=self.fusion,
            language_model=self.language_model,
            tokenizer=self.tokenizer,
            perceiver=self.perceiver,
            decoding=self.decoding,
        )

    def _future_search(self) -> FutureSearch:
        model = causal_lm(self.language_model)
        return FutureSearch(model, self.tokenizer, self.config.system_prompt)

    def _fuse(self, visual: VisualBatch) -> Tensor:
        device = next(self.fusion.parameters()).device
        return cast(Tensor, self.fusion(move_visual_tokens(visual, device)))  # (B, Q, D)


def build_reasoner(
    config: ReasonerConfig,
    visual_dim: int,
    device: str | torch.device = "cpu",
    perceiver: PerceiverConfig | None = None,
) -> VideoReasoner:
    """Load the language model, and put new adapters (if configured) and a new fusion core to it.

    Args:
        config: What to build.
        visual_dim: Width of the visual tokens: the video encoder's.
        device: Where to. On ``meta``, shapes without values, and no tokenizer.
        perceiver: What the visual tokens are made with; saved with the reasoner.

    Raises:
        ValueError: There is no such language model, or its tokenizer, chat template or weights
            cannot be used so; the message says what to do.
    """
    device = torch.device(device)
    tokenizer = None if device.type == "meta" else load_tokenizer(config.language_model)
    language_model: nn.Module = load_language_model(config.language_model, device)
    if tokenizer is not None:
        check_texts(tokenizer, num_word_embeddings(language_model), config.system_prompt)
    output_dim, output_scale = word_embedding_size(language_model)
    # New weights are drawn on the CPU, so that a seed gives the same ones for every device.
    with torch.device("meta" if device.type == "meta" else "cpu"):
        fusion = build_fusion(config.fusion, visual_dim, output_dim, output_scale)
    if config.lora is not None:
        adapted = add_lora(causal_lm(language_model), config.lora)
        check_mergeable(adapted, config.language_model.quantization)
        language_model = adapted
    fusion = fusion.to(device)
    return VideoReasoner(config, visual_dim, fusion, language_model, tokenizer, perceiver)
