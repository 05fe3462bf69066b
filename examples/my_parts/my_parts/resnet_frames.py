"""ResNet-18 of torchvision, frame by frame: a video encoder that sees no motion inside a clip."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from vidreason.perception.added_models import AddedVideoEncoder
from vidreason.perception.config import VideoEncoderConfig, VideoEncoderSizes
from vidreason.perception.video_encoder import EncodedClips, arrange_clips
from vidreason.perception.weights import load_weights

_WIDTH = 512
_STRIDE = 32


class ResNetFrames(AddedVideoEncoder):
    """Patch tokens are the last feature map, and the clip token is their mean."""

    version = 1

    def __init__(self, sizes: VideoEncoderSizes) -> None:
        super().__init__(sizes)
        self.trunk = resnet18()
        self.trunk.fc = nn.Identity()  # the classifier

    @classmethod
    def sizes_of(cls, config: VideoEncoderConfig) -> VideoEncoderSizes:
        """Take any number of frames, and squares whose side is a multiple of the stride."""
        image_size = config.image_size or 224
        if image_size % _STRIDE:
            raise ValueError(
                f"perceiver.video_encoder.image_size is {image_size}; choose a multiple of "
                f"{_STRIDE}"
            )
        return VideoEncoderSizes(
            width=_WIDTH,
            image_size=image_size,
            patch_size=_STRIDE,
            num_frames=config.frames_per_clip,
        )

    def load(self, path: str, device: torch.device, ignored_keys: Sequence[str] = ()) -> None:
        """Load torchvision's file ``resnet18-f37072fd.pth``, but for the classifier."""
        load_weights(self.trunk, path, device=device, dropped_prefixes=("fc.", *ignored_keys))

    def forward(self, frames: Tensor) -> EncodedClips:
        """Encode ``(B, N, F, 3, S, S)`` normalised frames."""
        trunk = self.trunk
        # (B, N, F, 3, S, S) -> (B * N * F, 3, S, S)
        pixels = frames.flatten(0, 2).to(trunk.conv1.weight.dtype)
        features = trunk.maxpool(trunk.relu(trunk.bn1(trunk.conv1(pixels))))
        for layer in (trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4):
            features = layer(features)
        # (B * N * F, D, h, w) -> (B * N, F, h, w, D)
        patches = features.movedim(1, -1).unflatten(0, (-1, self.num_frames))
        return arrange_clips(frames, patches.mean(dim=(1, 2, 3)), patches)
