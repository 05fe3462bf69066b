"""Stage 1's data: captions of videos (section 3.4.1)."""

from typing_extensions import override

from data_modules.corpora import CorpusConfig
from data_modules.readers import READERS
from data_modules.training_data import TrainingDataModule


class AlignmentDataModule(TrainingDataModule):
    """Video-caption pairs; the response is the caption, whose likelihood is eq. 6's objective."""

    @override
    def check_corpora(self, corpora: list[CorpusConfig]) -> None:
        for corpus in corpora:
            if not READERS[corpus.reader].has_captions:
                suitable = [name for name, reader in READERS.items() if reader.has_captions]
                raise ValueError(
                    f"data.train lists {corpus.reader!r}, which has no captions; the alignment "
                    f"stage trains on {', '.join(suitable)} (for questions use stage=instruction)"
                )
