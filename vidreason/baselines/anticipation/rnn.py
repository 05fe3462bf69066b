"""The anticipation RNN: from observed segments to the next label and two lengths.

Written after yabufarha/anticipating-activities@756d5b8 (models/rnn.py), TensorFlow 1. Its cell is
TensorFlow's ``GRUCell``, which resets the state *before* the candidate's product:
``tanh(W [x, r * h])``. ``torch.nn.GRU`` resets behind it, and is another function.

Shapes: B samples, S slots, L labels, H width of the cells.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from vidreason.baselines.anticipation.config import KeptSlots
from vidreason.baselines.anticipation.official_variables import load_variables
from vidreason.baselines.anticipation.segments import slot_rows


class NextSegment(NamedTuple):
    """Output of the RNN for ``B`` sequences."""

    logits: Tensor
    """``(B, L)``: of the next label."""
    lengths: Tensor
    """``(B, 2)``, from 0 on: of the next segment, and of what remains of the last observed one,
    both divided by the reference length."""


class ResetBeforeGRUCell(nn.Module):
    """A gated recurrent unit whose reset acts before the candidate's product."""

    def __init__(self, input_width: int, width: int) -> None:
        super().__init__()
        self.gates = nn.Linear(input_width + width, 2 * width)
        self.candidate = nn.Linear(input_width + width, width)

    def forward(self, inputs: Tensor, state: Tensor) -> Tensor:
        """From ``(B, inputs)`` and the state ``(B, H)`` to the next state."""
        # (B, H) each
        reset, update = torch.sigmoid(self.gates(torch.cat([inputs, state], 1))).chunk(2, dim=1)
        candidate = torch.tanh(self.candidate(torch.cat([inputs, reset * state], 1)))
        return update * state + (1 - update) * candidate


class AnticipationRNN(nn.Module):
    """Fully connected layer, recurrent cells over the slots, fully connected layer, two heads.

    Args:
        num_labels: L.
        width: Of the cells, H.
        num_layers: Cells one above the other.
        head_width: Of the fully connected layers.
    """

    def __init__(
        self, num_labels: int, width: int = 256, num_layers: int = 2, head_width: int = 128
    ) -> None:
        super().__init__()
        self.width = width
        self.fc_in = nn.Linear(num_labels + 1, head_width)
        widths = [head_width, *[width] * (num_layers - 1)]
        self.cells = nn.ModuleList([ResetBeforeGRUCell(size, width) for size in widths])
        self.fc_out = nn.Linear(width, head_width)
        self.action = nn.Linear(head_width, num_labels)
        self.length = nn.Linear(head_width, 2)
        self._start()

    def _start(self) -> None:
        """Draw the weights as the official code and TensorFlow's cell do."""
        for layer in (self.fc_in, self.fc_out, self.action, self.length):
            nn.init.normal_(layer.weight, std=0.1)
            nn.init.constant_(layer.bias, 0.1)
        for cell in cast(Sequence[ResetBeforeGRUCell], self.cells):
            nn.init.xavier_uniform_(cell.gates.weight)
            nn.init.constant_(cell.gates.bias, 1.0)
            nn.init.xavier_uniform_(cell.candidate.weight)
            nn.init.zeros_(cell.candidate.bias)

    def forward(self, slots: Tensor) -> NextSegment:
        """Predict what follows ``(B, S, L + 1)``: one-hot labels and lengths, zero where empty.

        The cells run over the empty slots too, as the official ones do.
        """
        inputs = torch.relu(self.fc_in(slots))  # (B, S, head)
        states = [inputs.new_zeros(len(slots), self.width) for _ in self.cells]
        # Each cell gets the output of the one below at the same slot.
        for slot in range(inputs.shape[1]):
            below = inputs[:, slot]
            for number, cell in enumerate(self.cells):
                states[number] = below = cell(below, states[number])
        head = torch.relu(self.fc_out(states[-1]))
        return NextSegment(self.action(head), torch.relu(self.length(head)))

    def official_layers(self) -> list[nn.Linear]:
        """Return the layers in the order of the official graph's variables."""
        cells = cast(Sequence[ResetBeforeGRUCell], self.cells)
        recurrent = [layer for cell in cells for layer in (cell.gates, cell.candidate)]
        return [self.fc_in, self.fc_out, self.action, self.length, *recurrent]

    def load_official(self, variables: Sequence[Tensor]) -> None:
        """Take the variables of the official graph, in its order.

        Args:
            variables: For the layers of :meth:`official_layers` in turn a kernel ``(inputs,
                outputs)`` and a bias. A cell has the kernel of reset and update together, then the
                candidate's; the inputs of both are the layer below, then the state.

        Raises:
            ValueError: Their number or a shape is another one.
        """
        load_variables(self.official_layers(), variables)


@dataclass(frozen=True, kw_only=True)
class RollOut:
    """How the RNN is applied to its own output.

    The official roll-out is ``num_slots=25, kept="first"`` with whole frames.
    """

    num_slots: int = 25
    """Segments that the network sees."""
    kept: KeptSlots = "last"
    """Labels of a longer sequence that stay. The official code takes as many labels as the last
    slots would hold, but reads them from the start of the list, so that it sees the first 25 and no
    longer what it has just predicted."""

    def inputs(
        self, labels: Sequence[int | None], lengths: Sequence[float], reference: float, num: int
    ) -> Tensor:
        """Return the slots ``(S, num + 1)`` of a sequence whose lengths are in frames."""
        kept = slice(self.num_slots) if self.kept == "first" else slice(-self.num_slots, None)
        scaled = [length / reference for length in lengths[kept]]
        return slot_rows(labels[kept], scaled, self.num_slots, num)

    def run(
        self,
        network: Callable[[Tensor], NextSegment],
        num_labels: int,
        labels: Sequence[int | None],
        lengths: Sequence[float],
        horizon: float,
        reference: float,
    ) -> tuple[list[int | None], list[float]]:
        """Predict one segment after the other until the horizon is filled.

        As in the official code: the remaining length is added to the last segment, lengths below
        one frame count as nothing, and when both lengths do, the last segment is made longer by the
        horizon and the roll-out ends. The result may reach beyond the horizon.

        Args:
            network: The RNN.
            num_labels: L.
            labels: Indices of the observed labels; None for unknown ones. Not empty.
            lengths: Of the observed segments, in frames.
            horizon: Frames to predict.
            reference: Length that the network's lengths are divided by, in frames.

        Returns:
            Labels and lengths of the observed and the predicted segments.
        """
        labels, lengths = list(labels), [float(length) for length in lengths]
        predicted = 0.0
        while predicted < horizon:
            slots = self.inputs(labels, lengths, reference, num_labels)  # (S, L + 1)
            logits, scaled = network(slots[None])
            length, remaining = (value * reference for value in scaled[0].double().tolist())
            # First the rest of the segment that goes on, then the next one.
            if int(remaining) > 0:
                lengths[-1] += remaining
                predicted += int(remaining)
            if int(length) > 0:
                labels.append(int(logits[0].argmax()))
                lengths.append(length)
                predicted += int(length)
            if int(remaining) == 0 and int(length) == 0:
                lengths[-1] += horizon
                predicted += horizon
        return labels, lengths
