"""BERTScore: texts compared by the contextual embeddings of their tokens.

The algorithm of bert-score 0.3.13 (github Tiiiger/bert_score, ``utils.greedy_cos_idf``), written
out because that package fails under transformers 5, and torchmetrics 1.9 does not match special
tokens and so gives other numbers. Special tokens have no weight, but a token may be matched to one.
Shapes: H tokens of a hypothesis, R tokens of a reference, D width.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

BEST_LAYERS: dict[str, int] = {
    "roberta-large": 17,
    "roberta-base": 10,
    "bert-base-uncased": 9,
    "bert-large-uncased": 18,
    "microsoft/deberta-xlarge-mnli": 40,
    "microsoft/deberta-large-mnli": 18,
}
"""Layers whose scores agree best with people, by model; ``roberta-large`` is the usual one."""

_BATCH_SIZE = 32  # texts
_NO_LIMIT = 1_000_000  # tokenizers without a limit name an enormous one


class BertScore(NamedTuple):
    """Precision, recall and their harmonic mean of one text; F1 is what is usually reported."""

    precision: float
    recall: float
    f1: float


def greedy_match(
    hypothesis: Tensor, reference: Tensor, hypothesis_weights: Tensor, reference_weights: Tensor
) -> BertScore:
    """Match each token to the most similar one of the other text.

    Args:
        hypothesis: Embeddings, special tokens included, shape ``(H, D)``, of any length.
        reference: Shape ``(R, D)``.
        hypothesis_weights: Weight of each token, 0 for special ones, shape ``(H,)``.
        reference_weights: Shape ``(R,)``.

    Returns:
        The score; 0 in all three where a text has no token of its own.
    """
    if not hypothesis_weights.any() or not reference_weights.any():
        return BertScore(0.0, 0.0, 0.0)
    # (H, D) @ (D, R) -> (H, R) cosines.
    similarities = torch.nn.functional.normalize(hypothesis, dim=-1) @ (
        torch.nn.functional.normalize(reference, dim=-1).T
    )
    # The best match of each token: (H,) and (R,).
    precision = _weighted_mean(similarities.amax(dim=1), hypothesis_weights)
    recall = _weighted_mean(similarities.amax(dim=0), reference_weights)
    total = precision + recall
    return BertScore(precision, recall, 2 * precision * recall / total if total else 0.0)


class BertScorer:
    """BERTScore with one model.

    Args:
        model: An encoder of transformers, without a head, in evaluation mode.
        tokenizer: Its tokenizer. A RoBERTa or GPT-2 tokenizer has to be loaded with
            ``add_prefix_space=True``, as :func:`load_bert_scorer` does.
        layer: Whose hidden states are compared; 0 is the embeddings.

    Raises:
        ValueError: The model has no such layer.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tokenizer: Any,  # noqa: ANN401 - tokenizers of transformers are untyped
        *,
        layer: int,
    ) -> None:
        num_layers = int(getattr(model.config, "num_hidden_layers"))  # noqa: B009 - untyped
        if not 0 <= layer <= num_layers:
            raise ValueError(f"layer is {layer}; the model has layers 0 to {num_layers}")
        self._model = model
        self._tokenizer = tokenizer
        self._layer = layer

    def score(
        self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]
    ) -> list[BertScore]:
        """Score each text against its references; the one with the best F1 counts.

        Args:
            hypotheses: The texts.
            references: For each text, one or several references.

        Raises:
            ValueError: Different numbers, or a text without reference.
        """
        if len(hypotheses) != len(references) or not all(references):
            raise ValueError(
                f"expected at least one reference for each of {len(hypotheses)} texts; found "
                f"{len(references)} lists, {sum(not group for group in references)} of them empty"
            )
        # Each text is embedded once, however often it is compared.
        ids = {text: self._encode(text) for group in references for text in group}
        ids |= {text: self._encode(text) for text in hypotheses}
        embedded = dict(self._embed(ids))
        # Tokens that stand for no word have no weight.
        ends = ("cls_token_id", "sep_token_id", "bos_token_id", "eos_token_id")
        special = {getattr(self._tokenizer, name) for name in ends}
        weights = {
            text: torch.tensor([float(token not in special) for token in tokens])
            for text, tokens in ids.items()
        }
        return [
            # The reference that fits best counts.
            max(
                (
                    greedy_match(embedded[text], embedded[other], weights[text], weights[other])
                    for other in group
                ),
                key=lambda score: score.f1,
            )
            for text, group in zip(hypotheses, references, strict=True)
        ]

    def _encode(self, text: str) -> list[int]:
        limit = self._tokenizer.model_max_length
        if limit > _NO_LIMIT:
            # RoBERTa's first two positions are not for tokens.
            limit = getattr(self._model.config, "max_position_embeddings", 514) - 2
        ids = self._tokenizer(text.strip(), truncation=True, max_length=int(limit))["input_ids"]
        return [int(token) for token in ids]

    @torch.no_grad()
    def _embed(self, ids: Mapping[str, list[int]]) -> Iterator[tuple[str, Tensor]]:
        """Hidden states of each text in float32 on the CPU, shape ``(tokens, D)``."""
        device = next(self._model.parameters()).device
        texts = sorted(ids, key=lambda text: (len(ids[text]), text))  # little padding
        for start in range(0, len(texts), _BATCH_SIZE):
            batch = texts[start : start + _BATCH_SIZE]
            padded = self._tokenizer.pad(
                {"input_ids": [ids[text] for text in batch]}, return_tensors="pt"
            ).to(device)
            output = self._model(
                input_ids=padded["input_ids"],
                attention_mask=padded["attention_mask"],
                output_hidden_states=True,
            )
            # (B, tokens, D); padding is cut off below.
            states = output.hidden_states[self._layer].float().cpu()
            kept = padded["attention_mask"].bool().cpu()
            for text, state, mask in zip(batch, states, kept, strict=True):
                yield text, state[mask]


def load_bert_scorer(folder: str, *, layer: int | None = None) -> BertScorer:
    """Load a scorer from a local folder of a transformers encoder.

    Args:
        folder: Where the model and its tokenizer are; nothing is downloaded.
        layer: None looks the model's name up in ``BEST_LAYERS``.

    Raises:
        ValueError: There is no such folder, or no layer is known for the model.
    """
    from transformers import AutoModel, AutoTokenizer

    if not Path(folder).is_dir():
        raise ValueError(
            f"there is no folder {folder!r} with an encoder for BERTScore; download one first, "
            "such as roberta-large"
        )
    known = [number for name, number in BEST_LAYERS.items() if Path(folder).name == Path(name).name]
    if layer is None and not known:
        raise ValueError(
            f"no layer is known for {Path(folder).name!r}; set layer, or name the folder after one "
            f"of {sorted(BEST_LAYERS)}"
        )
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, add_prefix_space=True)
    return BertScorer(model, tokenizer, layer=known[0] if layer is None else layer)


def _weighted_mean(values: Tensor, weights: Tensor) -> float:
    return float((values * weights).sum() / weights.sum())
