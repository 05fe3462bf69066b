"""The training objective (section 3.4, eq. 6).

A step's loss is the sum over its target tokens divided by their number, over all micro-batches and
all ranks. A mean of means would give a word in a short caption more weight than one in a long one.
"""

from torch import Tensor


def next_token_loss(log_likelihoods: Tensor) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood of the targets, summed.

    Args:
        log_likelihoods: Shape ``(M,)``, float32: of each target. There may be none.

    Returns:
        The sum, and the number of targets; both float32, without a dimension.
    """
    loss_sum = -log_likelihoods.sum()
    return loss_sum, loss_sum.new_tensor(float(len(log_likelihoods)))
