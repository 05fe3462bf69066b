"""Video-LLaMA's vision-language branch, from frames to tokens of the language model.

Written from the architecture of DAMO-NLP-SG/Video-LLaMA@64888c0 (video_llama/models/video_llama.py,
encode_videoQformer_visual) on transformers' classes.

Shapes: B videos, T frames, S image side in pixels, E width of the tower, D width of the Q-Formers,
Q queries of a frame, V queries of a video, W width of the language model.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn
from transformers import Blip2QFormerConfig, Blip2VisionConfig

from vidreason.baselines.blip2_parts import (
    Names,
    QueryTransformer,
    VisionTower,
    below,
    official_query_names,
    official_vision_names,
    plain_names,
    vision_norm,
)

FRAME_PARTS = ("vision", "vision_norm", "frame_queries")
"""Attributes that are frozen in training, so that released checkpoints do not hold them."""
NUM_VIDEO_LAYERS = 2
"""Layers of the video Q-Former (models/video_llama.py: init_video_Qformer); no setting changes
them."""


class VideoLlamaVision(nn.Module):
    """Frames of videos in, tokens of the language model out.

    Args:
        vision: Sizes of the vision tower.
        queries: Sizes of the image Q-Former, whose width and heads the video Q-Former shares.
        num_frame_queries: Queries of a frame, Q.
        num_video_queries: Queries of a video, V.
        max_frames: Most frames, which have a position each.
        token_width: Width of the language model, W.
    """

    def __init__(
        self,
        vision: Blip2VisionConfig,
        queries: Blip2QFormerConfig,
        *,
        num_frame_queries: int = 32,
        num_video_queries: int = 32,
        max_frames: int = 32,
        token_width: int = 4096,
    ) -> None:
        super().__init__()
        width = queries.hidden_size
        self.vision = VisionTower(vision)
        self.vision_norm = vision_norm(vision)
        self.frame_queries = QueryTransformer(queries, num_frame_queries)
        self.frame_positions = nn.Embedding(max_frames, width)
        # The video Q-Former looks at the frames' queries in each of its layers.
        video = deepcopy(queries)
        video.num_hidden_layers = NUM_VIDEO_LAYERS
        video.cross_attention_frequency = 1
        video.encoder_hidden_size = width
        self.video_queries = QueryTransformer(video, num_video_queries)
        self.projection = nn.Linear(width, token_width)

    @property
    def image_size(self) -> int:
        """Side of the frames in pixels."""
        return self.vision.image_size

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode videos.

        Args:
            pixels: ``(B, T, 3, S, S)`` frames, normalised as CLIP's.

        Returns:
            ``(B, V, W)`` float32 tokens.

        Raises:
            ValueError: There are more frames than positions.
        """
        num_videos, num_frames = pixels.shape[:2]
        if num_frames > self.frame_positions.num_embeddings:
            raise ValueError(
                f"num_frames is {num_frames}, but Video-LLaMA has positions for "
                f"{self.frame_positions.num_embeddings} frames"
            )
        # Every frame by itself: (B, T, 3, S, S) -> (B * T, 3, S, S) -> (B * T, Q, D)
        tokens = self.vision(pixels.flatten(0, 1))
        normed = self.vision_norm(tokens.to(self.vision_norm.weight.dtype))
        frames = self.frame_queries(normed)
        # The frame's position on all of its queries: (B * T, Q, D) -> (B, T, Q, D) + (T, 1, D)
        positions = self.frame_positions.weight[:num_frames, None]
        frames = frames.view(num_videos, num_frames, *frames.shape[1:]) + positions
        # All queries of a video in one sequence: (B, T, Q, D) -> (B, T * Q, D) -> (B, V, D)
        video = self.video_queries(frames.flatten(1, 2))
        projected: Tensor = self.projection(video)
        return projected


def official_names(model: VideoLlamaVision) -> dict[str, Names]:
    """Return the official keys, by the attribute of the model that they belong to."""
    parts: dict[str, Names] = {
        "vision": official_vision_names(model.vision),
        "vision_norm": plain_names(model.vision_norm, "ln_vision."),
        "frame_queries": official_query_names(model.frame_queries, "Qformer.bert.", "query_tokens"),
        "frame_positions": plain_names(model.frame_positions, "video_frame_position_embedding."),
        "video_queries": official_query_names(
            model.video_queries, "video_Qformer.bert.", "video_query_tokens"
        ),
        "projection": plain_names(model.projection, "llama_proj."),
    }
    return {part: below(part, names) for part, names in parts.items()}


def embed_prompt(words: nn.Module, ids: list[int], slot: int, tokens: Tensor | None) -> Tensor:
    """Return the embeddings of a prompt, with a video's tokens in its slot.

    Args:
        words: Word embeddings of the language model.
        ids: Token ids, without any for the slot.
        slot: Number of ids before it.
        tokens: ``(V, W)``; None for a prompt without a video.

    Returns:
        ``(len(ids) + V, W)``, in the words' dtype.
    """
    weight = next(words.parameters())
    embedded: Tensor = words(torch.tensor(ids, device=weight.device))  # (len(ids), W)
    if tokens is None:
        return embedded
    return torch.cat([embedded[:slot], tokens.to(embedded), embedded[slot:]])
