"""Have people review an instruction set: ``python -m experiments.review_instructions page``.

``page`` writes one HTML file with a sample of the set in ``run_dir``, on which a person accepts,
rejects or edits answers and saves a review file. Put the files of all reviewers into the folder
``reviews`` beside ``train.jsonl``: the reader ``causal_vid_instruct`` respects them.

``agreement`` says how far reviewers agree with each other, and the quality gate with them
(``agreement.md``, ``agreement.json``). ``apply`` writes the reviewed set as files of its own, to be
published: without the rejected rows, with the edits, and each row saying who has reviewed it.
"""

import sys
from collections.abc import Sequence

from experiments.program import lazy, run_program
from experiments.review_instructions.config import ReviewInstructionsConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 2 for a wrong configuration or a wrong file."""
    return run_program(
        {
            "page": lazy("experiments.review_instructions.run:page"),
            "agreement": lazy("experiments.review_instructions.run:agreement"),
            "apply": lazy("experiments.review_instructions.run:apply"),
        },
        program="review_instructions",
        description="Write a review page, compare reviewers, or apply their reviews.",
        argv=argv,
        schema=ReviewInstructionsConfig,
    )


if __name__ == "__main__":
    sys.exit(main())
