"""Claims about videos of a microworld: planted errors, and a true sentence of each one's form."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vidreason.evidence.verifier import Claim
from vidreason.microworld.corpora import WorldConfig, split_rollouts
from vidreason.microworld.planted_errors import ERROR_KINDS, ToldStep, false_step, true_step
from vidreason.microworld.renderer import write_video


@dataclass(frozen=True, kw_only=True)
class KnownClaim:
    """A claim of which it is known whether it is true."""

    claim: Claim
    video_id: str
    kind: str
    """Kind of the error, of a true claim that of the false one whose form it has."""
    form: str
    is_true: bool


def write_videos(folder: Path, split: str, num_videos: int, seed: int) -> None:
    """Write the videos of a split that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    config = WorldConfig(num_videos={split: num_videos}, seed=seed)
    for video_id, rollout in split_rollouts(split, config).items():
        if not (folder / f"{video_id}.mp4").is_file():
            write_video(rollout, folder / f"{video_id}.mp4")


def known_claims(folder: Path, split: str, num_videos: int, seed: int) -> Iterator[KnownClaim]:
    """Yield a false claim of each kind about each video, and as many true ones.

    A kind of which a video can have no error is left out for it.
    """
    config = WorldConfig(num_videos={split: num_videos}, seed=seed)
    for video_id, rollout in split_rollouts(split, config).items():
        # One a video: more videos change no claim about the others, whose signals are stored.
        generator = random.Random(f"verify/{seed}/{video_id}")
        for kind in ERROR_KINDS:
            false = false_step(rollout, kind, generator)
            # Of the same form, so that the form of a sentence tells nothing.
            true = false and true_step(rollout, false.form, generator)
            if false is not None and true is not None:
                media = str(folder / f"{video_id}.mp4")
                yield _known(false, media, video_id, kind)
                yield _known(true, media, video_id, kind)


def _known(step: ToldStep, media: str, video_id: str, kind: str) -> KnownClaim:
    return KnownClaim(
        claim=Claim(
            text=step.text,
            media=media,
            start_seconds=step.start_seconds,
            end_seconds=step.end_seconds,
        ),
        video_id=video_id,
        kind=kind,
        form=step.form,
        is_true=step.error is None,
    )
