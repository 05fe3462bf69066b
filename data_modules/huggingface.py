"""Any data set of Hugging Face ``datasets``: of the Hub or on disk, whole or as a stream.

Columns of other names than an example's fields are mapped by the configuration; those that tell the
span of the video under a common name (:mod:`data_modules.span_keys`) are read without it.
"""

from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_modules.annotation_files import (
    check_span,
    id_field,
    is_nan_like,
    required_text,
    seconds_field,
    text_field,
)
from data_modules.conversations import media_below
from data_modules.index_cache import note_folder
from data_modules.skipped_rows import (
    MalformedRowError,
    SkippedRows,
    UnusableRowError,
    examples_of,
)
from data_modules.span_keys import SpanKeys, one_span, span_of
from vidreason.example import Example
from vidreason.reasoning.prompts import CAPTION_PROMPT, multiple_choice_prompt

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

FIELDS = (
    *("id", "media", "video_id", "start_seconds", "end_seconds"),
    *("prompt", "response", "options", "answer_index", "question_type"),
)
"""Of an example: what a column may be mapped to."""


def read_huggingface(
    root: str,
    split: str,
    skipped: SkippedRows | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    streaming: bool = False,
    revision: str | None = None,
) -> Iterator[Example]:
    """Yield one example a row.

    ``media`` is a path below ``root``, an absolute path, a URL, or what the features ``Video`` and
    ``Audio`` hold undecoded, an object with ``path``. ``response`` is the answer or caption. Where
    there is no prompt the example is a captioning one. With ``options`` (a list of texts) it is a
    multiple-choice one; its right answer is ``answer_index`` (from 0), else the option that
    ``response`` spells. Without an ``id`` the row's number is the id.

    Left out and counted are rows whose media is null, whose span is empty, reversed or no number,
    and captions that are null or ``nan``. Malformed are rows with a value of another type.

    Args:
        root: A name on the Hub, a folder that ``load_dataset`` reads, or one that ``save_to_disk``
            wrote.
        split: As the data set calls it.
        skipped: Counts what is left out.
        columns: From fields of an example (``FIELDS``) to the data set's columns. A field that is
            not named is read from the column of its own name, where there is one.
        streaming: Read a data set of the Hub without storing it.
        revision: Commit, tag or branch of a data set of the Hub; None for its main branch.

    Raises:
        ValueError: The data set cannot be loaded or read on, a column is missing, or the videos
            stand in the data set itself.
    """
    skipped = SkippedRows() if skipped is None else skipped
    dataset = _load(root, split, streaming, revision)
    names: list[str] = dataset.column_names or []
    mapping = {name: name for name in FIELDS if name in names} | dict(columns or {})
    missing = sorted(set(mapping.values()) - set(names)) if names else []
    if missing or "media" not in mapping:
        lacking = ", ".join(map(repr, missing)) or "'media'"
        raise ValueError(
            f"{root}[{split}] has no column {lacking}; found {', '.join(names)}: map them by "
            "columns, such as columns: {media: video, response: caption}"
        )
    mapped = set(mapping.values())

    def make(place: str, values: dict[str, Any]) -> Iterator[Example]:
        row = {field: values.get(column) for field, column in mapping.items()}
        start, end = (seconds_field(row, f"{name}_seconds", place) for name in ("start", "end"))
        check_span(start, end, place)
        others = {name: value for name, value in values.items() if name not in mapped}
        spans = [SpanKeys(start, end, ()), span_of(others, place)]
        yield _example(row, one_span(spans, place, skipped), root, split, place)

    yield from examples_of(_rows(dataset, mapping["media"], f"{root}[{split}]"), make, skipped)


def _load(
    root: str, split: str, streaming: bool, revision: str | None
) -> "Dataset | IterableDataset":
    import datasets  # slow to import

    if revision is not None and Path(root).exists():
        raise ValueError(
            f"revision {revision!r} of corpus {root!r}: it is a folder of this machine, only data "
            "sets of the Hub have revisions; remove it"
        )
    note_folder(Path(root))
    saved = any(Path(root, name).is_file() for name in ("dataset_dict.json", "state.json"))
    try:
        if not saved:
            return datasets.load_dataset(root, split=split, streaming=streaming, revision=revision)
        loaded = datasets.load_from_disk(root)
    except Exception as error:
        # Of datasets, pyarrow, fsspec, httpx, huggingface_hub: they have no base class in common.
        at = "" if revision is None else f" at {revision!r}"
        raise ValueError(
            f"the data set {root!r}{at}, split {split!r}, cannot be loaded: {error}"
        ) from error
    if isinstance(loaded, datasets.Dataset):
        return loaded
    if split not in loaded:
        raise ValueError(f"{root!r} has no split {split!r}; found {', '.join(map(str, loaded))}")
    return loaded[split]


def _rows(
    dataset: Any,  # noqa: ANN401 - of datasets
    media_column: str,
    place: str,
) -> Iterator[tuple[str, dict[str, Any]]]:
    import datasets

    features = dataset.features or {}
    if isinstance(features.get(media_column), datasets.Video):
        dataset = dataset.cast_column(media_column, datasets.Video(decode=False))
    rows = iter(dataset)
    for number in count():
        try:
            row = next(rows, None)
        except Exception as error:  # of whatever reads the files, as in _load
            raise ValueError(
                f"{place}:{number}: the row cannot be read: {error}; fetch the data set again"
            ) from error
        if row is None:
            return
        yield f"{place}:{number}", row


def _example(row: dict[str, Any], span: SpanKeys, root: str, split: str, place: str) -> Example:
    media = _media(row["media"], place)
    if not media:
        raise UnusableRowError(place, "no video")
    prompt, response = text_field(row, "prompt", place), text_field(row, "response", place)
    if not row.get("options") and not prompt and is_nan_like(response):
        raise UnusableRowError(place, "no caption")
    options = _options(row.get("options"), place)
    answer_index = _answer_index(row.get("answer_index"), response, options, place)
    question = prompt or CAPTION_PROMPT
    if options:
        question = required_text(row, "prompt", place)
        prompt = multiple_choice_prompt(question, options)
        response = "" if answer_index is None else options[answer_index]
    number = place.rpartition(":")[2]
    own_id = number if row.get("id") is None else id_field(row, "id", place)
    has_video_id = row.get("video_id") is not None
    return Example(
        id=f"huggingface:{split}:{own_id}",
        corpus="huggingface",
        media=media_below(root, media),
        video_id=id_field(row, "video_id", place) if has_video_id else media,
        start_seconds=span.start_seconds,
        end_seconds=span.end_seconds,
        prompt=prompt or CAPTION_PROMPT,
        response=response,
        options=options,
        answer_index=answer_index,
        answers=(response,) if response else (),
        question_type=_question_type(row.get("question_type")),
        meta={"question": question},
    )


def _media(value: Any, place: str) -> str:  # noqa: ANN401 - any value of a data set
    if isinstance(value, dict):
        if value.get("bytes"):
            raise ValueError(
                f"{place}: the video's bytes stand in the data set itself; write them to a file, "
                "or use tar shards"
            )
        value = value.get("path")
    if value is not None and not isinstance(value, str):
        raise MalformedRowError(place, f"field 'media' must be a path or URL, found {value!r:.200}")
    return (value or "").strip()


def _options(value: Any, place: str) -> tuple[str, ...]:  # noqa: ANN401 - any value of a data set
    options = value or []
    if not isinstance(options, list) or not all(isinstance(o, str) and o.strip() for o in options):
        raise MalformedRowError(
            place, f"field 'options' must be a list of texts, found {value!r:.200}"
        )
    return tuple(option.strip() for option in options)


def _answer_index(value: Any, response: str, options: tuple[str, ...], place: str) -> int | None:  # noqa: ANN401
    if not options:
        return None
    if value is None and response:
        if response not in options:
            raise MalformedRowError(
                place, f"field 'response' is {response!r:.200}, none of {options!r:.200}"
            )
        return options.index(response)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < len(options):
        raise MalformedRowError(
            place,
            f"field 'answer_index' is {value!r:.200}, expected a number from 0 to "
            f"{len(options) - 1}",
        )
    return value


def _question_type(value: Any) -> str:  # noqa: ANN401 - any value of a data set
    return "" if value is None else str(value)
