"""Latents of what was observed and of what comes: V-JEPA 2's encoder, and its predictor after it.

Follows facebookresearch/vjepa2@c2963a4, evals/action_anticipation_frozen/modelcustom/
vit_encoder_predictor_concat_ar.py, with one prediction step, over the modules of transformers.

Shapes: B clips, F frames, S image side in pixels, h x w the patch grid, N = F / tubelet_size * h *
w observed tokens, P predicted ones, D width.
"""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import AutoConfig, VJEPA2Model

from vidreason.baselines.frames import Frames
from vidreason.baselines.vjepa2.config import LookAhead
from vidreason.perception.config import VideoEncoderConfig
from vidreason.perception.model_folder import foreign_errors, load_pretrained
from vidreason.perception.transformers_encoders import build_pretrained_encoder
from vidreason.perception.weights import local_folder
from vidreason.video.transforms import FrameTransform

_HEAD_PREFIXES = ("pooler.", "classifier.")
"""Keys of fine-tuned classifiers, which hold the encoder and the predictor as well."""


class FutureLatents(nn.Module):
    """A frozen V-JEPA 2 that is asked for the latents of a time after the clip.

    Args:
        model: Encoder and predictor; both are frozen.
        transform: From a decoded frame to network input.
        look_ahead: Which frames are observed, which time is predicted.

    Raises:
        ValueError: The model's tubelets do not divide the number of frames.
    """

    def __init__(
        self, model: VJEPA2Model, transform: FrameTransform, look_ahead: LookAhead
    ) -> None:
        super().__init__()
        self.model = model.requires_grad_(False)
        self.transform = transform
        self.look_ahead = look_ahead
        config: Any = model.config
        self.width: int = config.hidden_size
        self.tubelet_size: int = config.tubelet_size
        # Rotary positions are counted in a grid of this many patches, whatever the clip's length.
        self.patches_per_tubelet: int = (config.crop_size // config.patch_size) ** 2
        if look_ahead.num_frames % self.tubelet_size:
            raise ValueError(
                f"look_ahead.num_frames is {look_ahead.num_frames}, which is not a multiple of the "
                f"model's tubelet_size {self.tubelet_size}"
            )
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode: a stray ``.train()`` must not switch dropout on."""
        del mode
        return super().train(False)

    def encode(self, clips: Tensor) -> Tensor:
        """Encode normalised ``(B, F, 3, S, S)`` frames to ``(B, N, D)`` tokens, the first first."""
        parameter = next(self.model.parameters())
        tokens: Tensor = self.model.encoder(clips.to(parameter)).last_hidden_state
        return tokens

    def predict(self, tokens: Tensor, context: Tensor, targets: Tensor) -> Tensor:
        """Predict the latents at some positions from those at others.

        A position is ``(tubelet * h + row) * w + column``, and may lie after the clip.

        Args:
            tokens: ``(B, N, D)`` tokens at the positions from 0 to N - 1.
            context: ``(B, C)`` int64 positions of the tokens that the predictor sees.
            targets: ``(B, P)`` int64 positions whose latents are wanted.

        Returns:
            ``(B, P, D)``.
        """
        output = self.model.predictor(
            encoder_hidden_states=tokens, context_mask=[context], target_mask=[targets]
        )
        latents: Tensor = output.last_hidden_state
        return latents

    def forward(self, clips: Tensor, anticipation_seconds: Tensor) -> Tensor:
        """Return the observed tokens with the predicted ones after them.

        Args:
            clips: ``(B, F, 3, S, S)`` normalised frames, at ``look_ahead.frames_per_second``.
            anticipation_seconds: ``(B,)`` float64, from each clip's end to the predicted time.

        Returns:
            ``(B, N + P, D)`` float32.
        """
        tokens = self.encode(clips)
        batch_size, num_observed, _ = tokens.shape
        # Tubelets that are passed over between the clip's end and the predicted time: (B,)
        skipped = anticipation_seconds * self.look_ahead.frames_per_second / self.tubelet_size
        first = num_observed + self.patches_per_tubelet * skipped.to(tokens.device, torch.int64)
        num_tubelets = max(self.look_ahead.num_future_frames // self.tubelet_size, 1)
        future = torch.arange(num_tubelets * self.patches_per_tubelet, device=tokens.device)
        targets = first[:, None] + future  # (B, 1) + (P,) -> (B, P)
        context = torch.arange(num_observed, device=tokens.device).expand(batch_size, -1)
        # (B, N, D), (B, P, D) -> (B, N + P, D)
        return torch.cat([tokens, self.predict(tokens, context, targets)], dim=1).float()

    def of_videos(self, videos: Sequence[Frames]) -> Tensor:
        """Return the latents of the clips of some videos, at the configured anticipation time.

        A clip with another number of frames than the configured one, as under a control, is
        stretched to it: frames repeat, or are passed over.

        Args:
            videos: B videos with one frame or more each.

        Returns:
            ``(B, N + P, D)`` float32.
        """
        device = next(self.model.parameters()).device
        clips = [
            self.transform.apply(frames.pixels)[self._stretched(len(frames.pixels))]
            for frames in videos
        ]
        seconds = torch.full(
            (len(clips),), self.look_ahead.anticipation_seconds, dtype=torch.float64
        )
        latents: Tensor = self(torch.stack(clips).to(device), seconds)  # (B, F, 3, S, S)
        return latents

    def _stretched(self, available: int) -> list[int]:
        number = self.look_ahead.num_frames
        return [part * available // number for part in range(number)]


def load_future_latents(
    weights: str,
    look_ahead: LookAhead,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    revision: str | None = None,
) -> FutureLatents:
    """Load encoder and predictor from a folder of transformers, or a repository of the Hub.

    Raises:
        ValueError: The folder is missing, of another model, damaged, or without a predictor; or its
            tubelets do not divide ``look_ahead.num_frames``.
    """
    folder = local_folder(weights, revision)
    encoder_config = VideoEncoderConfig(
        name="vjepa2", weights=str(folder), num_frames=look_ahead.num_frames
    )
    # On the meta device nothing is read but the folder's configuration and its preprocessing.
    encoder = build_pretrained_encoder(encoder_config, torch.device("meta"), dtype)
    where = f"baselines: weights.encoder {weights!r}"
    with foreign_errors(where):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    model = load_pretrained(
        *(VJEPA2Model, config, folder, where),
        device=device,
        dtype=dtype,
        dropped_prefixes=_HEAD_PREFIXES,
    )
    return FutureLatents(model.to(device), encoder.transform, look_ahead)
