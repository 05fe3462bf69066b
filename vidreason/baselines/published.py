"""Numbers that others have published, in a table of their own: they were not measured here.

Frames, prompts, parsers and scorers differ from ours and from each other, so that no such number
stands in a column with measured ones. Numbers by a GPT judge move with the service's model (arXiv
2405.07798), so those of two dates are not comparable at all. A corpus without any has no row: none
are known of the paper's rivals on CLEVRER or VCR, and the paper itself prints none.
"""

from collections.abc import Collection
from dataclasses import dataclass

from vidreason.evaluation.tables import Table

TITLE = "Reported elsewhere (not measured here), on the released videos and questions"

_SEVILA = "github.com/Yui010206/SeViLA"
_VIDEO_CHATGPT = "github.com/mbzuai-oryx/Video-ChatGPT README @659e04b"
_DEBIASING = "third-party notes on the BOLD de-biasing paper"
_JUDGED = "judged by GPT-3.5, whose snapshots differ by 10 points"
_MULTIPLE_CHOICE = "accuracy, multiple choice"


@dataclass(frozen=True)
class PublishedNumber:
    """One number of a model on a benchmark, as somebody else reports it."""

    model: str
    corpus: str
    """Name of the benchmark's reader."""
    measure: str
    number: str
    """As it is written there, in percent."""
    source: str
    second_hand: bool
    """The source does not report a measurement of its author's own."""
    caveat: str = ""


PUBLISHED = (
    PublishedNumber(
        *("SeViLA, zero-shot", "nextqa", _MULTIPLE_CHOICE, "63.6", f"{_SEVILA}/issues/6", False),
        "the paper's Table 2, as its author says; val, 4,996 questions",
    ),
    PublishedNumber(
        *("SeViLA, zero-shot", "nextqa", _MULTIPLE_CHOICE, "64.91", f"{_SEVILA}/issues/6", False),
        "a user's run of the official script and weights; val, 4,996 questions",
    ),
    PublishedNumber(
        *("SeViLA, fine-tuned", "nextqa", _MULTIPLE_CHOICE, "73.8", f"{_SEVILA}/issues/9", False),
        "73.2 when run again; these weights were never released (SeViLA issue 27)",
    ),
    PublishedNumber(
        *("SeViLA, zero-shot", "nextqa", _MULTIPLE_CHOICE, "63.78", _DEBIASING, True),
    ),
    PublishedNumber(*("Video-LLaMA", "nextqa", _MULTIPLE_CHOICE, "40.85", _DEBIASING, True)),
    PublishedNumber(*("Video-LLaVA", "nextqa", _MULTIPLE_CHOICE, "49.96", _DEBIASING, True)),
    PublishedNumber(
        *("Video-ChatGPT", "nextqa", _MULTIPLE_CHOICE, "54.4", "third-party notes", True),
        "a weak source: neither split nor protocol is said",
    ),
    PublishedNumber(
        *("ViperGPT", "nextqa", _MULTIPLE_CHOICE, "60.0", "paperswithcode.com, NExT-QA", True),
        "its code model (Codex) is off since 2023-03-23: nobody can run it again",
    ),
    PublishedNumber(
        *("LLaVA-Video-7B", "nextqa", _MULTIPLE_CHOICE, "83.2"),
        *("github.com/LLaVA-VL/LLaVA-NeXT/issues/408", False),
        "the paper's; 80.46 with lmms-eval; NExT-QA is in that family's training data (issue 110)",
    ),
    PublishedNumber(
        *("SeViLA", "nextgqa", "Acc@QA", "68.1", "arXiv 2309.01327, by notes on it", True),
    ),
    PublishedNumber(
        *("SeViLA", "nextgqa", "Acc@GQA", "16.6", "arXiv 2309.01327, by notes on it", True),
    ),
    PublishedNumber(
        *("Video-ChatGPT", "activitynet_qa", "accuracy, GPT judge", "35.2"),
        *(_VIDEO_CHATGPT, False, _JUDGED),
    ),
    PublishedNumber(
        *("Video-LLaMA", "activitynet_qa", "accuracy, GPT judge", "12.4"),
        *(_VIDEO_CHATGPT, False, f"measured by a competitor; {_JUDGED}"),
    ),
    PublishedNumber(
        *("Video-LLaMA", "test_of_time", "accuracy, synthetic", "88.33"),
        *("github.com/bpiyush/TestOfTime README", False),
        "TimeChat has 76.67 there",
    ),
    PublishedNumber(*("Video-LLaMA", "star", _MULTIPLE_CHOICE, "36.59", _DEBIASING, True)),
    PublishedNumber(*("SeViLA", "video_mme", _MULTIPLE_CHOICE, "39.85", _DEBIASING, True)),
    PublishedNumber(
        *("Video-ChatGPT", "mvbench", _MULTIPLE_CHOICE, "32.7"),
        *("papers.lunadong.com/paper/12387", True),
    ),
)


def published_table(corpora: Collection[str]) -> Table | None:
    """Return the numbers that others report on some benchmarks; None where there are none.

    Args:
        corpora: Names of readers; a microworld's form of a benchmark is not the benchmark, and is
            to be left out.
    """
    rows = tuple(
        (
            f"{one.model} on {one.corpus}",
            one.measure,
            one.number,
            one.source + (" (second hand)" if one.second_hand else ""),
            one.caveat or "-",
        )
        for one in PUBLISHED
        if one.corpus in corpora
    )
    if not rows:
        return None
    return Table(TITLE, ("model and benchmark", "measure", "number", "source", "caveat"), rows)
