"""``VerifyConfig``: which verifier is measured, and on how many videos."""

from dataclasses import dataclass, field
from math import inf

from vidreason.evidence.config import VerifierConfig
from vidreason.ranges import BELOW_1, check_ranges


@dataclass(kw_only=True)
class VerifyConfig:
    """Which verifier is measured, and on how many videos."""

    run_dir: str = "runs/verify"
    """Folder of videos, claims and results."""
    verifier: VerifierConfig = field(default_factory=lambda: VerifierConfig(model="shipped"))
    device: str = "auto"
    """Where it computes: ``cpu``, ``cuda``, ``cuda:1``, or ``auto`` to take what there is."""
    num_videos: int = 200
    """Test videos, from the split ``test`` of a world with ``world_seed``."""
    num_control_videos: int = 60
    """The first test videos, about which claims are verified again without any video, and with
    another video."""
    num_fit_videos: int = 150
    """Videos of the split ``val`` on which signals are weighed and the threshold is chosen; 0 to
    take the verifier's calibration as it is."""
    world_seed: int = 403
    """Seed of a world that the verified reasoner was not trained on."""
    false_alarms: float = 0.05
    """Share of true steps that the threshold may refuse."""

    def __post_init__(self) -> None:
        """Check ranges, and that there is something to measure."""
        if not self.verifier.model:
            raise ValueError("verifier.model is empty; name a model, or `shipped`")
        check_ranges(
            "",
            self,
            num_videos=(2, inf),
            num_control_videos=(2, inf),
            num_fit_videos=(0, inf),
            world_seed=(0, inf),
            false_alarms=(0, BELOW_1),
        )
