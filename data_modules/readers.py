"""The readers of all corpora, and what is known of each corpus."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import NamedTuple

from data_modules.corpora import READER_GROUP, CorpusConfig
from data_modules.files import Files
from data_modules.media_access import MediaAccess
from data_modules.skipped_rows import SkippedRows
from vidreason.added_parts import check_call, load_part, part_name
from vidreason.example import Example
from vidreason.video.media import is_remote

ReadFunction = Callable[[Files, str, SkippedRows], Iterator[Example]]
"""Yields the examples of a split one by one, and counts what is left out; memory does not grow with
their number."""


def _called_as(files: Files, split: str, skipped: SkippedRows) -> Iterator[Example]:
    """Arguments that a :data:`ReadFunction` is called with."""
    raise NotImplementedError


class Reader(NamedTuple):
    """A reader, and what is known of its corpus."""

    read: ReadFunction
    licence: str
    """The corpus' terms, as a note, not legal advice."""
    version: int = 1
    """Raise it whenever the same files give other examples: an index of an older version is made
    again."""
    num_questions: Mapping[str, int] = {}
    """Questions of the released splits: counted in the files of NExT-QA, NExT-OE, NExT-GQA,
    ActivityNet-QA, IntentQA, TempCompass and EgoSchema, else from papers and pages."""


_YFCC = "annotations MIT; videos from YFCC-100M, a licence each"
_CONVERSATIONS = "that of whatever the conversations were made from"


def _read(corpus: str, module: str = "") -> ReadFunction:
    """Return ``read_<corpus>`` of a module of this package, which is imported when it is called.

    Args:
        corpus: Its name.
        module: That of the module, if it is another one.
    """

    def read(
        files: Files, split: str, skipped: SkippedRows, **settings: object
    ) -> Iterator[Example]:
        reader = importlib.import_module(f"data_modules.{module or corpus}")
        examples: Iterator[Example]
        examples = getattr(reader, f"read_{corpus}")(files, split, skipped, **settings)
        return examples

    return read


READERS: dict[str, Reader] = {
    "webvid": Reader(
        _read("webvid"),
        "research only, by its terms; withdrawn by its authors, links gone since 2024-02-23",
    ),
    "webdataset": Reader(_read("webdataset"), "that of whatever the shards were made from"),
    "hd_vila": Reader(_read("hd_vila"), "R-UDA v1.0: research only; the videos are YouTube's"),
    "nextqa": Reader(  # train: from the paper
        _read("nextqa"), _YFCC, num_questions={"train": 34_132, "val": 4_996, "test": 8_564}
    ),
    "nextqa_open_ended": Reader(
        _read("nextqa_open_ended"),
        _YFCC,
        num_questions={"train": 37_523, "val": 5_343, "test": 9_178},
    ),
    "activitynet_qa": Reader(
        _read("activitynet_qa"),
        "non-commercial use only, says its README; the videos are YouTube's",
        num_questions={"train": 32_000, "val": 18_000, "test": 8_000},
    ),
    "nextgqa": Reader(_read("nextgqa"), _YFCC, num_questions={"val": 3_358, "test": 5_553}),
    "clevrer": Reader(
        _read("clevrer"),
        "CC0, says its page",
        num_questions={"train": 152_572, "val": 76_364, "test": 76_344},
    ),
    "vcr": Reader(
        _read("vcr"),
        "a research agreement; the images are of LSMDC and MovieClips",
        num_questions={"train": 212_923, "val": 26_534, "test": 25_263},
    ),
    "test_of_time": Reader(_read("test_of_time"), "that of the suite whose questions were adapted"),
    "mvbench": Reader(
        _read("mvbench", "benchmark_manifests"),
        "see its page; the videos come from many sources, a licence each",
        num_questions={"test": 4_000},
    ),
    "tempcompass": Reader(
        _read("tempcompass", "benchmark_manifests"), "CC-BY-NC-4.0", num_questions={"test": 5_536}
    ),
    "video_mme": Reader(
        _read("video_mme", "benchmark_manifests"),
        "academic use only; no redistribution",
        num_questions={"test": 2_700},
    ),
    "egoschema": Reader(
        _read("egoschema", "benchmark_manifests"),
        "Ego4D's signed agreement for the videos",
        num_questions={"subset": 500, "test": 5_031},
    ),
    "star": Reader(
        _read("star", "benchmark_manifests"),
        "see its page",
        num_questions={"train": 45_731, "val": 7_098, "test": 7_377},
    ),
    "intentqa": Reader(
        _read("intentqa", "nextqa"), "see its page", num_questions={"val": 2_044, "test": 2_134}
    ),
    "causal_vid_instruct": Reader(
        _read("causal_vid_instruct"),
        "each row's license_tag; the source videos keep their own licences",
        version=4,
    ),
    "ego4d": Reader(_read("ego4d"), "signed agreement; no redistribution"),
    "something_something": Reader(
        _read("something_something"), "Qualcomm's research licence, behind a login"
    ),
    "activitynet_captions": Reader(
        _read("activitynet_captions"), "see its page; the videos are YouTube's"
    ),
    "subtitled_videos": Reader(_read("subtitled_videos"), "that of the videos"),
    "llava": Reader(_read("llava"), _CONVERSATIONS, version=2),
    "chat_messages": Reader(_read("chat_messages"), _CONVERSATIONS, version=2),
    # By its columns' word the responses may be captions.
    "huggingface": Reader(_read("huggingface"), "see the data set's card", version=3),
}
"""By name, in the order of ``BUILT_IN_READERS``; a corpus imports its own alone."""


def reader_named(name: str) -> Reader:
    """Return a reader of this project, or one from outside of it.

    Raises:
        ValueError: That cannot be imported, is no reader, or cannot be called as one.
    """
    if name in READERS:
        return READERS[name]
    # CorpusConfig refuses other names.
    reader = load_part(READER_GROUP, name, Reader, "data_modules.readers.Reader")
    where = part_name(READER_GROUP, name)
    if not isinstance(reader.licence, str) or not isinstance(reader.version, int):
        raise ValueError(
            f"{where}: its licence is {reader.licence!r} and its version {reader.version!r}; give "
            "it a text and an integer: Reader(read, licence='...', version=1)"
        )
    check_call(f"{where}: its read", reader.read, _called_as, "ReadFunction")
    return reader


def read_corpus(
    config: CorpusConfig, skipped: SkippedRows | None = None, files: Files | None = None
) -> Iterator[Example]:
    """Yield the examples of one corpus, up to its limit.

    Args:
        config: The corpus.
        skipped: Counts what its reader leaves out. None to count nothing, and to raise the first
            malformed row.
        files: Records what is read; None to record nothing.

    Raises:
        ValueError: The corpus has no example, a file is missing or wrong as a whole, or it is
            hopeless to read on.
    """
    skipped = SkippedRows() if skipped is None else skipped
    files = Files(config.root) if files is None else files
    read = reader_named(config.reader).read
    if config.reader == "huggingface":
        settings = {"columns": config.columns, "revision": config.revision}
        read = partial(read, **settings)
    # Media are checked here, for all readers in one place.
    examples = _allowed(read(files, config.split, skipped), config, files, skipped)
    is_empty = True
    try:
        for example in islice(examples, config.limit):
            is_empty = False
            yield _named(example, config.name)
    except OSError as error:
        raise ValueError(f"{config} cannot be read: {error}") from error
    if is_empty:
        raise ValueError(
            f"{config} has no example"
            + (f"; all its rows were left out: {skipped.summary()}" if skipped.num_skipped else "")
            + "".join(f"\n  {line}" for line in skipped.malformed)
        )


def _named(example: Example, name: str) -> Example:
    """Give an example the name of its corpus, if it has one of its own."""
    if not name:
        return example
    rest = example.id.partition(":")[2]
    return replace(example, corpus=name, id=f"{name}:{rest}")


def _allowed(
    examples: Iterator[Example], config: CorpusConfig, files: Files, skipped: SkippedRows
) -> Iterator[Example]:
    """Leave out the examples whose media the configuration does not allow."""
    # What is neither a URL nor a folder is the name of a data set on the Hub.
    is_local = is_remote(config.root) or files.is_folder(".")
    access = MediaAccess(
        config.root,
        config.media_dir,
        allow_remote=config.allow_remote_media,
        is_on_hub=config.reader == "huggingface" and not is_local,
    )
    for example in examples:
        media = access.located(example.media)
        cause = access.refusal(media)
        if cause:
            # A name in somebody's file may hold half a surrogate pair, which no log can write.
            location = f"{example.id} ({media})".encode("utf-8", "backslashreplace")
            skipped.record_refused(location.decode(), cause)
        else:
            yield example if media == example.media else replace(example, media=media)
