"""Imagined videos as a corpus: annotations in all forms, and visual tokens for a store.

What limits a reasoner of the microworld is the number of its videos, and imagining one takes a
hundredth of the time of perceiving it. There is no picture of them: in the place of each video
stands a line of text, by whose content the store finds the tokens.
"""

import hashlib
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from vidreason.microworld.corpora import (
    WorldConfig,
    link_video,
    original_video,
    write_annotations,
)
from vidreason.microworld.imagination import Imagination
from vidreason.microworld.simulation import Rollout
from vidreason.microworld.symmetries import draw_view
from vidreason.perception.visual_tokens import VisualTokens

_SPLIT = "train"
_FIRST = 1_000_000
"""Number of the first video: corpora that count videos must not have two of one number."""


def write_imagined_world(
    root: Path,
    imagination: Imagination,
    stories: Sequence[Rollout],
    config: WorldConfig,
    keep: Callable[[str, VisualTokens], object],
) -> None:
    """Write annotations of the split ``train`` below ``root``, and hand the tokens to ``keep``.

    The same arguments give the same videos. Annotations are written after the tokens, so an
    interrupted call leaves no annotation of a missing video. There are no pictures for VCR.

    Args:
        root: Folder of the corpora.
        imagination: Gives the visual tokens.
        stories: What happens in the videos, up to symmetries.
        config: How many videos of ``train``, and of which seed; questions about each.
        keep: Is called with the path of each video and its tokens.
    """
    rollouts = {}
    for index in range(config.num_videos[_SPLIT]):
        generator = random.Random(f"imagined/{config.seed}/{index}")
        rollout = draw_view(generator.choice(stories), generator)
        tokens = imagination.tokens(rollout, generator)
        video_id = f"4{_FIRST + index:010d}"  # 1 to 3 are those of the splits of rendered videos
        path = original_video(root, video_id)
        # Other tokens have another content, as other frames would.
        content = hashlib.sha256(tokens.features.numpy().tobytes()).hexdigest()
        path.write_text(f"imagined: a video that was never drawn, with the tokens {content}\n")
        link_video(root, _SPLIT, video_id)
        keep(str(path), tokens)
        rollouts[video_id] = rollout
    write_annotations(root, _SPLIT, rollouts, config)
