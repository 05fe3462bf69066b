"""Stage 1's data: captions of videos (section 3.4.1)."""

from typing_extensions import override

from data_modules.corpora import CorpusConfig
from data_modules.training_data import TrainingDataModule

CAPTION_CORPORA = (
    "webvid",
    "webdataset",
    "hd_vila",
    "ego4d",
    "something_something",
    "huggingface",
)
"""Readers whose responses are captions; ``huggingface`` is taken at its columns' word."""


class AlignmentDataModule(TrainingDataModule):
    """Video-caption pairs; the response is the caption, whose likelihood is eq. 6's objective."""

    @override
    def check_corpora(self, corpora: list[CorpusConfig]) -> None:
        for corpus in corpora:
            if corpus.reader not in CAPTION_CORPORA:
                raise ValueError(
                    f"data.train lists {corpus.reader!r}, which has no captions; the alignment "
                    "stage trains on "
                    f"{', '.join(CAPTION_CORPORA)} (for questions use stage=instruction)"
                )
