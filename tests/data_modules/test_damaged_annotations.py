"""Damaged annotation files: a named error or a counted skip, and never a wrong example."""

import copy
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_corpora import TINY_CORPORA, TinyCorpus

from data_modules.annotation_files import MAX_LINE_BYTES
from data_modules.corpora import CorpusConfig
from data_modules.corpus_index import open_corpora
from data_modules.files import Files
from data_modules.readers import READERS
from data_modules.skipped_rows import SkippedRows
from vidreason.example import Example

every_corpus = pytest.mark.parametrize("corpus", TINY_CORPORA, ids=lambda corpus: corpus.reader)


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDREASON_CACHE", str(tmp_path_factory.mktemp("cache")))


class Outcome:
    """The examples that a reader makes of a folder, and its errors."""

    def __init__(self, corpus: TinyCorpus, root: Path) -> None:
        self.examples: list[Example] = []
        self.skipped = SkippedRows(max_malformed_fraction=1.0)
        self.error = ""
        reader = READERS[corpus.reader]
        try:
            for example in reader.read(Files(root), corpus.split, self.skipped):
                self.examples.append(example)
        except ValueError as error:
            self.error = str(error)

    @property
    def letter(self) -> str:
        """E: an error; M: a malformed row; S: a skip; o: read as it stands."""
        if self.error or self.skipped.num_malformed:
            return "E" if self.error else "M"
        return "S" if self.skipped.num_skipped else "o"

    @property
    def messages(self) -> list[str]:
        """Messages about the file, or about its malformed rows."""
        return [self.error] if self.error else self.skipped.malformed


def test_every_reader_of_annotation_files_is_here() -> None:
    without_files = {"webdataset", "huggingface", "subtitled_videos"}  # damaged in their own tests
    assert {corpus.reader for corpus in TINY_CORPORA} == READERS.keys() - without_files


@every_corpus
def test_sound_files_read_whole(corpus: TinyCorpus, tmp_path: Path) -> None:
    corpus.write(tmp_path)
    outcome = Outcome(corpus, tmp_path)
    assert outcome.letter == "o"
    assert len({example.id for example in outcome.examples}) == len(outcome.examples) >= 2


@every_corpus
def test_byte_order_mark_and_line_ends_change_nothing(corpus: TinyCorpus, tmp_path: Path) -> None:
    path = corpus.write(tmp_path)
    sound = path.read_bytes()
    expected = Outcome(corpus, tmp_path).examples
    path.write_bytes(b"\xef\xbb\xbf" + sound)
    assert Outcome(corpus, tmp_path).examples == expected
    path.write_bytes(sound.replace(b"\n", b"\r\n"))
    examples = Outcome(corpus, tmp_path).examples
    # Inside of quotes a line end is part of the text.
    assert [e.response.replace("\r\n", "\n") for e in examples] == [e.response for e in expected]


@every_corpus
@pytest.mark.parametrize("junk", [b"\xff", b"\xc3", b"\0"], ids=["not-utf8", "half", "null"])
def test_bytes_that_are_no_text(corpus: TinyCorpus, tmp_path: Path, junk: bytes) -> None:
    path = corpus.write(tmp_path)
    sound = path.read_bytes()
    middle = len(sound) // 2
    line = sound[:middle].count(b"\n") + 1
    path.write_bytes(sound[:middle] + junk + sound[middle:])
    outcome = Outcome(corpus, tmp_path)
    if corpus.form in ("csv", "lines"):
        expected = rf"{path}:{line}: .*(UTF-8|null byte).*(fetch|convert)"
    else:
        expected = rf"{path}:\d+: .*(is not UTF-8; convert|not valid JSON: .*; the file may be)"
    assert any(re.search(expected, message) for message in outcome.messages), outcome.messages


@every_corpus
def test_a_file_cut_anywhere(corpus: TinyCorpus, tmp_path: Path) -> None:
    path = corpus.write(tmp_path)
    sound = path.read_bytes()
    expected = Outcome(corpus, tmp_path).examples
    generator = random.Random(corpus.reader)
    for length in sorted({1, len(sound) - 1, *generator.sample(range(1, len(sound)), 40)}):
        path.write_bytes(sound[:length])
        outcome = Outcome(corpus, tmp_path)
        assert all(example in expected for example in outcome.examples), length
        if not outcome.error and outcome.examples != expected:
            # Only a cut between two rows cannot be seen.
            assert corpus.form in ("csv", "lines"), length
            assert sound[length - 1 : length] == b"\n" or sound[length : length + 1] == b"\n", (
                length
            )
        elif outcome.error:
            assert str(tmp_path) in outcome.error


@every_corpus
def test_random_bytes_never_make_a_crash(corpus: TinyCorpus, tmp_path: Path) -> None:
    """Whatever is wrong, nothing but a ValueError or a skip that names a file comes out."""
    path = corpus.write(tmp_path)
    sound = path.read_bytes()
    generator = random.Random(corpus.reader)
    marks = [b'"', b",", b"\n", b"{", b"}", b"[", b"]", b"\\", b"\xff", b"\r", b"", b"7", b"null"]
    for _ in range(60):
        damaged = bytearray(sound)
        for _ in range(generator.randrange(1, 4)):
            start = generator.randrange(len(damaged))
            damaged[start : start + generator.randrange(3)] = generator.choice(marks)
        path.write_bytes(damaged)
        messages = Outcome(corpus, tmp_path).messages
        assert all(str(tmp_path) in message for message in messages), messages


@every_corpus
def test_a_line_of_ten_megabytes(corpus: TinyCorpus, tmp_path: Path) -> None:
    long = "x" * (MAX_LINE_BYTES + 2 * 2**20)
    rows = copy.deepcopy(corpus.rows)
    holder, key = next(_texts(rows[-1]))
    holder[key] = long
    outcome = Outcome(corpus, corpus.write(tmp_path, rows).parents[corpus.file.count("/")])
    (message,) = outcome.messages
    expected = rf"{tmp_path}.*:\d+( \(.*\))?: .*(longer|larger|characters|hold 2 to 26)"
    assert re.search(expected, message)
    assert len(message) < 600


def _texts(value: Any) -> Iterator[tuple[Any, Any]]:
    """Holders and keys of a row's texts that become part of an example, the response first."""
    wanted = ("name", "narration_text", "value", "content", "question", "label", "instruction")
    wanted += ("clip_id", "video_id", "movie")
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if key == "sentences":
            yield item, 0
        elif isinstance(item, dict | list):
            yield from _texts(item)
        elif key in wanted and isinstance(item, str):
            yield value, key


ABSENT = object()
VALUES = {"A": ABSENT, "n": None, "7": 17, "l": ["x"], "e": "", "N": "nan", "O": "None"}
# Field -> what happens if it is absent, null, 17, a list, empty, "nan", "None": an error (E), a
# malformed row (M), a skip (S), or it is read as it stands (o).
CSV_FIELDS = {
    "webvid": {"videoid": "E---MMM", "name": "E---SSS", "page_dir": "o---ooo"},
    "nextqa": {
        **{"video": "E---MMM", "question": "E---MMM", "qid": "E---MMM", "type": "E---Moo"},
        **{"answer": "E---MMM", "a4": "E---Moo"},
    },
    "nextqa_open_ended": {
        **{"video": "E---MMM", "question": "E---MMM", "qid": "E---MMM", "answer": "E---Moo"},
    },
    "nextgqa": {"video_id": "E---MMM", "qid": "E---MMM", "answer": "E---MMM"},
    "intentqa": {"video_id": "E---MMM", "qid": "E---MMM", "answer": "E---MMM"},
}
JSON_FIELDS = {
    "hd_vila": {
        **{"video_id": "MMoMMMM", "clip": "MMMMMMM", "clip.0.clip_id": "MMEMMMM"},
        **{"clip.0.span": "MMMMMMM", "clip.0.span.1": "-MMMMMM"},
    },
    "activitynet_qa": {
        **{"video_name": "MMoMMMM", "question": "MMMMMMM", "question_id": "MMMMMMM"},
    },
    "causal_vid_instruct": {
        **{"id": "MMoMMMM", "video_id": "MMoMMMM", "start": "ooSMooo", "end": "oooMooo"},
        **{"instruction": "ooMMoMM", "causal_explanation": "ooMooMM", "predictions": "MMMMMMM"},
        **{"predictions.0.text": "MMMMMMM", "predictions.0.confidence": "MMMMMMM"},
        **{"causal_explanation.0": "-MMMMMM", "media": "ooMMooo"},
    },
    "ego4d": {
        **{"aa-1": "oMMMMMM", "aa-1.narration_pass_1": "ooMMMMM"},
        **{"aa-1.narration_pass_1.narrations": "ooMMMMM"},
        **{"aa-1.narration_pass_1.narrations.0.timestamp_sec": "MMSMMMM"},
        **{"aa-1.narration_pass_1.narrations.0.narration_text": "SSMMSSS"},
    },
    "activitynet_captions": {
        **{"v_a": "oMMMMMM", "v_a.duration": "MM-MMMM", "v_a.timestamps": "MMMMMMM"},
        **{"v_a.sentences": "MMMMMMM", "v_a.timestamps.0": "MMMMMMM"},
        **{"v_a.timestamps.0.0": "MM-MMMM", "v_a.sentences.0": "MSMMSSS"},
    },
    "something_something": {
        **{"id": "MMoMMMM", "label": "MMMMMMM", "template": "MMMMMMM"},
    },
    "llava": {
        **{"id": "ooooooo", "video": "SSMoMMM", "conversations": "MMMMMMM"},
        **{"conversations.0": "-MMMMMM", "conversations.0.from": "MMMMMMM"},
        **{"conversations.1.value": "MMMMMoo", "conversations.0.value": "MMMMMoo"},
    },
    "chat_messages": {
        **{"messages": "MMMMMMM", "videos": "SSMoSMM", "videos.0": "-MMSMMM"},
        **{"messages.0.role": "MMMMMMM", "messages.1.content": "MMMMMoo"},
    },
    "clevrer": {
        **{"scene_index": "MMoMMMM", "video_filename": "MMMMMoo", "questions": "MMMMMMM"},
        **{"questions.0.question": "MMMMMMM", "questions.0.question_id": "MMoMMMM"},
        **{"questions.0.question_type": "MMMMMMM", "questions.0.answer": "MMoMMoo"},
        **{"questions.1.choices": "MMMMMMM", "questions.1.choices.0.answer": "MMMMMMM"},
        **{"questions.1.choices.0.choice": "MMMMMoo"},
    },
    "vcr": {
        **{"objects": "MMMoMMM", "question": "MMMoMMM", "question.0": "-MMMooo"},
        **{"answer_choices": "MMMMMMM", "answer_label": "MMMMMMM", "rationale_label": "MMMMMMM"},
        **{"annot_id": "MMoMMMM", "img_fn": "MMMMMoo", "img_id": "MMoMMMM"},
    },
    "test_of_time": {
        **{"id": "MMoMMMM", "video": "MMoMMMM", "category": "MMMMMMM", "question": "MMMMMMM"},
        **{"options": "MMMMMMM", "answer_index": "ooMMooo", "start": "ooSMooo"},
        **{"minimal_pair_id": "oooMMMM"},
    },
    "mvbench": {
        **{"video": "MMoMMMM", "question": "MMMMMMM", "candidates": "MMMMMMM"},
        **{"answer": "MMMMMMM", "start": "ooSMooo"},
    },
    "tempcompass": {
        **{"1034419625": "oMMMMMM", "1034419625.action": "oMMMMMM"},
        **{"1034419625.action.0.question": "MMMMMMM", "1034419625.action.0.answer": "MMMMMMM"},
    },
    "video_mme": {
        **{"videoID": "MMoMMMM", "duration": "MMMMMoo"},
        **{"question": "MMMMMMM", "options": "MMMMMMM", "question_id": "MMoMMMM"},
    },
    "egoschema": {"q_uid": "MMMMMMM", "question": "MMMMMMM", "option 2": "MMoMMoo"},
    "star": {
        **{"question_id": "MMoMMMM", "question": "MMMMMMM", "choices": "MMMMMMM"},
        **{"answer": "MMMMMMM", "video_id": "MMoMMMM", "start": "ooSMooo"},
    },
}
CASES = [
    pytest.param(corpus, name, letters, id=f"{corpus.reader}-{name}")
    for corpus in TINY_CORPORA
    for name, letters in (CSV_FIELDS | JSON_FIELDS)[corpus.reader].items()
]


@pytest.mark.parametrize(("corpus", "name", "letters"), CASES)
def test_a_damaged_field(corpus: TinyCorpus, name: str, letters: str, tmp_path: Path) -> None:
    corpus.write(tmp_path)
    sound = Outcome(corpus, tmp_path).examples
    assert len(letters) == len(VALUES)
    outcomes = ""
    for value, expected in zip(VALUES, letters, strict=True):
        if expected == "-":
            outcomes += "-"
            continue
        corpus.write(tmp_path, _damaged_rows(corpus, name, value))
        outcome = Outcome(corpus, tmp_path)
        outcomes += outcome.letter
        if expected == "E":
            assert re.search(rf"{tmp_path}.*?:\d+: ", outcome.error), (value, outcome.error)
        if expected == "M":
            assert all(str(tmp_path) in message for message in outcome.messages), value
        if expected in "MS":
            assert all(example in sound for example in outcome.examples), value
            assert str(tmp_path) in outcome.skipped.summary(), (value, outcome.error)
    assert outcomes == letters


def _damaged_rows(corpus: TinyCorpus, name: str, value: str) -> list[Any]:
    rows: list[Any] = copy.deepcopy(corpus.rows)
    # A csv file lacks a column in all rows; everything else happens to the first.
    for row in rows if value == "A" and corpus.form == "csv" else rows[:1]:
        holder: Any = row
        *above, last = name.split(".")
        for step in above:
            holder = holder[int(step) if isinstance(holder, list) else step]
        key = int(last) if isinstance(holder, list) else last
        if VALUES[value] is ABSENT:
            del holder[key]
        else:
            holder[key] = VALUES[value]
    return rows


# Readers that leave repeated rows out; of the others, the index of the corpus is refused.
UNIQUE = (
    *("activitynet_qa", "clevrer", "egoschema", "hd_vila", "intentqa", "nextgqa", "nextqa"),
    *("nextqa_open_ended", "star", "tempcompass", "test_of_time", "vcr", "video_mme"),
)


@every_corpus
def test_a_row_that_is_there_twice(corpus: TinyCorpus, tmp_path: Path) -> None:
    corpus.write(tmp_path)
    sound = Outcome(corpus, tmp_path).examples
    if corpus.form == "members":
        text = (tmp_path / corpus.file).read_text()
        (tmp_path / corpus.file).write_text(f"{text[:-2]},{text[1:]}")
    else:
        corpus.write(tmp_path, [*corpus.rows, corpus.rows[0]])
    config = CorpusConfig(reader=corpus.reader, root=str(tmp_path), split=corpus.split)  # type: ignore[arg-type]
    # These rows are numbered: they have no ids, or ids that often repeat.
    if corpus.reader in ("llava", "chat_messages", "mvbench"):
        assert len(open_corpora([config])) > len(sound)
    elif corpus.reader in UNIQUE:
        outcome = Outcome(corpus, tmp_path)
        assert outcome.examples == sound
        assert outcome.skipped.num_skipped > 0
    else:
        with pytest.raises(ValueError, match="is there twice"):
            open_corpora([config])
