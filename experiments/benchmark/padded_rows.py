"""The usual formulation that is measured against: padded rows, a mask, and logits everywhere.

This is what a program does that hands a batch to a model of transformers: rows are padded to the
longest, the attention mask hides the padding, the output layer computes the logits of all
positions, and the model's own loss picks those of the targets.

Shapes: B rows, Q queries, T text tokens.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vidreason.model import VideoReasoner
from vidreason.perception.visual_tokens import VisualBatch
from vidreason.reasoning.language_model import causal_lm
from vidreason.reasoning.tokenization import IGNORE_INDEX, EncodedText


class PaddedTexts(NamedTuple):
    """Texts padded on the right."""

    input_ids: Tensor
    """Shape ``(B, T)``, int64."""
    attention_mask: Tensor
    """Shape ``(B, T)``, int64: 1 for a token, 0 for padding."""
    labels: Tensor
    """Shape ``(B, T)``, int64: ``IGNORE_INDEX`` where no target is."""


def pad_texts(texts: Sequence[EncodedText]) -> PaddedTexts:
    """Pad ``texts`` to the longest."""

    def pad(rows: Sequence[Sequence[int]], value: int) -> Tensor:
        return pad_sequence([torch.tensor(row) for row in rows], True, value)

    return PaddedTexts(
        # Any id will do where the mask hides it.
        input_ids=pad([text.input_ids for text in texts], 0),
        attention_mask=pad([[1] * len(text.input_ids) for text in texts], 0),
        labels=pad([text.labels for text in texts], IGNORE_INDEX),
    )


def padded_loss(reasoner: VideoReasoner, visual: VisualBatch, texts: PaddedTexts) -> Tensor:
    """The mean loss over the target tokens, as the model of transformers computes it."""
    return cast(Tensor, _outputs(reasoner, visual, texts, _labels(reasoner, texts)).loss)


def padded_log_likelihoods(
    reasoner: VideoReasoner, visual: VisualBatch, texts: PaddedTexts
) -> Tensor:
    """Sums of the log-likelihoods of each row's targets, shape ``(B,)``, float32."""
    # Position t predicts token t + 1: (B, Q + T - 1) labels and (B, Q + T - 1, V) logits.
    labels = _labels(reasoner, texts)[:, 1:]
    logits = _outputs(reasoner, visual, texts).logits[:, :-1].float()
    is_target = labels != IGNORE_INDEX
    # (B, Q + T - 1); where no target is, that of token 0, which the next line takes out.
    log_likelihoods = logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    sums: Tensor = (log_likelihoods * is_target).sum(1)
    return sums


def _labels(reasoner: VideoReasoner, texts: PaddedTexts) -> Tensor:
    """Labels of the texts, after a label of no target for each video embedding."""
    shape = len(texts.labels), reasoner.fusion.num_embeddings
    return torch.cat([texts.labels.new_full(shape, IGNORE_INDEX), texts.labels], dim=1)


def _outputs(
    reasoner: VideoReasoner, visual: VisualBatch, texts: PaddedTexts, labels: Tensor | None = None
) -> Any:  # noqa: ANN401 - the output record is named after the model's class
    model = causal_lm(reasoner.language_model)
    words = model.get_input_embeddings()(texts.input_ids)
    # (B, Q, D) before (B, T, D) -> (B, Q + T, D); no video embedding is padding.
    video = reasoner.fusion(visual).to(words.dtype)
    mask = torch.cat([texts.attention_mask.new_ones(video.shape[:2]), texts.attention_mask], dim=1)
    return model(
        inputs_embeds=torch.cat([video, words], dim=1),
        attention_mask=mask,
        labels=labels,
        # Keys and values of a cache would be kept for nothing: no token follows.
        use_cache=False,
    )
