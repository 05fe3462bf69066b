"""The contamination report: evaluation data that are in the training data.

The evaluation corpora are held in memory, and the training corpora pass by, so memory does not grow
with the latter. A training example matches an evaluation example by

* ``id``: the same id of the video. Ids of digits only are compared within one corpus, because
  numbers of different corpora coincide by chance;
* ``file``: the same file, under whatever name, or the same bytes of one shard;
* ``text``: the same or nearly the same words (question, options and answer, or caption);
* ``video``: the same pictures, by perceptual hashes of a sample of the videos.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from vidreason.example import Example
from vidreason.near_texts import TextIndex
from vidreason.video.media import file_identity
from vidreason.video.perceptual_hash import VideoHash, VideoHashIndex

NUM_SHOWN = 20
"""How many matches of each kind are kept by name."""

KINDS = ("id", "file", "video", "text")


class Match(NamedTuple):
    """A training example that shows or says what an evaluation example does."""

    kind: str
    training_id: str
    evaluation_id: str
    detail: str
    """The shared id or file, the similarity of texts, or the distance of videos."""


@dataclass(kw_only=True)
class ContaminationReport:
    """The comparison and its result."""

    num_evaluation_videos: int = 0
    """By id."""
    num_evaluation_texts: int = 0
    """Different ones of enough words."""
    num_evaluation_hashes: int = 0
    """Videos of the evaluation corpora that were compared by their pictures."""
    num_training_hashes: int = 0
    """Videos of the training corpora that were compared by their pictures."""
    num_training_examples: dict[str, int] = field(default_factory=dict)
    """By kind of match: training examples that match; for ``video``, training videos."""
    num_evaluation_videos_found: dict[str, int] = field(default_factory=dict)
    """By kind of match: evaluation videos that stand in the training data."""
    contaminated_fraction: float = 0.0
    """Share of the evaluation videos found by id, file or pictures; texts are left to judgement,
    because different videos may be described in the same words."""
    matches: list[Match] = field(default_factory=list)
    """The first ``NUM_SHOWN`` of each kind."""


class ContaminationCheck:
    """Compares training examples with evaluation examples.

    Args:
        min_text_similarity: Where texts count as nearly the same, in (0, 1].
    """

    def __init__(self, min_text_similarity: float) -> None:
        self._by_id: dict[Hashable, str] = {}
        self._by_file: dict[Hashable, str] = {}
        self._texts = TextIndex(min_text_similarity)
        self._hashes = VideoHashIndex()
        self._video_keys: dict[str, Hashable] = {}
        self._num_training: Counter[str] = Counter()
        self._seen: defaultdict[str, set[Hashable]] = defaultdict(set)
        self._matches: defaultdict[str, list[Match]] = defaultdict(list)
        self._num_training_hashes = 0

    def add_evaluation(self, example: Example) -> None:
        """Add an evaluation example to those that are held in memory."""
        # Several questions about one video have one key: the report counts videos.
        self._video_keys[example.id] = (example.corpus, example.video_id)
        for key in _id_keys(example):
            # The first example of a video stands for it in messages.
            self._by_id.setdefault(key, example.id)
        self._by_file.setdefault(file_identity(example.media), example.id)
        self._texts.add(example.id, compared_text(example))

    def add_evaluation_hash(self, example: Example, video: VideoHash) -> None:
        """Add the pictures of an evaluation example's video."""
        self._hashes.add(example.id, video)

    @property
    def evaluation_texts(self) -> TextIndex:
        """Texts of the evaluation examples."""
        return self._texts

    def check(self, example: Example) -> list[Match]:
        """Compare a training example's id, file and text."""
        return [*self.check_video(example), *self.check_text(example)]

    def check_video(self, example: Example) -> list[Match]:
        """Compare a training example's id and file."""
        matches = []
        for key in _id_keys(example):
            if key in self._by_id:
                matches.append(self._record("id", example, self._by_id[key], example.video_id))
                break
        same_file = self._by_file.get(file_identity(example.media))
        if same_file is not None:
            matches.append(self._record("file", example, same_file, example.media))
        return matches

    def check_text(self, example: Example) -> list[Match]:
        """Compare a training example's text."""
        match = self._texts.find(compared_text(example))
        if match is None:
            return []
        detail = f"similarity {match.similarity:.2f}"
        return [self._record("text", example, match.name, detail)]

    def check_hash(self, example: Example, video: VideoHash) -> list[Match]:
        """Compare the pictures of a training example's video."""
        self._num_training_hashes += 1
        matches = self._hashes.find(video)
        # Here and not in _record: one training video may match several others.
        self._num_training["video"] += bool(matches)
        return [
            self._record("video", example, str(name), f"distance {distance:.3f}", count=False)
            for name, distance in matches
        ]

    def report(self) -> ContaminationReport:
        """The result so far."""
        videos = set(self._video_keys.values())
        seen: set[Hashable] = set().union(*(self._seen[k] for k in ("id", "file", "video")))
        return ContaminationReport(
            num_evaluation_videos=len(videos),
            num_evaluation_texts=len(self._texts),
            num_evaluation_hashes=len(self._hashes),
            num_training_hashes=self._num_training_hashes,
            num_training_examples={kind: self._num_training[kind] for kind in KINDS},
            num_evaluation_videos_found={kind: len(self._seen[kind]) for kind in KINDS},
            contaminated_fraction=len(seen) / max(len(videos), 1),
            matches=[match for kind in KINDS for match in self._matches[kind]],
        )

    def _record(
        self, kind: str, example: Example, evaluation_id: str, detail: str, count: bool = True
    ) -> Match:
        self._num_training[kind] += count
        self._seen[kind].add(self._video_keys[evaluation_id])
        match = Match(kind, example.id, evaluation_id, detail)
        if len(self._matches[kind]) < NUM_SHOWN:
            self._matches[kind].append(match)
        return match


def compared_text(example: Example) -> str:
    """The text about a video that is compared: question, options and answer, or the caption."""
    question = example.meta.get("question", "")
    return " ".join([question, *example.options, example.response])


def _id_keys(example: Example) -> Sequence[Hashable]:
    """Keys of an example's video: its id, without folder and YouTube's ``v_``."""
    name = example.video_id.rpartition("/")[2].removeprefix("v_")
    return [(example.corpus, name)] if name.isdecimal() else [name]
