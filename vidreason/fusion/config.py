"""``FusionConfig``: sizes of the fusion core. Nothing here imports torch."""

from dataclasses import dataclass
from typing import Literal

from vidreason.ranges import check_ranges

MAX_WIDTH = 2**16
"""Largest width, and most queries, that a fusion core is built with."""
_MAX_LAYERS = 512  # far beyond any model: a slip of the keyboard is told before memory is taken
MAX_PATCH_FRAMES = 32
"""Rows of Video-LLaMA's table of frame positions."""
KEY_FRAMES = 4
"""Frames that SeViLA's answerer is shown (run_scripts/sevila/inference/nexqa_infer.sh)."""

FUSION_FILE = "fusion.safetensors"
"""The fusion core's weights in a reasoner folder."""


@dataclass(kw_only=True)
class FusionConfig:
    """Sizes of the fusion core; the defaults are the paper's (section 4.2.1)."""

    kind: Literal[
        "qformer", "mean_pool", "temporal_spatial_pool", "frame_qformer", "key_frame_qformer"
    ] = "qformer"
    """``mean_pool`` is the ablation "w/o Fusion Core" (section 5.3); it has no sizes of its own.
    Rivals' architectures, on the tokens of ``perceiver.segmenter.name=patches``:
    ``temporal_spatial_pool`` is Video-ChatGPT's, which reads ``num_queries`` alone;
    ``frame_qformer`` is Video-LLaMA's, whose image Q-Former has ``num_layers``;
    ``key_frame_qformer`` is that of SeViLA's localizer and answerer, a Q-Former of ``num_layers``
    over each of at most 4 frames."""
    num_queries: int = 32
    """Embeddings that the language model is given for a video (1 for ``mean_pool``); at least key
    frames and patches of a frame together for ``temporal_spatial_pool``, and a multiple of 4 for
    ``key_frame_qformer``, whose frames share them evenly."""
    width: int = 768
    """Width of the queries and of the visual tokens inside the fusion core."""
    num_layers: int = 8
    """Blocks, each with one cross-attention."""
    num_heads: int = 12
    """Attention heads; they share ``width``."""
    token_positions: Literal["full", "none"] = "full"
    """``full`` tells each visual token's kind and time and, for objects, box, shape and motion.
    ``none`` is the paper's literal form, in which the order of the tokens, and so of the events,
    cannot be seen."""
    warm_start: str = ""
    """Path of a BLIP-2 or InstructBLIP Q-Former that a new run starts from, as far as shapes allow,
    or of a fusion core's own weights or a reasoner folder, whose output projection is left out
    where the language model has another width; see ``vidreason/fusion/warm_start.py``. The released
    Q-Formers need the default width and heads."""

    def __post_init__(self) -> None:
        if self.warm_start and self.kind != "qformer":
            raise ValueError(
                f"reasoner.fusion.warm_start is {self.warm_start!r}, but fusion.kind is "
                f"{self.kind!r}, which has nothing to start; set kind=qformer or leave warm_start "
                "empty"
            )
        check_ranges(
            "reasoner.fusion",
            self,
            num_queries=(1, MAX_WIDTH),
            width=(1, MAX_WIDTH),
            num_layers=(1, _MAX_LAYERS),
            num_heads=(1, MAX_WIDTH),
        )
        if self.kind == "key_frame_qformer" and self.num_queries % KEY_FRAMES:
            raise ValueError(
                f"reasoner.fusion.num_queries {self.num_queries} is not a multiple of the "
                f"{KEY_FRAMES} frames of fusion.kind key_frame_qformer; choose one, such as 32"
            )
        if self.width % self.num_heads:
            raise ValueError(
                f"reasoner.fusion.width {self.width} is not a multiple of fusion.num_heads "
                f"{self.num_heads}; choose a number of heads that divides the width"
            )
