"""Video-ChatGPT's modules: CLIP's patches pooled over space and over time, one linear layer, Llama.

Written from the description of mbzuai-oryx/Video-ChatGPT at commit 659e04b (model/video_chatgpt.py,
inference.py, eval/model_utils.py); Maaz et al., "Video-ChatGPT", ACL 2024.

Shapes: T frames, P patches of a frame, C width of CLIP, L prompt tokens, D width of the language
model, S side in pixels of CLIP's input.
"""

from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPVisionModel, LlamaForCausalLM

from vidreason.video.transforms import CLIP_DEVIATION, CLIP_MEAN

MAX_FRAMES = 100
"""Temporal tokens of a video (inference.py: get_spatio_temporal_features_torch)."""
_FRAMES_AT_ONCE = 32
"""Frames that CLIP sees at once; all 100 would take 32 GB of attention on a CPU."""


def segment_middles(num_frames: int, limit: int = MAX_FRAMES) -> list[int]:
    """Return the middles of equal segments of a video, by the official rule.

    Args:
        num_frames: Frames of the video, 1 or more.
        limit: Most frames that are looked at.

    Returns:
        ``min(limit, num_frames)`` indices; short videos repeat some (eval/model_utils.py:
        get_seq_frames).
    """
    count = min(limit, num_frames)
    length = (num_frames - 1) / count
    # Python rounds half to even, as numpy does.
    edges = [round(length * number) for number in range(count + 1)]
    return [(start + end) // 2 for start, end in pairwise(edges)]


def clip_pixels(frames: Tensor, side: int) -> Tensor:
    """Squash frames to CLIP's input, by nearest pixels and without keeping their aspect.

    Args:
        frames: ``(T, 3, H, W)`` uint8 RGB.
        side: Side of CLIP's input in pixels, S.

    Returns:
        ``(T, 3, S, S)`` float32, normalised as CLIP's.
    """
    # Nearest pixels are bytes already: the official cast to uint8 changes nothing.
    squashed = functional.interpolate(frames, size=(side, side), mode="nearest").float() / 255
    mean = torch.tensor(CLIP_MEAN, device=frames.device).view(3, 1, 1)
    deviation = torch.tensor(CLIP_DEVIATION, device=frames.device).view(3, 1, 1)
    return (squashed - mean) / deviation


def pool_patches_of_frames(features: Tensor) -> Tensor:
    """Pool a video's patches to temporal and spatial tokens.

    Args:
        features: ``(T, P, C)`` patches of each frame, T at most :data:`MAX_FRAMES`.

    Returns:
        ``(100 + P, C)``: of each frame the mean over its patches, zeros up to 100, then of each
        patch the mean over the frames.

    Raises:
        ValueError: There are more frames.
    """
    if len(features) > MAX_FRAMES:
        raise ValueError(f"Video-ChatGPT takes {MAX_FRAMES} frames, found {len(features)}")
    # (T, C), then rows of zeros: (100, C)
    temporal = functional.pad(features.mean(dim=1), (0, 0, 0, MAX_FRAMES - len(features)))
    # (100, C), (P, C) -> (100 + P, C)
    return torch.cat([temporal, features.mean(dim=0)])


class VideoChatGPTModel(nn.Module):
    """CLIP's vision tower, the projector and the language model.

    Args:
        vision: The tower.
        language_model: Llama, with word embeddings for the video's three tokens.
    """

    def __init__(self, vision: CLIPVisionModel, language_model: LlamaForCausalLM) -> None:
        super().__init__()
        self.vision = vision
        self.language_model = language_model
        self.mm_projector = nn.Linear(vision.config.hidden_size, language_model.config.hidden_size)

    @property
    def num_visual_tokens(self) -> int:
        """Tokens of a video in a prompt: 356 for 224 pixels in patches of 14."""
        side = self._side // cast(int, self.vision.config.patch_size)
        return MAX_FRAMES + side**2

    @property
    def _side(self) -> int:
        return cast(int, self.vision.config.image_size)

    def see(self, frames: Tensor) -> Tensor:
        """Return the visual tokens of a video.

        Args:
            frames: ``(T, 3, H, W)`` uint8 RGB, T from 1 to :data:`MAX_FRAMES`.

        Returns:
            ``(100 + P, C)`` in the tower's dtype, before the projector.
        """
        weight = self.mm_projector.weight
        features = []
        for some in torch.split(frames, _FRAMES_AT_ONCE):
            pixels = clip_pixels(some.to(weight.device), self._side)
            # Any: the record is named after the model's class. Its last layer is not used.
            output: Any = self.vision(pixels.to(weight.dtype), output_hidden_states=True)
            # Leave out the [CLS]: (t, 1 + P, C) -> (t, P, C)
            features.append(output.hidden_states[-2][:, 1:])
        return pool_patches_of_frames(torch.cat(features))

    def embed(self, ids: Tensor, visual: Tensor | None, patch_id: int) -> Tensor:
        """Embed a prompt, with the video in it.

        Args:
            ids: ``(L,)`` int64, with ``patch_id`` for each visual token.
            visual: ``(100 + P, C)`` visual tokens; None for a prompt without a video.
            patch_id: The token ``<vid_patch>``.

        Returns:
            ``(L, D)`` embeddings.

        Raises:
            ValueError: The prompt has more or fewer slots than the video has tokens.
        """
        words: Tensor = self.language_model.get_input_embeddings()(ids)
        slots = ids == patch_id
        num_tokens = 0 if visual is None else len(visual)
        if int(slots.sum()) != num_tokens:
            raise ValueError(
                f"the prompt has {int(slots.sum())} tokens <vid_patch> for {num_tokens} of the "
                "video; give it one for each"
            )
        if visual is None:
            return words
        # The visual tokens in the language model's width, in the slots' order: (100 + P, D)
        return words.index_put((slots,), self.mm_projector(visual).to(words.dtype))
