"""SeViLA: a localizer that says which frames help, and an answerer that looks at them.

Written from the architecture of Yui010206/SeViLA@419e728 (lavis/models/sevila_models/sevila.py:
generate) on transformers' classes.

Shapes: B questions, T frames, S image side in pixels, P patches of a frame, E width of the vision
tower, Q queries of a frame, W width of T5, L text tokens, K key frames, N input positions.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    Blip2QFormerConfig,
    Blip2VisionConfig,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.modeling_outputs import BaseModelOutput

from vidreason.baselines.blip2_parts import (
    Names,
    QueryTransformer,
    VisionTower,
    below,
    official_query_names,
    official_vision_names,
    plain_names,
    vision_norm,
)

NUM_KEY_FRAMES = 4
"""run_scripts/sevila/inference/nexqa_infer.sh: model.frame_num."""


class SevilaTokens(NamedTuple):
    """Token ids that surround frames and that answers consist of."""

    frame: list[int]
    """Before a frame of the localizer."""
    key_frames: list[list[int]]
    """Before the first, second, ... key frame of the answerer."""
    yes: int
    letters: list[int]
    """Tokens of the options, the second of an answer."""


class SevilaOutput(NamedTuple):
    """Output for a batch of questions."""

    yes_logits: Tensor
    """``(B, T)`` float32: of each frame, that it helps"""
    key_frames: list[list[int]]
    """``(B, K)`` sorted indices of the chosen frames"""
    letter_logits: Tensor
    """``(B, letters)`` float32: at the answer's second token"""


class FrameTokens(nn.Module):
    """From the tower's tokens of a frame to tokens of T5: a norm, a Q-Former and a projection.

    Args:
        vision: Sizes of the vision tower.
        queries: Sizes of the Q-Former.
        num_queries: Number of queries, Q.
        token_width: Width of T5, W.
    """

    def __init__(
        self,
        vision: Blip2VisionConfig,
        queries: Blip2QFormerConfig,
        num_queries: int,
        token_width: int,
    ) -> None:
        super().__init__()
        self.norm = vision_norm(vision)
        self.queries = QueryTransformer(queries, num_queries)
        self.projection = nn.Linear(queries.hidden_size, token_width)

    def forward(self, patches: Tensor) -> Tensor:
        """Return ``(T, Q, W)`` float32 for the tower's ``(T, 1 + P, E)``."""
        normed = self.norm(patches.to(self.norm.weight.dtype))
        tokens: Tensor = self.projection(self.queries(normed))
        return tokens


class SevilaModel(nn.Module):
    """Frames and questions in, logits of frames and of options out.

    Args:
        vision: Sizes of the vision tower, which localizer and answerer share.
        queries: Sizes of both Q-Formers.
        num_queries: Queries of a frame, Q.
        text: Sizes of T5.
    """

    def __init__(
        self,
        vision: Blip2VisionConfig,
        queries: Blip2QFormerConfig,
        num_queries: int,
        text: T5Config,
    ) -> None:
        super().__init__()
        self.vision = VisionTower(vision)
        self.localizer = FrameTokens(vision, queries, num_queries, text.d_model)
        self.answerer = FrameTokens(vision, queries, num_queries, text.d_model)
        text.dense_act_fn = "gelu"  # not the gelu_new of Flan-T5 (sevila.py: __init__)
        if getattr(text, "decoder_start_token_id", None) is None:
            text.decoder_start_token_id = text.pad_token_id  # T5's; files may leave it out
        self.t5: Any = T5ForConditionalGeneration(text)
        self.t5.generation_config.decoder_start_token_id = text.decoder_start_token_id
        # transformers ties the output layer to the embeddings; loading would overwrite these.
        self.t5.lm_head.weight = nn.Parameter(self.t5.lm_head.weight.detach().clone())

    @property
    def image_size(self) -> int:
        """Side of the frames in pixels."""
        return self.vision.image_size

    def forward(
        self,
        pixels: Tensor,
        localizer_ids: Tensor,
        answerer_ids: Tensor,
        tokens: SevilaTokens,
    ) -> SevilaOutput:
        """Localize key frames and score options.

        Args:
            pixels: ``(B, T, 3, S, S)`` frames, normalised as CLIP's.
            localizer_ids: ``(B, L)`` texts for the localizer, padded on the right.
            answerer_ids: ``(B, L')`` texts for the answerer, padded on the right.
            tokens: As many ``key_frames`` as are chosen, at most T.
        """
        # All frames at once: (B, T, 3, S, S) -> (B * T, 1 + P, E) -> (B, T, 1 + P, E)
        patches = self.vision(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])
        yes_logits = torch.stack(
            [
                self.yes_logits(frames, ids, tokens)
                for frames, ids in zip(patches, localizer_ids, strict=True)
            ]
        )
        key_frames = [best_frames(logits, len(tokens.key_frames)) for logits in yes_logits]
        inputs = [
            self.answerer_input(frames[chosen], ids, tokens)
            for frames, chosen, ids in zip(patches, key_frames, answerer_ids, strict=True)
        ]
        letter_logits = self.second_logits(*pad_inputs(inputs))[:, tokens.letters]
        return SevilaOutput(yes_logits, key_frames, letter_logits)

    def yes_logits(self, patches: Tensor, ids: Tensor, tokens: SevilaTokens) -> Tensor:
        """Return the logits ``(T,)`` of "yes" as the first word about each frame.

        Args:
            patches: The tower's tokens ``(T, 1 + P, E)``.
            ids: The localizer's text ``(L,)``; padding is not looked at.
            tokens: What stands before a frame, and "yes".
        """
        count = len(patches)
        visual = self.localizer(patches)
        before = torch.tensor(tokens.frame, device=ids.device)
        # "Frame: ", the frame's tokens, the text: (T, len(before) + Q + L, W)
        words = self._embed(before).expand(count, -1, -1)
        text = self._embed(ids).expand(count, -1, -1)
        embeddings = torch.cat([words, visual.to(words.dtype), text], dim=1)
        mask = torch.ones(embeddings.shape[:2], dtype=torch.int64, device=ids.device)
        # All is seen but the padding of the text.
        mask[:, -len(ids) :] = (ids != self.t5.config.pad_token_id).long()
        start = ids.new_full((count, 1), self.t5.config.decoder_start_token_id)
        output = self.t5(inputs_embeds=embeddings, attention_mask=mask, decoder_input_ids=start)
        logits: Tensor = output.logits[:, 0, tokens.yes].float()  # (T, 1, words) -> (T,)
        return logits

    def answerer_input(
        self, patches: Tensor, ids: Tensor, tokens: SevilaTokens
    ) -> tuple[Tensor, Tensor]:
        """Return T5's input about key frames: embeddings ``(N, W)`` and their mask ``(N,)``.

        Args:
            patches: The tower's tokens of the key frames, ``(K, 1 + P, E)``; K may be 0.
            ids: The answerer's text ``(L,)``.
            tokens: What stands before the frames; the first K are taken.
        """
        text, padding = self._embed(ids), self.t5.config.pad_token_id
        text_mask = (ids != padding).long()
        if not len(patches):
            return text, text_mask
        visual = self.answerer(patches)
        # "Frame 1: " and so on, padded to one length: (K, M)
        rows = [torch.tensor(row, device=ids.device) for row in tokens.key_frames]
        before = pad_sequence(rows, batch_first=True, padding_value=padding)[: len(patches)]
        words = self._embed(before)  # (K, M, W)
        frames = torch.cat([words, visual.to(words.dtype)], dim=1)  # (K, M + Q, W)
        frames_mask = torch.cat([(before != padding).long(), before.new_ones(visual.shape[:2])], 1)
        # One frame after the other, then the text: (K, M + Q, W) -> (K * (M + Q) + L, W)
        embeddings = torch.cat([frames.flatten(0, 1), text])
        return embeddings, torch.cat([frames_mask.flatten(), text_mask])

    def second_logits(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """Return the logits ``(B, words)`` of an answer's second token, behind the best first one.

        Args:
            embeddings: T5's input, ``(B, N, W)``.
            mask: ``(B, N)``, 0 at padding.
        """
        # Once for both tokens of the answer: the decoder alone runs twice.
        encoded = self.t5.encoder(inputs_embeds=embeddings, attention_mask=mask).last_hidden_state
        answer = mask.new_full((len(mask), 1), self.t5.config.decoder_start_token_id)
        # The first token of an answer is what T5 likes best, such as "Option"; the second is the
        # letter.
        first = self._decode(encoded, mask, answer).argmax(-1)
        return self._decode(encoded, mask, torch.cat([answer, first[:, None]], dim=1))

    def _decode(self, encoded: Tensor, mask: Tensor, answer: Tensor) -> Tensor:
        output = self.t5(
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded),
            attention_mask=mask,
            decoder_input_ids=answer,
        )
        logits: Tensor = output.logits[:, -1].float()
        return logits

    def _embed(self, ids: Tensor) -> Tensor:
        embedded: Tensor = self.t5.get_input_embeddings()(ids)
        return embedded


def best_frames(yes_logits: Tensor, count: int) -> list[int]:
    """Return the indices of the frames with the highest logits, in the order of the video."""
    chosen: list[int] = yes_logits.topk(min(count, len(yes_logits))).indices.tolist()
    return sorted(chosen)


def pad_inputs(inputs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Join inputs of T5 to a batch, padded on the right: ``(B, N, W)`` and ``(B, N)``."""
    embeddings = pad_sequence([row for row, _ in inputs], batch_first=True)  # (B, N, W)
    return embeddings, pad_sequence([mask for _, mask in inputs], batch_first=True)


def official_names(model: SevilaModel) -> dict[str, tuple[str, ...]]:
    """Return the official keys of localizer and answerer, which a checkpoint holds."""
    names: dict[str, tuple[str, ...]] = {}
    for part, ending in (("answerer", ""), ("localizer", "_loc")):
        module: FrameTokens = getattr(model, part)
        inner: dict[str, Names] = {
            "norm": plain_names(module.norm, f"ln_vision{ending}."),
            "queries": official_query_names(
                module.queries, f"Qformer{ending}.bert.", f"query_tokens{ending}"
            ),
            "projection": plain_names(module.projection, f"t5_proj{ending}."),
        }
        for attribute, keys in inner.items():
            names |= below(part, below(attribute, keys))
    return names


def official_tower_names(model: SevilaModel) -> Names:
    """Return the official keys of the vision tower, for a checkpoint in which it was trained."""
    return below("vision", official_vision_names(model.vision))
