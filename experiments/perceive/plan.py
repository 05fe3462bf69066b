"""The spans that ``experiments.perceive`` has to perceive, and this task's share of them."""

import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from experiments.experiment_config import PerceiveConfig
from vidreason.example import Example
from vidreason.video.media import file_identity


@dataclass(frozen=True)
class Share:
    """One of ``count`` parts of the videos, which together are all of them."""

    index: int
    count: int

    def has(self, media: str) -> bool:
        """Return whether a video is in this part; all spans of a video are in the same one."""
        # By the name alone, so that each task finds its part without asking the others.
        return int.from_bytes(_digest(media)[:8], "big") % self.count == self.index


def share_of(config: PerceiveConfig, environment: Mapping[str, str] = os.environ) -> Share:
    """The part that ``config`` names, else the task of a SLURM array, else everything.

    Raises:
        ValueError: Index and number do not fit together.
    """
    index, count = config.shard_index, config.num_shards
    task = environment.get("SLURM_ARRAY_TASK_ID")
    if index is None and task is not None:
        index = int(task)
        if count is None:
            count = int(environment["SLURM_ARRAY_TASK_COUNT"])
            first, last = (int(environment[f"SLURM_ARRAY_TASK_{end}"]) for end in ("MIN", "MAX"))
            if last - first + 1 != count:
                raise ValueError(
                    f"perceive.num_shards: the SLURM array has {count} tasks numbered from {first} "
                    f"to {last}, so their number is not that of all parts; give num_shards, and "
                    "let the array's numbers be from 0 to num_shards - 1"
                )
            index -= first  # an array may be numbered from any number on
    if (index is None) != (count is None):
        raise ValueError(
            f"perceive.shard_index is {index} and perceive.num_shards is {count}; give both or "
            "neither"
        )
    share = Share(index or 0, 1 if count is None else count)
    if not 0 <= share.index < share.count:
        raise ValueError(
            f"perceive.shard_index: expected 0 to {share.count - 1} (num_shards is {share.count}), "
            f"found {share.index}"
        )
    return share


@dataclass(frozen=True, kw_only=True)
class Span:
    """A video, or a part of it, and an example that asks for it."""

    id: str
    media: str
    start_seconds: float | None
    end_seconds: float | None
    is_alias: bool = False
    """The file is perceived under another name; only its content hash is wanted under this one."""


class Plan:
    """The spans of one share of some examples, each once: a video's questions share its tokens.

    A file that several corpora link to is one video with several names. The plan holds the numbers
    of the examples, not the examples: some 100 bytes a span, 220 with its video's name.

    Args:
        examples: Everything that is to be perceived by all tasks.
        share: This task's part.
    """

    def __init__(self, examples: Sequence[Example], share: Share) -> None:
        self._examples = examples
        self._rows = array("q")  # int64
        self._aliases: list[str] = []
        seen: set[bytes] = set()
        names: set[bytes] = set()
        # Each file and span once: digests of 16 bytes stand for names.
        for row, example in enumerate(examples):
            if not share.has(example.media):
                continue
            file = file_identity(example.media)
            digest = _digest(file, example.start_seconds, example.end_seconds)
            name, file_digest = _digest("name", example.media), _digest("file", file)
            is_new = digest not in seen
            if is_new:
                seen.add(digest)
                self._rows.append(row)
            # A file that was met already, under a name that was not.
            elif file_digest in names and name not in names:
                self._aliases.append(example.media)
            names.update((name, file_digest))

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Span]:
        for row in self._rows:
            example = self._examples[row]
            yield Span(
                id=example.id,
                media=example.media,
                start_seconds=example.start_seconds,
                end_seconds=example.end_seconds,
            )

    @property
    def aliases(self) -> list[Span]:
        """The other names of the files."""
        return [
            Span(id=media, media=media, start_seconds=None, end_seconds=None, is_alias=True)
            for media in self._aliases
        ]


def _digest(*parts: object) -> bytes:
    text = repr(parts).encode("utf-8", "backslashreplace")
    return blake2b(text, digest_size=16).digest()
