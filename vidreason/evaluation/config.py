"""Settings of an evaluation: how benchmark questions are answered and scored."""

from dataclasses import dataclass, field
from math import inf
from typing import Literal

from vidreason.ranges import check_ranges

Control = Literal[
    "none", "half_frames", "single_frame", "blind", "shuffled_frames", "shuffled", "random"
]
"""A replacement of the visual tokens; see
:func:`vidreason.evaluation.controls.controlled_source`."""


@dataclass(kw_only=True)
class EvaluationConfig:
    """Settings for answering and scoring benchmark questions."""

    multiple_choice: Literal["likelihood", "generate"] = "likelihood"
    """``likelihood``: the option whose text has the highest log-likelihood per token, end-of-turn
    token included; every question has an answer. ``generate``: the option that the generated text
    names, or none."""
    batch_size: int = 8
    """Questions at a time. What the options of a question and the questions of a video share is
    computed once; a language model that cannot do so needs one row an option: 40 rows for 8
    questions with 5 options."""
    max_text_tokens: int = 1024
    """Longest prompt and option together, in tokens."""
    max_unreadable_fraction: float = 0.0
    """Share of questions whose video may be unreadable. They count as wrong; beyond the share the
    evaluation stops, because its number would be about the disk and not the model."""
    every_n_steps: int | None = None
    """During training: None for no evaluation; 0 for one at each validation; N for one every N
    optimizer steps as well."""
    limit: int | None = None
    """During training: answer at most this many questions of each benchmark, spread evenly over it;
    None for all."""
    seed: int = 0
    """Seed of the controls."""
    report_items: int = 100
    """Questions whose frames the HTML page shows, chosen evenly from right and wrong ones of each
    corpus; 0 for none. All other questions about the same videos have them, too."""
    num_calibration_questions: int = 500
    """``evaluate`` also answers at most this many questions of each corpus of ``data.validation``
    that is in the benchmark, too, and fits a temperature of the confidences and conformal sets of
    next events on them. 0 for none."""
    protocols: dict[str, str] = field(default_factory=dict)
    """How corpora are scored that have no protocol of their own: by corpus, a corpus of
    :data:`vidreason.evaluation.protocols.PROTOCOLS` that is scored so, an entry point of the group
    ``vidreason.protocols``, or ``package.module:object``. Others are scored by accuracy."""
    wordnet: str = ""
    """Folder of WordNet 3.0's database files, such as ``/usr/share/wordnet``, by which NExT-QA's
    open-ended questions are scored; empty for exact match."""
    stop_words: str = ""
    """The ``stopwords.txt`` of that benchmark's repository."""
    bertscore_model: str = ""
    """Folder of an encoder, such as ``roberta-large``, by which free answers are compared with
    their references, too; empty for none."""
    bertscore_layer: int | None = None
    """Layer whose hidden states are compared. None: the usual one of a known model."""

    def __post_init__(self) -> None:
        """Check ranges."""
        check_ranges(
            "evaluation",
            self,
            batch_size=(1, inf),
            max_text_tokens=(1, inf),
            max_unreadable_fraction=(0, 1),
            every_n_steps=(0, inf),
            limit=(1, inf),
            report_items=(0, inf),
            num_calibration_questions=(0, inf),
            bertscore_layer=(0, inf),
        )
