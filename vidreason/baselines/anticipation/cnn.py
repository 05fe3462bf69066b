"""The anticipation CNN: from a matrix of observed labels to the matrix of what follows.

Written after yabufarha/anticipating-activities@756d5b8 (models/cnn.py), TensorFlow 1.
Shapes: B samples, R rows, L labels, W width of the fully connected layer.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidreason.baselines.anticipation.official_variables import load_variables

_NORM_EPSILON = 1e-12
"""Smallest squared norm of a row, as of ``tf.nn.l2_normalize``."""
_TRUNCATE = 4.0
"""Standard deviations after which the smoothing ends, as in ``scipy.ndimage``."""


class AnticipationCNN(nn.Module):
    """Two convolutions over time, each with a pooling to half, and two fully connected layers.

    Args:
        num_labels: L.
        num_rows: R, a multiple of 4.
        width: W.
        channels: Of the two convolutions.
    """

    def __init__(
        self,
        num_labels: int,
        num_rows: int = 128,
        width: int = 1024,
        channels: tuple[int, int] = (8, 16),
    ) -> None:
        super().__init__()
        if num_rows % 4:
            raise ValueError(f"num_rows is {num_rows}; it must be a multiple of 4")
        self.num_rows, self.num_labels = num_rows, num_labels
        # Five rows of one column: labels meet in the fully connected layers alone.
        self.conv1 = nn.Conv2d(1, channels[0], (5, 1), padding=(2, 0))
        self.conv2 = nn.Conv2d(channels[0], channels[1], (5, 1), padding=(2, 0))
        # Two poolings leave a quarter of the rows.
        self.fc1 = nn.Linear(channels[1] * num_rows // 4 * num_labels, width)
        self.fc2 = nn.Linear(width, num_rows * num_labels)
        # As the official code draws them.
        for layer in (self.conv1, self.conv2, self.fc1, self.fc2):
            nn.init.trunc_normal_(layer.weight, std=0.1, a=-0.2, b=0.2)
            nn.init.constant_(layer.bias, 0.1)  # type: ignore[arg-type] # these have one

    def forward(self, observed: Tensor) -> Tensor:
        """Predict the rows ``(B, R, L)`` that follow ``(B, R, L)``, each of norm 1."""
        hidden = observed[:, None]  # (B, R, L) -> (B, 1, R, L)
        for layer in (self.conv1, self.conv2):
            # (B, C, R, L) -> (B, C', R / 2, L)
            hidden = functional.max_pool2d(torch.relu(layer(hidden)), (2, 1))
        # Channels last, as the official kernels have them: (B, C, R / 4, L) -> (B, R / 4 * L * C)
        hidden = hidden.permute(0, 2, 3, 1).flatten(1)
        rows: Tensor = self.fc2(torch.relu(self.fc1(hidden)))
        rows = rows.view(-1, self.num_rows, self.num_labels)  # (B, R * L) -> (B, R, L)
        return rows * rows.square().sum(2, keepdim=True).clamp(min=_NORM_EPSILON).rsqrt()

    def load_official(self, variables: Sequence[Tensor]) -> None:
        """Take the variables of the official graph, in its order.

        Args:
            variables: Kernels and biases of the convolutions ``(5, 1, inputs, outputs)`` and of the
                fully connected layers ``(inputs, outputs)``.

        Raises:
            ValueError: Their number or a shape is another one.
        """
        load_variables((self.conv1, self.conv2, self.fc1, self.fc2), variables)


def smooth_rows(rows: Tensor, sigma: float) -> Tensor:
    """Smooth ``(R, L)`` along the rows by a Gaussian; beyond the ends the rows are mirrored.

    The same as ``scipy.ndimage.gaussian_filter1d(rows, sigma, axis=0)``, which the official code
    calls: the Gaussian ends after 4 standard deviations, and the end rows count twice.
    """
    if sigma == 0:
        return rows
    radius = int(_TRUNCATE * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    # Rows 0 .. R - 1, then backwards, over and over: (R, 2 * radius + 1) indices.
    num_rows = len(rows)
    indices = (torch.arange(num_rows)[:, None] + offsets.long()) % (2 * num_rows)
    indices = torch.minimum(indices, 2 * num_rows - 1 - indices)
    # (R, 2 * radius + 1, L) * (2 * radius + 1, 1), summed over the window -> (R, L)
    smoothed = (rows.double()[indices.to(rows.device)] * weights.to(rows.device)[:, None]).sum(1)
    return smoothed.to(rows.dtype)
