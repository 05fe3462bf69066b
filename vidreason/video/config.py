"""``SamplingConfig``: which frames of a video are used."""

from dataclasses import dataclass

from vidreason.ranges import check_ranges


@dataclass(kw_only=True)
class SamplingConfig:
    """Numbers of clips, frames and key frames of a video."""

    num_clips: int = 4
    """Clips a video is cut into, N_t; each gives one clip token. The paper leaves the number
    open."""
    frames_per_clip: int = 8
    """Frames of a clip, F; must be what the video encoder takes (8 for ViCLIP)."""
    num_key_frames: int = 4
    """Frames of the video in which objects are looked for, spread evenly over those the encoder
    sees; 0 for none."""

    def __post_init__(self) -> None:
        ranges = {"num_clips": (1, 2**16), "frames_per_clip": (1, 2**13)}
        check_ranges("perceiver.sampling", self, **ranges)
        num_frames = self.num_clips * self.frames_per_clip
        if not 0 <= self.num_key_frames <= num_frames:
            raise ValueError(
                f"perceiver.sampling.num_key_frames is {self.num_key_frames}; it must be between "
                f"0 and num_clips * frames_per_clip = {num_frames}, because the encoder sees every "
                "key frame"
            )
