"""LLaVA conversations, messages with videos, and Hugging Face data sets."""

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from tiny_corpora import TINY_CORPORA

from data_modules.chat_messages import read_chat_messages
from data_modules.corpora import CorpusConfig, read_corpus
from data_modules.corpus_index import open_corpora
from data_modules.huggingface import read_huggingface
from data_modules.llava import read_llava
from data_modules.skipped_rows import SkippedRows
from vidreason.reasoning.prompts import CAPTION_PROMPT, multiple_choice_prompt

TINY = {corpus.reader: corpus for corpus in TINY_CORPORA}


def test_each_turn_is_an_example_that_knows_the_turns_before(tmp_path: Path) -> None:
    TINY["llava"].write(tmp_path)
    first, second, *rest = read_llava(str(tmp_path), "train")
    assert (first.id, second.id) == ("llava:train:0:0", "llava:train:0:1")
    assert (first.prompt, first.response) == ("What is it?", "A \u201cball\u201d.")
    assert second.prompt == (
        "Earlier about this video:\nQuestion: What is it?\nAnswer: A \u201cball\u201d.\n\n"
        "Which colour?"
    )
    assert (second.response, second.meta) == ("Red.", {"question": "Which colour?", "id": "x"})
    assert (first.media, first.video_id) == (str(tmp_path / "videos/0.mp4"), "videos/0")
    assert [example.id for example in rest] == ["llava:train:1:0", "llava:train:1:1"]


def turns(*values: str) -> list[dict[str, str]]:
    return [
        {"from": "gpt" if number % 2 else "human", "value": value}
        for number, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"image": "a.jpg"}, "an image, not a video"),
        ({}, "no video"),
        ({"video": ["a.mp4", "b.mp4"]}, "several videos"),
        (
            {"video": "a.mp4", "conversations": turns("<video> and <video>?", "b")},
            "its text points at the video in the middle of the conversation, or at several",
        ),
        (
            {"video": "a.mp4", "conversations": turns("q", "a", "<image> now?", "b")},
            "its text points at the video in the middle of the conversation, or at several",
        ),
    ],
)
def test_llava_rows_that_do_not_fit_are_counted(
    tmp_path: Path, change: dict[str, object], cause: str
) -> None:
    row = {"conversations": turns("q", "a")} | change
    (tmp_path / "qa.jsonl").write_text(json.dumps(row) + "\n")
    skipped = SkippedRows()
    assert list(read_llava(str(tmp_path), "qa", skipped)) == []
    assert skipped.causes == {cause: 1}
    assert skipped.first_places[cause] == [f"{tmp_path}/qa.jsonl:1"]


@pytest.mark.parametrize(
    "values", [("q",), ("q", "a", "q"), ("", "a"), ("<video>\n", "a"), ("q", "")]
)
def test_llava_conversations_that_do_not_alternate_are_errors(
    tmp_path: Path, values: tuple[str, ...]
) -> None:
    row = {"video": "a.mp4", "conversations": turns(*values)}
    (tmp_path / "qa.json").write_text(json.dumps([row]))
    with pytest.raises(ValueError, match=r"qa.json:1: (the turns must alternate|a question or an)"):
        list(read_llava(str(tmp_path), "qa"))
    (tmp_path / "qa.jsonl").write_text("")
    with pytest.raises(ValueError, match="keep one of them"):
        list(read_llava(str(tmp_path), "qa"))


def write_messages(root: Path, **row: object) -> str:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "<video>What happens?"},
        {"role": "assistant", "content": "It falls."},
    ]
    (root / "train.jsonl").write_text(json.dumps({"messages": messages, **row}) + "\n")
    return str(root)


def test_messages_with_a_video(tmp_path: Path) -> None:
    root = write_messages(tmp_path, videos=["clips/a.mp4"], id=7)
    (example,) = read_chat_messages(root, "train")
    assert (example.prompt, example.response) == ("Be brief.\n\nWhat happens?", "It falls.")
    assert example.media == str(tmp_path / "clips/a.mp4")
    assert example.meta == {"question": "What happens?", "id": "7"}
    (absolute,) = read_chat_messages(write_messages(tmp_path, videos=[{"path": "/a.mp4"}]), "train")
    assert absolute.media == "/a.mp4"
    (remote,) = read_chat_messages(write_messages(tmp_path, videos=["s3://b/a.mp4"]), "train")
    assert remote.media == "s3://b/a.mp4"


def test_messages_whose_contents_are_parts(tmp_path: Path) -> None:
    parts = [{"type": "video", "video": "a.mp4"}, {"type": "text", "text": "Why?"}]
    messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": "So."}]
    (example,) = read_chat_messages(write_messages(tmp_path, messages=messages), "train")
    assert (example.prompt, example.media) == ("Why?", str(tmp_path / "a.mp4"))


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        ({}, "no video"),
        ({"videos": ["a.mp4"], "images": ["b.jpg"]}, "it has images or sound, not only a video"),
        ({"videos": [["1.jpg", "2.jpg"]]}, "its video is a list of frames"),
    ],
)
def test_messages_that_do_not_fit_are_counted(
    tmp_path: Path, row: dict[str, object], cause: str
) -> None:
    skipped = SkippedRows()
    assert list(read_chat_messages(write_messages(tmp_path, **row), "train", skipped)) == []
    assert skipped.causes == {cause: 1}


ROWS: list[dict[str, Any]] = [
    {"clip": "a.mp4", "text": "A dog runs.", "from": 0.5},
    {"clip": None, "text": "Lost.", "from": None},
    {"clip": "c.mp4", "text": "nan", "from": None},
]
COLUMNS = {"media": "clip", "response": "text", "start_seconds": "from"}


@pytest.fixture
def saved(tmp_path: Path) -> str:
    datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}).save_to_disk(tmp_path / "d")
    return str(tmp_path / "d")


def test_huggingface_captions_by_mapped_columns(saved: str) -> None:
    config = CorpusConfig(reader="huggingface", root=saved, columns=COLUMNS)
    skipped = SkippedRows()
    (dog,) = read_corpus(config, skipped)
    assert (dog.id, dog.media) == ("huggingface:train:0", f"{saved}/a.mp4")
    assert (dog.prompt, dog.response, dog.start_seconds) == (CAPTION_PROMPT, "A dog runs.", 0.5)
    assert skipped.causes == {"no video": 1, "no caption": 1}


@pytest.mark.parametrize("streaming", [False, True])
def test_huggingface_files_whole_or_as_a_stream(tmp_path: Path, streaming: bool) -> None:
    datasets.Dataset.from_list(ROWS).to_parquet(str(tmp_path / "train.parquet"))
    examples = list(read_huggingface(str(tmp_path), "train", columns=COLUMNS, streaming=streaming))
    assert [example.response for example in examples] == ["A dog runs."]
    with pytest.raises(ValueError, match="split 'val', cannot be loaded"):
        list(read_huggingface(str(tmp_path), "val", columns=COLUMNS, streaming=streaming))


def save(root: Path, **columns: list[Any]) -> str:
    datasets.Dataset.from_dict({"media": ["a.mp4"], **columns}).save_to_disk(root / "s")
    return str(root / "s")


def test_huggingface_questions(tmp_path: Path) -> None:
    options = ["rain", "None"]
    root = save(
        tmp_path, id=["q1"], prompt=["Why?"], options=[options], answer_index=[1], video_id=["v"]
    )
    (example,) = read_huggingface(root, "any")
    assert example.prompt == multiple_choice_prompt("Why?", options)
    assert (example.response, example.answer_index, example.options) == ("None", 1, tuple(options))
    assert (example.id, example.video_id) == ("huggingface:any:q1", "v")
    root = save(tmp_path / "text", prompt=["Why?"], options=[options], response=["rain"])
    (spelt,) = read_huggingface(root, "any")
    assert spelt.answer_index == 0
    root = save(tmp_path / "open", prompt=["Why?"], response=["None"])
    (open_ended,) = read_huggingface(root, "any")
    assert (open_ended.prompt, open_ended.answers) == ("Why?", ("None",))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"prompt": ["Why?"], "options": [["a", "b"]], "answer_index": [2]}, "'answer_index' is 2"),
        ({"prompt": ["Why?"], "options": [["a", "b"]], "response": ["c"]}, "'response' is 'c'"),
        ({"options": [["a", "b"]], "answer_index": [0]}, "'prompt' is missing or empty"),
        ({"response": ["c"], "start_seconds": [float("nan")]}, "'start_seconds' must be seconds"),
        (
            {"response": ["c"], "start_seconds": [3], "end_seconds": [2]},
            "its span ends before it starts",
        ),
        ({"response": [5]}, "'response' must be a text, found 5"),
        ({"response": ["c"], "id": ["nan"]}, "'id' is 'nan', which is no id"),
    ],
)
def test_huggingface_values_are_checked(
    tmp_path: Path, columns: dict[str, list[Any]], message: str
) -> None:
    root = save(tmp_path, **columns)
    with pytest.raises(ValueError, match=message) as caught:
        list(read_huggingface(root, "any"))
    assert f"{root}[any]:0: " in str(caught.value)


def test_huggingface_columns_are_checked(saved: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no column 'media'; found clip, text, from"):
        list(read_huggingface(saved, "train"))
    with pytest.raises(ValueError, match=r"has no column 'caption'"):
        list(read_huggingface(saved, "train", columns=COLUMNS | {"response": "caption"}))
    with pytest.raises(ValueError, match=r"has no split 'val'; found train"):
        list(read_huggingface(saved, "val", columns=COLUMNS))
    with pytest.raises(ValueError, match="an example has no field caption"):
        CorpusConfig(reader="huggingface", root=saved, columns={"caption": "text"})
    with pytest.raises(ValueError, match="are for the reader 'huggingface'"):
        CorpusConfig(reader="webvid", root=saved, streaming=True)


def test_huggingface_revisions_are_read_and_kept_apart(
    saved: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = {None: ["newest"], "v1": ["first"], "0a1b2c": ["second"]}
    asked = []

    def load_dataset(root: str, *, split: str, streaming: bool, revision: str | None) -> Any:
        asked.append(revision)
        rows = [{"media": "a.mp4", "response": text} for text in hub[revision]]
        return datasets.Dataset.from_list(rows)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    for _ in range(2):
        for revision, texts in hub.items():
            config = CorpusConfig(reader="huggingface", root="someone/clips", revision=revision)
            assert [example.response for example in open_corpora([config])] == texts
    assert asked == [None, "v1", "0a1b2c"]
    with pytest.raises(ValueError, match=r"'v1' of corpus .* is a folder of this machine"):
        list(read_huggingface(saved, "train", columns=COLUMNS, revision="v1"))
    with pytest.raises(ValueError, match="revision are for the reader 'huggingface'"):
        CorpusConfig(reader="webvid", root=saved, revision="v1")


def test_huggingface_videos_by_path_not_by_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"not decoded")
    path = str(tmp_path / "a.mp4")
    by_path = datasets.Dataset.from_dict({"media": [path], "response": ["x"]})
    by_path = by_path.cast_column("media", datasets.Video())
    by_path.to_parquet(str(tmp_path / "path" / "train.parquet"))
    (example,) = read_huggingface(str(tmp_path / "path"), "train")
    assert example.media == path
    features = datasets.Features({"media": datasets.Video(decode=False)})
    videos = {"media": [{"path": "a.mp4", "bytes": b"not decoded"}]}
    by_bytes = datasets.Dataset.from_dict(videos, features=features)
    by_bytes.to_parquet(str(tmp_path / "bytes" / "train.parquet"))
    with pytest.raises(ValueError, match=r"\[train\]:0: the video's bytes stand in the data set"):
        list(read_huggingface(str(tmp_path / "bytes"), "train"))
