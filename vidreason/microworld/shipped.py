"""Sample videos of the microworld, which ship with the package, beside a reasoner of that world.

CONTRIBUTING says how they are made.
"""

from pathlib import Path

SAMPLES_FOLDER = Path(__file__).parent / "samples"
"""Videos 12 (hit), 2 (push) and 14 (block) of the test split of ``world_seed=15``: the first of
their kinds with two events at least whose future is all but certain."""


def sample_videos() -> dict[str, Path]:
    """Return the paths of the sample videos by their names; empty if there are none."""
    return {path.stem: path for path in sorted(SAMPLES_FOLDER.glob("*.mp4"))}
