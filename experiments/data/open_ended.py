"""``experiments.data open_ended``: an open-ended test set of held-out rows."""

from pathlib import Path

from data_modules.corpus_index import open_corpora
from data_modules.open_ended import open_ended_rows, open_ended_split, unshared_ids
from experiments.data.config import DataCommandConfig
from vidreason.atomic_file import write_atomically


def open_ended(config: DataCommandConfig) -> int:
    """Write the set of each benchmark corpus of the form; return 1 if one of them is empty.

    Raises:
        ValueError: No such corpus, or no training corpus, is configured.
    """
    corpora = [corpus for corpus in config.data.benchmark if corpus.reader == "causal_vid_instruct"]
    if not corpora or not config.data.train:
        raise ValueError(
            "an open-ended set is drawn from corpora of reader causal_vid_instruct in "
            f"data.benchmark, which has {len(corpora)}, and compared with those of data.train, "
            f"which has {len(config.data.train)}: name at least one in each"
        )
    malformed = config.data.max_malformed_fraction
    # An index on disk, which each corpus goes through anew.
    train = open_corpora(config.data.train, malformed)
    sizes = []
    for corpus in corpora:
        tested = list(open_corpora([corpus], malformed))
        ids = unshared_ids(tested, train, config.data_check.min_text_similarity)
        lines = list(open_ended_rows(corpus, ids))
        # Beside the split that it is drawn from, where the same reader finds its videos.
        path = Path(corpus.root) / f"{open_ended_split(corpus).split}.jsonl"
        write_atomically(path, "".join(lines))
        sizes.append(len(lines))
        counts = ", ".join(
            f"{sum(one.id in ids for one in of_kind)} of {len(of_kind)} {kind}s"
            for kind in ("explanation", "prediction")
            if (of_kind := [one for one in tested if one.question_type == kind])
        )
        print(f"open_ended: {counts} are in no training text; {len(lines)} rows are in {path}")
    return 0 if all(sizes) else 1
