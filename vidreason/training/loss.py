"""The training objective (section 3.4, eq. 6).

A step's loss is the sum over its target tokens divided by their number, over all micro-batches and
all ranks. A mean of means would give a word in a short caption more weight than one in a long one.
"""

from torch import Tensor
from torch.nn.functional import cross_entropy


def next_token_loss(target_logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood of the targets, summed.

    Args:
        target_logits: Shape ``(M, vocabulary)``, any floating dtype.
        targets: Shape ``(M,)``, int64. There may be none.

    Returns:
        The sum, float32, and the number of targets, float32; both without a dimension.
    """
    loss_sum = cross_entropy(target_logits.float(), targets, reduction="sum")
    return loss_sum, loss_sum.new_tensor(float(len(targets)))
