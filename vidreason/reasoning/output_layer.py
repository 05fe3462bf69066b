"""Log-likelihoods from a language model's hidden states, without all logits at once.

Shapes: M targets, D width, V vocabulary.
"""

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

MAX_LOGIT_BYTES = 2**28
"""Limit of float32 logits at a time: 524 positions of Llama 3's 128,256 tokens."""


def decoder_name(model: PreTrainedModel) -> str:
    """Return the attribute of a causal language model that holds all before its output layer.

    Raises:
        ValueError: It has no such part.
    """
    if hasattr(model, model.base_model_prefix):
        return model.base_model_prefix
    # Llama 4's is named as in the model with an eye that it is a part of.
    names = [name for name, child in model.named_children() if isinstance(child, PreTrainedModel)]
    if len(names) != 1:
        raise ValueError(
            f"{type(model).__name__} has no decoder under {model.base_model_prefix!r}, and "
            f"{len(names)} other models in it: use another language model"
        )
    return names[0]


def decoder_of(model: PreTrainedModel) -> PreTrainedModel:
    """Return all of a causal language model that comes before its output layer.

    Raises:
        ValueError: It has no such part.
    """
    return cast(PreTrainedModel, getattr(model, decoder_name(model)))


def target_log_likelihoods(
    model: PreTrainedModel, output: ModelOutput, hidden: Tensor, targets: Tensor
) -> Tensor:
    """Return the log-likelihood of each target.

    Logits that would take more than :data:`MAX_LOGIT_BYTES` are made in chunks, and made again in
    the backward pass: their whole matrix never exists.

    Args:
        model: A causal language model.
        output: The decoder's output.
        hidden: Shape ``(M, D)``: the decoder's last hidden states that predict a target.
        targets: Shape ``(M,)``, int64.

    Returns:
        Shape ``(M,)``, float32.
    """
    vocabulary = model.get_output_embeddings().weight.shape[0]  # type: ignore[no-untyped-call]
    rows = max(MAX_LOGIT_BYTES // (4 * vocabulary), 1)  # of 4 bytes a logit
    if len(targets) <= rows:
        return _log_likelihoods(model, output, hidden, targets)
    parts = zip(torch.split(hidden, rows), torch.split(targets, rows), strict=True)
    # Nothing to be made again: each chunk's logits are dropped at once.
    if not torch.is_grad_enabled():
        return torch.cat([_log_likelihoods(model, output, *part) for part in parts])
    return torch.cat(
        [
            # Dropout comes before the output layer: there is no random state to restore.
            checkpoint(
                _log_likelihoods,
                *(model, output, *part),
                use_reentrant=False,
                preserve_rng_state=False,
            )
            for part in parts
        ]
    )


def _log_likelihoods(
    model: PreTrainedModel, output: ModelOutput, hidden: Tensor, targets: Tensor
) -> Tensor:
    # (M, D) -> (1, M, D): the positions of all rows as one row.
    after: Any = _AfterDecoder(model, output, hidden[None])
    # Any: the output record is named after the model's class.
    result: Any = type(model).forward(after, inputs_embeds=hidden[None], use_cache=False)
    if not after.used:
        raise ValueError(
            f"{type(model).__name__} does not call its {decoder_name(model)!r}: its logits "
            "cannot be computed for some positions alone; use another language model"
        )
    return -cross_entropy(result.logits[0].float(), targets, reduction="none")  # (1, M, V) -> (M,)


class _AfterDecoder:
    """The language model as its own ``forward`` sees it when its decoder has run already.

    So everything after the decoder is the model's own code: some models scale or cap the logits of
    their output layer, which only they know.
    """

    def __init__(self, model: PreTrainedModel, output: ModelOutput, hidden: Tensor) -> None:
        self._model = model
        self._decoder = _Decoder(output, hidden)

    @property
    def used(self) -> bool:
        """True after the decoder has been called."""
        return self._decoder.called

    def __getattr__(self, name: str) -> object:
        if name == decoder_name(self._model):
            return self._decoder
        return getattr(self._model, name)


class _Decoder:
    """A decoder that returns its former output with other hidden states."""

    def __init__(self, output: ModelOutput, hidden: Tensor) -> None:
        self.called = False
        self._output = type(output)(**{**output, "last_hidden_state": hidden})

    def __call__(self, *args: object, **kwargs: object) -> ModelOutput:
        self.called = True
        return self._output

    @property
    def decoder(self) -> "_Decoder":
        """Itself: OPT calls a part of its base model."""
        return self
