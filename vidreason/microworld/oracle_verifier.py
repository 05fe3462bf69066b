"""A verifier that reads the event log: it knows every true sentence of the microworld's English."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import inf
from pathlib import PurePath

from vidreason.evidence.verifier import Claim, Support
from vidreason.microworld.corpora import rollout_of_video
from vidreason.microworld.simulation import Rollout
from vidreason.microworld.statements import is_true

_TOLERANCE = 0.06  # seconds; times in answers may be rounded to a tenth


class OracleVerifier:
    """A sentence is supported exactly if the event log says so within the claim's span.

    A step of an explanation, its clause alone, a cause ("... because ...") and the order of two
    events ("... before ...", "... after ...") are known; any other sentence is about nothing that
    a world has, and is not supported.

    Args:
        rollout_of: Rollout of a video by its path or URL, see :func:`rollouts_by_path`.
    """

    verifier_id = "oracle of the microworld"

    def __init__(self, rollout_of: Callable[[str], Rollout]) -> None:
        self._rollout_of = rollout_of

    def verify(self, claims: Sequence[Claim]) -> list[Support]:
        """Look each claim up in the event log of its video; scores are 0 and 1."""
        answers = [self._is_true(claim) for claim in claims]
        return [Support(float(is_true), is_true) for is_true in answers]

    def _is_true(self, claim: Claim) -> bool:
        text = claim.text.strip().removesuffix(".").casefold()
        start = -inf if claim.start_seconds is None else claim.start_seconds - _TOLERANCE
        end = inf if claim.end_seconds is None else claim.end_seconds + _TOLERANCE
        return is_true(self._rollout_of(claim.media), text, start, end)


def rollouts_by_path(seed: int = 0) -> Callable[[str], Rollout]:
    """Return the function that knows the rollout of each video of a world, by its path.

    Args:
        seed: Seed of the world.

    Raises:
        ValueError: A path is not one of a world's videos (by the function that is returned).
    """

    # Claims of one video come together, and drawing its scene takes longer than reading it.
    @lru_cache(maxsize=64)
    def rollout_of(media: str) -> Rollout:
        video_id = PurePath(media).stem.removeprefix("v_")
        is_known = video_id.isascii() and video_id.isdecimal() and len(video_id) == 11
        if not is_known or video_id[0] not in "123":
            raise ValueError(
                f"{media}: not a video of a microworld, whose names are 1, 2 or 3 and ten digits"
            )
        return rollout_of_video(video_id, seed)

    return rollout_of
