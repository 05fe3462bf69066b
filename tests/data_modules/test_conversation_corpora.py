"""LLaVA conversations, messages with videos, and Hugging Face data sets."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
from tiny_corpora import TINY_CORPORA, examples_in

from data_modules.corpora import CorpusConfig
from data_modules.corpus_index import open_corpora
from data_modules.readers import read_corpus
from data_modules.skipped_rows import SkippedRows
from vidreason.example import Turn
from vidreason.reasoning.prompts import CAPTION_PROMPT, multiple_choice_prompt

TINY = {corpus.reader: corpus for corpus in TINY_CORPORA}


def test_each_turn_is_an_example_that_knows_the_turns_before(tmp_path: Path) -> None:
    TINY["llava"].write(tmp_path)
    first, second, *rest = examples_in("llava", tmp_path, "train")
    assert (first.id, second.id) == ("llava:train:0:0", "llava:train:0:1")
    assert (first.prompt, first.response) == ("What is it?", "A \u201cball\u201d.")
    assert first.earlier_turns == ()
    assert second.prompt == "Which colour?"
    assert second.earlier_turns == (
        Turn("user", "What is it?"),
        Turn("assistant", "A \u201cball\u201d."),
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
    assert examples_in("llava", tmp_path, "qa", skipped) == []
    assert skipped.causes == {cause: 1}
    assert skipped.first_locations[cause] == [f"{tmp_path}/qa.jsonl:1"]


@pytest.mark.parametrize(
    "values", [("q",), ("q", "a", "", "b"), ("", "a"), ("<video>\n", "a"), ("q", "")]
)
def test_llava_conversations_that_do_not_alternate_are_errors(
    tmp_path: Path, values: tuple[str, ...]
) -> None:
    row = {"video": "a.mp4", "conversations": turns(*values)}
    (tmp_path / "qa.json").write_text(json.dumps([row]))
    with pytest.raises(ValueError, match=r"qa.json:1: (the turns must alternate|a question or an)"):
        examples_in("llava", tmp_path, "qa")
    (tmp_path / "qa.jsonl").write_text("")
    with pytest.raises(ValueError, match="keep one of them"):
        examples_in("llava", tmp_path, "qa")


def test_llava_rows_that_differ_a_little_are_read(tmp_path: Path) -> None:
    odd = [{"from": "GPT", "value": "Hi."}, {"from": " Human", "value": "q"}]
    odd += [{"from": "chatgpt", "value": "a"}, {"from": "USER", "value": "and?"}]
    rows = [
        {"video": "a.mp4", "conversations": odd, "id": 3.5},
        {"video": "b.mp4", "conversations": turns("q"), "id": ""},
        {"video": "c.mp4", "conversations": turns("q", "a"), "id": ["x"]},
    ]
    (tmp_path / "qa.json").write_text(json.dumps(rows))
    skipped = SkippedRows(max_malformed_fraction=0.5)
    first, third = examples_in("llava", tmp_path, "qa", skipped)
    assert (first.prompt, first.response, first.meta["id"]) == ("q", "a", "3.5")
    assert (third.id, third.meta) == ("llava:qa:2:0", {"question": "q"})
    assert skipped.causes == {"malformed": 1}
    assert skipped.remarks == {
        "what the assistant says before the first question is not read": 1,
        "a last question without an answer is not read": 1,
    }


def llava_row(**keys: object) -> dict[str, object]:
    return {"video": "a.mp4", "conversations": turns("q", "a"), **keys}


@pytest.mark.parametrize(
    "keys",
    [
        *({"start": 2.0, "end": 5.0}, {"video_start": 2, "video_end": "5"}),
        *({"start_time": "00:00:02.0", "end_time": "0:05"}, {"startTime": 2, "endTime": 5}),
        *({"clip_start": 2, "clip_end": 5}, {"begin": "2.0", "end": 5}),
        *({"start_sec": 2, "end_sec": 5}, {"START_SECOND": 2, "END_SECOND": 5}),
        *({"segment_start_time": 2, "segment_end_time": 5}, {"starttime": 2, "endtime": 5}),
        *({"timestamps": [2, 5]}, {"timestamp": ["0:02", "0:05"]}, {"span": [[2.0, 5.0]]}),
        *({"clip": {"start": 2, "end": 5}}, {"video_segment": [2, 5], "start": 2}),
        *({"start_ms": 2000, "end_ms": 5000}, {"start_time_ms": 2000, "stop_time_ms": 5000}),
        {"start": 2, "end": 5, "start_time": 2.0, "duration": 30, "timestamp": "2024-01-01"},
    ],
)
def test_the_span_of_a_row_has_many_names(tmp_path: Path, keys: dict[str, object]) -> None:
    (tmp_path / "qa.json").write_text(json.dumps([llava_row(**keys)]))
    skipped = SkippedRows()
    (example,) = examples_in("llava", tmp_path, "qa", skipped)
    assert (example.start_seconds, example.end_seconds) == (2.0, 5.0)
    assert len(skipped.remarks) == ("timestamp" in keys and "duration" in keys)


@pytest.mark.parametrize(
    ("keys", "span"),
    [
        *(
            ({"start": 2}, (2, None)),
            ({"end": 5}, (None, 5)),
            ({"start": None, "end": 5}, (None, 5)),
        ),
        ({"start": -0.1, "end": 5}, (0, 5)),
    ],
)
def test_spans_that_are_open_or_rounded(
    tmp_path: Path, keys: dict[str, object], span: tuple[float | None, float | None]
) -> None:
    (tmp_path / "qa.json").write_text(json.dumps([llava_row(**keys)]))
    (example,) = examples_in("llava", tmp_path, "qa")
    assert (example.start_seconds, example.end_seconds) == span


@pytest.mark.parametrize(
    "key",
    [
        *("fps", "nframes", "max_pixels", "resized_height", "video_fps", "min_frames"),
        *("answer_start", "start_percent", "end_token"),
    ],
)
def test_keys_that_may_matter_and_are_not_read_are_counted(tmp_path: Path, key: str) -> None:
    (tmp_path / "qa.json").write_text(json.dumps([llava_row(**{key: 4})] * 2))
    skipped = SkippedRows()
    examples = examples_in("llava", tmp_path, "qa", skipped)
    assert [example.start_seconds for example in examples] == [None, None]
    assert skipped.remarks == {f"field {key!r} is not read, the row is": 2}
    config = CorpusConfig(reader="llava", root=str(tmp_path), split="qa")
    (corpus,) = open_corpora([config]).corpora
    assert corpus.skipped.remarks == skipped.remarks


def test_spans_that_may_be_something_else_are_counted(tmp_path: Path) -> None:
    rows = [
        llava_row(timestamps=[[1, 2], [3, 4]]),
        llava_row(meta={"split": [1, 2], "start": 3}),
        llava_row(start_time="2024-05-05T10:00:00Z", end_time=1.7e9),
        llava_row(span="2.0-5.0", clip="clip_7.mp4", segment_id=5, timestamp=7),
    ]
    (tmp_path / "qa.json").write_text(json.dumps(rows))
    skipped = SkippedRows()
    examples = examples_in("llava", tmp_path, "qa", skipped)
    assert {(e.start_seconds, e.end_seconds) for e in examples} == {(None, None)}
    assert {remark.split("'")[1] for remark in skipped.remarks} == {
        *("timestamps", "meta.start", "start_time", "end_time", "span"),
    }


@pytest.mark.parametrize(
    ("keys", "cause"),
    [
        ({"start": 3, "end": 3}, "its span is empty"),
        ({"start": 5, "end": 3}, "its span ends before it starts"),
        ({"start": -2, "end": -1}, "its span is empty"),
        ({"start": float("inf")}, "its span is no number of seconds"),
        ({"start_frame": 30, "end_frame": 90}, "its 'start_frame' changes what is seen of the "),
        ({"crop": [0, 0, 5, 5]}, "its 'crop' changes what is seen of the video, and is not read"),
    ],
)
def test_spans_that_cannot_be_shown_are_left_out(
    tmp_path: Path, keys: dict[str, object], cause: str
) -> None:
    rows = [llava_row(**keys), llava_row()]
    (tmp_path / "qa.json").write_text(json.dumps(rows))
    skipped = SkippedRows()
    (example,) = examples_in("llava", tmp_path, "qa", skipped)
    assert example.id == "llava:qa:1:0"
    (counted,) = skipped.causes
    assert counted.startswith(cause)


def test_keys_that_contradict_each_other_are_malformed(tmp_path: Path) -> None:
    (tmp_path / "qa.json").write_text(json.dumps([llava_row(start=2, start_time=3)]))
    with pytest.raises(ValueError, match=r"qa.json:1: fields 'start' and 'start_time' name differ"):
        examples_in("llava", tmp_path, "qa")
    root = write_messages(tmp_path, videos=[{"path": "a.mp4", "end": 4}], end=5)
    with pytest.raises(ValueError, match=r"train.jsonl:1: its keys name different spans"):
        examples_in("chat_messages", root, "train")


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
    (example,) = examples_in("chat_messages", root, "train")
    assert (example.prompt, example.response) == ("What happens?", "It falls.")
    assert example.earlier_turns == (Turn("system", "Be brief."),)
    assert example.media == str(tmp_path / "clips/a.mp4")
    assert example.meta == {"question": "What happens?", "id": "7"}
    (absolute,) = examples_in(
        "chat_messages", write_messages(tmp_path, videos=[{"path": "/a.mp4"}]), "train"
    )
    assert absolute.media == "/a.mp4"
    (remote,) = examples_in(
        "chat_messages", write_messages(tmp_path, videos=["s3://b/a.mp4"]), "train"
    )
    assert remote.media == "s3://b/a.mp4"


def test_messages_in_an_array(tmp_path: Path) -> None:
    root = write_messages(tmp_path, videos=["clips/a.mp4"], id=7)
    lines = examples_in("chat_messages", root, "train")
    path = tmp_path / "train.jsonl"
    (tmp_path / "array.json").write_text(json.dumps([json.loads(path.read_text())]))
    (example,) = examples_in("chat_messages", root, "array")
    assert replace(example, id="") == replace(lines[0], id="")
    (tmp_path / "train.json").write_text("[]")
    with pytest.raises(ValueError, match=r"there are both .*keep one of them"):
        examples_in("chat_messages", root, "train")


def test_messages_whose_contents_are_parts(tmp_path: Path) -> None:
    parts = [{"type": "video", "video": "a.mp4"}, {"type": "text", "text": "Why?"}]
    messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": "So."}]
    (example,) = examples_in("chat_messages", write_messages(tmp_path, messages=messages), "train")
    assert (example.prompt, example.media) == ("Why?", str(tmp_path / "a.mp4"))


@pytest.mark.parametrize(
    "video",
    [
        {"type": "video", "video": "a.mp4", "video_start": 2.0, "video_end": 5.0, "fps": 1},
        {"type": "video_url", "video_url": {"url": "a.mp4"}, "video_start": 2.0, "video_end": 5},
        {"type": "video", "path": "a.mp4", "timestamps": [2, 5]},
    ],
)
def test_the_span_stands_beside_the_video(tmp_path: Path, video: dict[str, Any]) -> None:
    parts = [video, {"type": "text", "text": "Why?"}]
    messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": "So."}]
    skipped = SkippedRows()
    (example,) = examples_in(
        "chat_messages", write_messages(tmp_path, messages=messages), "train", skipped
    )
    assert (example.media, example.start_seconds, example.end_seconds) == (
        *(str(tmp_path / "a.mp4"), 2.0, 5.0),
    )
    assert skipped.remarks == ({"field 'fps' is not read, the row is": 1} if "fps" in video else {})
    listed = write_messages(tmp_path, videos=[{**video, "type": None}])
    (example,) = examples_in("chat_messages", listed, "train")
    assert (example.start_seconds, example.end_seconds) == (2.0, 5.0)


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        ({}, "no video"),
        ({"videos": [{"path": ["1.jpg", "2.jpg"]}]}, "its video is a list of frames"),
        ({"videos": ["a.mp4"], "start": 3, "end": 3}, "its span is empty"),
        ({"videos": ["a.mp4"], "images": ["b.jpg"]}, "it has images or sound, not only a video"),
        ({"videos": [["1.jpg", "2.jpg"]]}, "its video is a list of frames"),
    ],
)
def test_messages_that_do_not_fit_are_counted(
    tmp_path: Path, row: dict[str, object], cause: str
) -> None:
    skipped = SkippedRows()
    assert examples_in("chat_messages", write_messages(tmp_path, **row), "train", skipped) == []
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


def test_huggingface_files(tmp_path: Path) -> None:
    datasets.Dataset.from_list(ROWS).to_parquet(str(tmp_path / "train.parquet"))
    examples = examples_in("huggingface", tmp_path, "train", columns=COLUMNS)
    assert [example.response for example in examples] == ["A dog runs."]
    (tmp_path / "own.csv").write_text("clip,text,from\nb.mp4,A cat sits.,1\n")
    (cat,) = examples_in("huggingface", tmp_path, "own", columns=COLUMNS)
    assert cat.response == "A cat sits."
    no_split = r"has no split 'val' \(data.*split; as a file val.jsonl, .*; found own, train$"
    with pytest.raises(ValueError, match=no_split):
        examples_in("huggingface", tmp_path, "val", columns=COLUMNS)
    (tmp_path / "own.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match=r"'own' of .* could be own.jsonl or own.csv: rename or"):
        examples_in("huggingface", tmp_path, "own", columns=COLUMNS)
    (tmp_path / "empty").mkdir()
    for name in (tmp_path / "empty", tmp_path / "gone", "a/b/c"):
        with pytest.raises(ValueError, match=r"has no split 'val' .* none|there is no folder"):
            examples_in("huggingface", name, "val", columns=COLUMNS)


def test_huggingface_folders_laid_out_as_on_the_hub(tmp_path: Path) -> None:
    for split, size in (("train", 1), ("test", 2)):
        path = tmp_path / "data" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(exist_ok=True)
        datasets.Dataset.from_list(ROWS[:1] * size).to_parquet(str(path))
    assert len(examples_in("huggingface", tmp_path, "test", columns=COLUMNS)) == 2
    with pytest.raises(ValueError, match=r"has no split 'tset' .*; found test, train|train, test"):
        examples_in("huggingface", tmp_path, "tset", columns=COLUMNS)


def test_a_split_that_a_data_set_of_the_hub_does_not_have_is_named_with_those_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    datasets.Dataset.from_list(ROWS).to_parquet(str(tmp_path / "train.parquet"))
    load = datasets.load_dataset

    def load_dataset(name: str, **options: Any) -> Any:
        return load(str(tmp_path), **options)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    for root in ("someone/clips", "hf://datasets/someone/clips"):
        with pytest.raises(ValueError, match="train") as caught:
            examples_in("huggingface", root, "tset", columns=COLUMNS)
        assert "data.*.split, which is 'tset'" in str(caught.value)
        assert "of ['train']" in str(caught.value) or "splits: ['train']" in str(caught.value)


def test_huggingface_urls_are_read_as_streams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    datasets.Dataset.from_list(ROWS).to_parquet(str(tmp_path / "train.parquet"))
    load, loaded = datasets.load_dataset, []

    def load_dataset(name: str, *, split: str, streaming: bool, revision: str | None) -> Any:
        loaded.append((name, streaming))
        return load(str(tmp_path), split=split, streaming=streaming, revision=revision)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    root = "hf://datasets/someone/clips"
    (dog,) = read_corpus(CorpusConfig(reader="huggingface", root=root, columns=COLUMNS))
    assert loaded == [("someone/clips", True)]
    assert dog.media == f"{root}/a.mp4"


def save(root: Path, **columns: list[Any]) -> str:
    datasets.Dataset.from_dict({"media": ["a.mp4"], **columns}).save_to_disk(root / "s")
    return str(root / "s")


def test_huggingface_questions(tmp_path: Path) -> None:
    options = ["rain", "None"]
    root = save(
        tmp_path, id=["q1"], prompt=["Why?"], options=[options], answer_index=[1], video_id=["v"]
    )
    (example,) = examples_in("huggingface", root, "any")
    assert example.prompt == multiple_choice_prompt("Why?", options)
    assert (example.response, example.answer_index, example.options) == ("None", 1, tuple(options))
    assert (example.id, example.video_id) == ("huggingface:any:q1", "v")
    root = save(tmp_path / "text", prompt=["Why?"], options=[options], response=["rain"])
    (spelt,) = examples_in("huggingface", root, "any")
    assert spelt.answer_index == 0
    root = save(tmp_path / "open", prompt=["Why?"], response=["None"])
    (open_ended,) = examples_in("huggingface", root, "any")
    assert (open_ended.prompt, open_ended.answers) == ("Why?", ("None",))


def test_huggingface_options_in_columns_letters_and_groups(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(
        "clip,ask,a0,a1,a2,right,set\n"
        "x.mp4,Why?,rain,wind,,B,s1\n"
        "y.mp4,How?,by car,on foot,by air,by air,s1\n"
    )
    columns = {"media": "clip", "prompt": "ask", "options": "a0, a1, a2", "response": "right"}
    columns["group_id"] = "set"
    first, second = examples_in("huggingface", tmp_path, "own", columns=columns)
    assert (first.options, first.answer_index, first.response) == (("rain", "wind"), 1, "wind")
    assert (second.options, second.answer_index) == (("by car", "on foot", "by air"), 2)
    assert first.group_id == second.group_id == "s1"
    with pytest.raises(ValueError, match=r"has no column 'a3'"):
        examples_in("huggingface", tmp_path, "own", columns=columns | {"options": "a0, a3"})


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"prompt": ["Why?"], "options": [["a", "b"]], "answer_index": [2]}, "'answer_index' is 2"),
        ({"prompt": ["Why?"], "options": [["a", "b"]], "response": ["c"]}, "'response' is 'c'"),
        ({"options": [["a", "b"]], "answer_index": [0]}, "'prompt' is missing or empty"),
        ({"response": ["c"], "start_seconds": ["soon"]}, "'start_seconds' must be seconds"),
        ({"response": [True]}, "'response' must be a text, found True"),
        ({"prompt": ["Why?"], "options": [["a"]], "answer_index": [0]}, "must hold 2 to 26 texts"),
        (
            {"prompt": ["Why?"], "options": ["a, b"], "answer_index": [0]},
            "is one text, 'a, b':",
        ),
        ({"response": ["c"], "id": ["nan"]}, "'id' is 'nan', which is no id"),
    ],
)
def test_huggingface_values_are_checked(
    tmp_path: Path, columns: dict[str, list[Any]], message: str
) -> None:
    root = save(tmp_path, **columns)
    with pytest.raises(ValueError, match=message) as caught:
        examples_in("huggingface", root, "any")
    assert f"{root}[any]:0: " in str(caught.value)


def test_huggingface_spans_by_common_names_and_those_that_are_none(tmp_path: Path) -> None:
    nan = float("nan")
    spans: list[tuple[float | None, float | None]] = [
        *((3.0, 3.0), (3.0, 4.0), (5.0, 4.0), (nan, 4.0), (None, None), (-0.2, 1.0)),
    ]
    starts, ends = map(list, zip(*spans, strict=True))
    many = {"media": ["a.mp4"] * 6, "response": ["x"] * 6}
    for names in (("start_seconds", "end_seconds"), ("video_start", "video_end")):
        root = save(tmp_path / names[0], **many, **dict(zip(names, (starts, ends), strict=True)))
        skipped = SkippedRows()
        examples = examples_in("huggingface", root, "any", skipped)
        assert [(e.start_seconds, e.end_seconds) for e in examples] == [
            *((3.0, 4.0), (None, None), (0.0, 1.0)),
        ]
        assert skipped.causes == {
            "its span is empty": 1,
            "its span ends before it starts": 1,
            "its span is no number of seconds": 1,
        }


def test_huggingface_rows_that_are_malformed_are_counted(tmp_path: Path) -> None:
    options = [["a", "b"]] * 3
    root = save(
        tmp_path, media=["a.mp4"] * 3, prompt=["q"] * 3, options=options, answer_index=[0, 7, 1]
    )
    skipped = SkippedRows(max_malformed_fraction=0.5)
    assert len(examples_in("huggingface", root, "any", skipped)) == 2
    assert skipped.num_malformed == 1
    assert f"{root}[any]:1: field 'answer_index' is 7" in skipped.malformed[0]


def test_whatever_datasets_raises_names_the_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    class Failing(list[dict[str, Any]]):
        column_names = ("media", "response")
        features = None

        def __iter__(self) -> Any:
            yield {"media": "a.mp4", "response": "x"}
            raise KeyError("a column that is gone")

    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: Failing())
    with pytest.raises(
        ValueError, match=r"\[train\]:1: the row cannot be read: 'a column"
    ) as caught:
        examples_in("huggingface", "someone/clips", "train")
    assert isinstance(caught.value.__cause__, KeyError)

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no script may run")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(ValueError, match="or name a folder: no script may run"):
        examples_in("huggingface", "someone/clips", "train")


def test_huggingface_columns_are_checked(saved: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no column 'media'; found clip, text, from"):
        examples_in("huggingface", saved, "train")
    with pytest.raises(ValueError, match=r"has no column 'caption'"):
        examples_in("huggingface", saved, "train", columns=COLUMNS | {"response": "caption"})
    with pytest.raises(ValueError, match=r"has no split 'val' .*; found train"):
        examples_in("huggingface", saved, "val", columns=COLUMNS)
    with pytest.raises(ValueError, match="an example has no field caption"):
        CorpusConfig(reader="huggingface", root=saved, columns={"caption": "text"})
    with pytest.raises(ValueError, match="are for the reader 'huggingface'"):
        CorpusConfig(reader="webvid", root=saved, columns=COLUMNS)


def test_huggingface_revisions_are_read_and_kept_apart(
    saved: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = {None: ["newest"], "v1": ["first"], "0a1b2c": ["second"]}
    loaded = []

    def load_dataset(root: str, *, split: str, streaming: bool, revision: str | None) -> Any:
        loaded.append(revision)
        rows = [{"media": "a.mp4", "response": text} for text in hub[revision]]
        return datasets.Dataset.from_list(rows)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    for _ in range(2):
        for revision, texts in hub.items():
            config = CorpusConfig(reader="huggingface", root="someone/clips", revision=revision)
            assert [example.response for example in open_corpora([config])] == texts
    assert loaded == [None, "v1", "0a1b2c"]
    with pytest.raises(ValueError, match=r"'v1' of corpus .* is a folder of this machine"):
        examples_in("huggingface", saved, "train", columns=COLUMNS, revision="v1")
    with pytest.raises(ValueError, match="revision are for the reader 'huggingface'"):
        CorpusConfig(reader="webvid", root=saved, revision="v1")


def test_huggingface_videos_by_path_not_by_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"not decoded")
    path = str(tmp_path / "a.mp4")
    by_path = datasets.Dataset.from_dict({"media": [path], "response": ["x"]})
    by_path = by_path.cast_column("media", datasets.Video())
    by_path.to_parquet(str(tmp_path / "path" / "train.parquet"))
    (example,) = examples_in("huggingface", tmp_path / "path", "train")
    assert example.media == path
    features = datasets.Features({"media": datasets.Video(decode=False)})
    videos = {"media": [{"path": "a.mp4", "bytes": b"not decoded"}]}
    by_bytes = datasets.Dataset.from_dict(videos, features=features)
    by_bytes.to_parquet(str(tmp_path / "bytes" / "train.parquet"))
    with pytest.raises(ValueError, match=r"train.parquet:1: the video's bytes stand in the data"):
        examples_in("huggingface", tmp_path / "bytes", "train")
