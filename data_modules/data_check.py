"""The data health report of a run: every corpus, and what training and evaluation share."""

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from data_modules.contamination import ContaminationCheck, ContaminationReport
from data_modules.corpora import CorpusConfig, DataCheckConfig, DataConfig
from data_modules.health import CorpusExamination, CorpusHealth, problems
from data_modules.prompt_lengths import PromptLimit
from vidreason.example import Example
from vidreason.video.failures import VideoReadError
from vidreason.video.media import file_identity
from vidreason.video.perceptual_hash import VideoHash, hash_video
from vidreason.video.reader import VideoReader


@dataclass(kw_only=True)
class DataReport:
    """The result of the check."""

    corpora: list[CorpusHealth] = field(default_factory=list)
    contamination: ContaminationReport | None = None
    """None unless there is both training data and something to evaluate on."""
    num_not_hashed: int = 0
    """Sampled videos whose pictures could not be compared, because they cannot be read."""
    problems: list[str] = field(default_factory=list)
    """Numbers beyond the thresholds; empty if all is well."""


def check_data(
    data: DataConfig, config: DataCheckConfig, folder: Path, limit: PromptLimit | None = None
) -> DataReport:
    """Examine all corpora of ``data``, once each.

    Args:
        data: The corpora, ``max_malformed_fraction``, ``max_unreadable_fraction`` and
            ``decode_timeout_seconds``.
        config: How closely, and the thresholds.
        folder: For the rows left out (``skipped-<corpus>.jsonl``) and scratch files.
        limit: Which prompts are too long to train on; None to leave that out.

    Raises:
        ValueError: No corpus is configured.
    """
    if not (data.train or data.validation or data.benchmark):
        raise ValueError("data.train, data.validation and data.benchmark are empty; name a corpus")
    folder.mkdir(parents=True, exist_ok=True)
    checker = _Checker(config, folder, data, limit)
    # Training corpora last: they are compared with all that is evaluated on.
    for role in ("validation", "benchmark", "train"):
        for corpus in getattr(data, role):
            checker.examine(corpus, role)
    report = checker.report
    if data.train and (data.validation or data.benchmark):
        report.contamination = checker.contamination.report()
    shares = (data.max_unreadable_fraction, config.max_skipped_fraction)
    report.problems = problems(report.corpora, *shares)
    report.problems += _contamination_problems(report.contamination, config)
    return report


class _Checker:
    def __init__(
        self, config: DataCheckConfig, folder: Path, data: DataConfig, limit: PromptLimit | None
    ) -> None:
        self.config = config
        self.limit = limit
        self.reader = VideoReader(data.decode_timeout_seconds)
        self.max_malformed_fraction = data.max_malformed_fraction
        self.folder = folder
        self.report = DataReport()
        self.contamination = ContaminationCheck(config.min_text_similarity)
        # A file that several corpora link to is hashed once.
        self._hashes: dict[Hashable, VideoHash | None] = {}

    def examine(self, corpus: CorpusConfig, role: str) -> None:
        """Examine a corpus, and compare what it shows and says with the others."""
        seen, is_training = self.contamination, role == "train"
        # Evaluation data are remembered, training data compared with them.
        add = seen.check if is_training else seen.add_evaluation
        add_hash = seen.check_hash if is_training else seen.add_evaluation_hash
        examination = CorpusExamination(
            corpus,
            role,
            self.folder,
            num_sampled=max(self.config.probe_videos, self.config.hash_videos),
            max_malformed_fraction=self.max_malformed_fraction,
            limit=None if role == "benchmark" else self.limit,
        )
        for example in examination.examples():
            # Numbers as video ids mean the same in all corpora of a format, whatever their names.
            add(replace(example, corpus=corpus.reader) if corpus.name else example)
        for example in islice(examination.sample, self.config.hash_videos):
            video = self._hash(example)
            if video is None:
                self.report.num_not_hashed += 1
            else:
                add_hash(example, video)
        examination.probe(self.config.probe_videos, self.config.decode_videos, self.reader)
        self.report.corpora.append(examination.health)

    def _hash(self, example: Example) -> VideoHash | None:
        """The hash of an example's video; None where it cannot be read: the probe says why."""
        span = (example.start_seconds, example.end_seconds)
        key = (file_identity(example.media), *span)
        if key not in self._hashes:
            try:
                self._hashes[key] = hash_video(example.media, *span, reader=self.reader)
            except VideoReadError:
                self._hashes[key] = None
        return self._hashes[key]


def _contamination_problems(
    report: ContaminationReport | None, config: DataCheckConfig
) -> list[str]:
    if report is None or report.contaminated_fraction <= config.max_contaminated_fraction:
        return []
    counts = {kind: n for kind, n in report.num_evaluation_videos_found.items() if kind != "text"}
    return [
        f"{report.contaminated_fraction:.1%} of the {report.num_evaluation_videos} evaluation "
        f"videos are in the training data ({counts}); data_check.max_contaminated_fraction is "
        f"{config.max_contaminated_fraction}"
    ]
