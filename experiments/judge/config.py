"""``JudgeProgramConfig``: which answers are judged, by whom, and how."""

from dataclasses import dataclass, field
from math import inf
from typing import Literal

from vidreason.evaluation.judge.judges import JudgeConfig
from vidreason.ranges import check_ranges


@dataclass(kw_only=True)
class JudgeProgramConfig:
    """Which answers are judged, by whom, and how."""

    predictions: str = ""
    """Predictions that ``evaluate`` wrote, such as ``RUN/evaluation/predictions-none.jsonl``."""
    against: str = ""
    """Predictions of another run on the same questions: compare instead of scoring."""
    evidence: str = ""
    """JSONL of what is in the videos: objects with ``evidence`` and either ``id`` (of a question)
    or ``video_id``. Without it, factual grounding is not judged."""
    protocol: Literal["axes", "video_chatgpt_qa", "video_chatgpt_generation"] = "axes"
    """``axes``: the paper's three, from 1 to 5. The others follow Video-ChatGPT: yes or no with a
    score, or four aspects, from 0 to 5 against the reference."""
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    agreement_with: list[str] = field(default_factory=list)
    """``judgements.jsonl`` of other judges on the same predictions: how far they agree."""
    output_dir: str = ""
    """Empty for a folder ``judged`` beside the predictions."""
    limit: int | None = None
    """Judge at most this many answers, the first ones; None for all."""
    num_parallel: int = 4
    """Requests at a time to an endpoint."""

    def __post_init__(self) -> None:
        """Check what goes together."""
        if not self.predictions:
            raise ValueError("predictions is empty; name a file that evaluate wrote")
        if self.against and self.protocol != "axes":
            raise ValueError(f"against compares on the axes; protocol is {self.protocol!r}")
        if self.agreement_with and (self.against or self.protocol != "axes"):
            raise ValueError("agreement_with compares scores on the axes; unset against, protocol")
        check_ranges("", self, limit=(1, inf), num_parallel=(1, inf))
