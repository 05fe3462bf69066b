"""A trained reasoner and sample videos of the microworld, which ship with the package.

They lie beside the three parts that the reasoner was trained on, and refer to them by content.
CONTRIBUTING says how they are made.
"""

from pathlib import Path

REASONER_FOLDER = Path(__file__).parent / "reasoner"
SAMPLES_FOLDER = Path(__file__).parent / "samples"
"""Videos 12 (hit), 2 (push) and 14 (block) of the test split of ``world_seed=15``: the first of
their kinds with two events at least whose future is all but certain."""


def shipped_reasoner() -> Path | None:
    """Return the folder of the shipped reasoner; None if this installation carries none."""
    return REASONER_FOLDER if (REASONER_FOLDER / "config.json").is_file() else None


def sample_videos() -> dict[str, Path]:
    """Return the paths of the sample videos by their names; empty if there are none."""
    return {path.stem: path for path in sorted(SAMPLES_FOLDER.glob("*.mp4"))}
