"""A trained network with its labels: from observed segments to the next label and the future.

Shapes: L labels, R rows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vidreason.baselines.anticipation.cnn import AnticipationCNN, smooth_rows
from vidreason.baselines.anticipation.config import AnticipationConfig
from vidreason.baselines.anticipation.rnn import AnticipationRNN, NextSegment, RollOut
from vidreason.baselines.anticipation.samples import cnn_horizon
from vidreason.baselines.anticipation.segments import (
    Segment,
    cut_at,
    label_matrix,
    labels_of,
    segments_of,
)


class NextLabels(NamedTuple):
    """Distribution over the next label, and when it comes."""

    log_probabilities: Tensor
    """``(L,)`` float64."""
    frames_until: dict[int, float]
    """From labels to frames from now until they begin, where the network says so."""
    frames_lasting: float | None
    """Frames that the likeliest one lasts; None where nothing is known of it."""


def build_network(config: AnticipationConfig, num_labels: int) -> nn.Module:
    """Build the configured network with weights as they are at the start of training."""
    if config.network == "cnn":
        return AnticipationCNN(num_labels, config.num_rows, config.cnn_width)
    return AnticipationRNN(num_labels, config.rnn_width, config.rnn_layers, config.head_width)


class Anticipator:
    """A network that anticipates.

    Args:
        network: The trained network, in eval mode.
        config: Its sizes and its reference of lengths.
        labels: L of them, in its order.
        silent: Labels that are no event: they are never named as the next one.
    """

    def __init__(
        self,
        network: nn.Module,
        config: AnticipationConfig,
        labels: Sequence[str],
        silent: Sequence[str] = (),
    ) -> None:
        self.network = network
        self.config = config
        self.labels = tuple(labels)
        self.index = {label: number for number, label in enumerate(self.labels)}
        self.silent = tuple(silent)
        self._roll_out = RollOut(num_slots=config.num_slots, kept=config.kept_slots)

    @torch.inference_mode()
    def next_labels(self, observed: Sequence[Segment], total: float | None = None) -> NextLabels:
        """Return the distribution over the label after the last observed one.

        Args:
            observed: Segments, the last of which may go on. Without any the network sees nothing.
            total: Frames of the whole video; needed with ``length_reference=total`` alone.

        Raises:
            ValueError: ``total`` is needed and not given.
        """
        frames = sum(part.length for part in observed)
        reference = self.config.reference(frames, total)
        if isinstance(self.network, AnticipationCNN):
            horizon = cnn_horizon(frames, total, self.config)
            return self._from_rows(self._rows(observed), observed, horizon)
        out = self._step(observed, reference)
        log_probabilities = torch.log_softmax(out.logits[0].double(), 0)
        # In frames: how long the next segment lasts, and how long the last one goes on before it.
        lasting, until = (value * reference for value in out.lengths[0].tolist())
        return NextLabels(
            self._without_silent(log_probabilities),
            # Without an observed segment there is none that could go on.
            {} if not observed else dict.fromkeys(range(len(self.labels)), until),
            lasting or None,  # the network's relu gives 0 where it says nothing
        )

    @torch.inference_mode()
    def future(
        self, observed: Sequence[Segment], horizon: float, total: float | None = None
    ) -> list[str]:
        """Predict the label of each of the ``horizon`` frames that follow.

        Args:
            observed: Segments, one or more.
            horizon: Frames; a network may give a few less, as the official code's rounding does.
            total: As for :meth:`next_labels`.
        """
        frames = sum(part.length for part in observed)
        reference = self.config.reference(frames, total)
        if isinstance(self.network, AnticipationCNN):
            return self._frames_of_rows(
                self._rows(observed), cnn_horizon(frames, total, self.config), horizon
            )
        ids, lengths = self._roll_out.run(
            lambda slots: self.network(slots.to(self._device)),
            len(self.labels),
            [self.index.get(part.label) for part in observed],
            [part.length for part in observed],
            horizon,
            reference,
        )
        # Observed labels may be unknown to the network, predicted ones are not.
        names = [part.label for part in observed]
        names += [self.labels[label] for label in ids[len(names) :] if label is not None]
        parts = [Segment(name, length) for name, length in zip(names, lengths, strict=True)]
        return labels_of(parts)[int(frames) : int(frames + horizon)]

    def _step(self, observed: Sequence[Segment], reference: float) -> NextSegment:
        ids = [self.index.get(part.label) for part in observed]
        lengths = [part.length for part in observed]
        # Without any segment all slots are empty, whatever their lengths would be relative to.
        slots = self._roll_out.inputs(ids, lengths, reference or 1.0, len(self.labels))
        result: NextSegment = self.network(slots[None].to(self._device))
        return result

    def _rows(self, observed: Sequence[Segment]) -> Tensor:
        """The smoothed rows ``(R, L)`` on the CPU."""
        matrix = label_matrix(observed, self.index, self.config.num_rows)  # (R, L)
        rows: Tensor = self.network(matrix[None].to(self._device))[0]
        return smooth_rows(rows.cpu(), self.config.sigma)

    def _frames_of_rows(self, rows: Tensor, row_frames: float, horizon: float) -> list[str]:
        """Runs of the likeliest labels, each in whole frames; the last one goes on."""
        runs = segments_of(self.labels[label] for label in rows.argmax(1).tolist())
        lengths = [int(row_frames * run.length / len(rows)) for run in runs]
        frames = labels_of(
            [Segment(run.label, length) for run, length in zip(runs, lengths, strict=True)]
        )
        frames += [runs[-1].label] * max(int(horizon) - len(frames), 0)
        return frames[: int(horizon)]

    def _from_rows(self, rows: Tensor, observed: Sequence[Segment], horizon: float) -> NextLabels:
        """The distribution over the next label that the CNN's rows hold.

        A row of norm 1 with the least squared error points to the labels' probabilities: what is
        above zero, by its sum, is the row's distribution. The last observed label goes on for a
        time; the next one is any other, by its mean over all rows.
        """
        shares = rows.double().clamp(min=0)
        shares = shares / shares.sum(1, keepdim=True).clamp(min=1e-12)
        if observed and observed[-1].label in self.index:
            shares[:, self.index[observed[-1].label]] = 0
        # A floor, so that every label has a likelihood; equal where the rows name no other label.
        means = shares.mean(0) + 1e-6
        # Frames until each label is first the likeliest: rows are equal parts of the horizon.
        # Reversed, so that the first row of a label overwrites later ones.
        # A label that is never the likeliest has no time.
        until = {
            label: horizon * row / len(rows)
            for row, label in reversed(list(enumerate(shares.argmax(1).tolist())))
            if shares[row, label] > 0
        }
        log_probabilities = self._without_silent((means / means.sum()).log())
        return NextLabels(log_probabilities, until, None)

    def _without_silent(self, log_probabilities: Tensor) -> Tensor:
        """Give the probability of labels that are no event to the others."""
        for label in self.silent:
            if label in self.index:
                log_probabilities[self.index[label]] = -torch.inf
        return torch.log_softmax(log_probabilities, 0)

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device


def observed_and_true(
    segments: Sequence[Segment], observed_share: float, predicted_share: float
) -> tuple[tuple[Segment, ...], list[str]]:
    """Return what is observed of a video, and the true labels of the frames to be predicted.

    As in the official protocol: ``observed_share`` of the frames are seen, ``predicted_share`` of
    the whole video follow, each rounded down.
    """
    total = sum(part.length for part in segments)
    seen = int(observed_share * total)
    before, after = cut_at(segments, seen)
    return before, labels_of(cut_at(after, int(predicted_share * total))[0])
