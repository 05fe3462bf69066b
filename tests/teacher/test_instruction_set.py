"""The folder of an instruction set: the same bytes each time, one split a video, and no media."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from instruction_samples import (
    CREATED,
    DRAFT,
    LONE,
    PROMPT,
    PROVENANCE,
    Ending,
    accepted,
    clip,
    failed,
    journal_of,
    rejected,
)
from process_memory import linux_only, peak_of

from data_modules.corpora import CorpusConfig, DataConfig
from data_modules.readers import read_corpus
from data_modules.skipped_rows import SkippedRows
from vidreason.config import merge_config
from vidreason.evaluation.tables import Table
from vidreason.reasoning.predictions import Prediction
from vidreason.teacher.draft import Draft, Step
from vidreason.teacher.instruction_set import SetOptions, write_instruction_set
from vidreason.teacher.provenance import TeacherProvenance

EVIL = '<img src=x onerror="alert(1)"> | **b** [l](javascript:x) `c`\n---\n# h'
KEY = "sk-planted-0123456789abcdef"


def journal() -> list[Ending]:
    """Two sources with videos of one name, every way to end, and answers with little in them."""
    ssv2 = {"source": "ssv2", "start_seconds": None, "end_seconds": None, "licence": "ssv2"}
    return [
        accepted(clip(0, start_seconds=None, end_seconds=None), LONE),
        accepted(clip(0)),
        accepted(clip(1, split="val"), flags=["unsupported step 2"]),
        accepted(clip(1, **ssv2, media="/data/ssv2/video1.webm", reference="Rolling a ball")),
        accepted(clip(2, start_seconds=3.0), Draft(steps=(Step("None"),))),
        rejected(clip(3), "refusal", detail="I am sorry"),
        rejected(clip(4), "hostile", Draft(steps=(Step(EVIL),)), detail=EVIL),
        failed(clip(5), "endpoint", "timed out"),
    ]


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_every_clip_is_in_one_file_once(tmp_path: Path) -> None:
    summary = write_instruction_set(tmp_path, journal_of(*journal()), PROVENANCE)
    train, val, unused = (
        rows_of(tmp_path / f"{name}.jsonl") for name in ("train", "val", "rejected")
    )
    assert [row["id"] for row in train + val + unused] == [
        journal()[index].clip.id for index in (0, 1, 3, 2, 4, 5, 6, 7)
    ]
    assert [row["cause"] for row in unused] == ["unwritable", "refusal", "hostile", "endpoint"]
    assert "word for nothing" in unused[0]["detail"]
    # The review page shows the frames of rejected answers, too.
    assert all(row["media"].startswith(f"{row['source']}/") for row in train + val + unused)
    assert val[0]["flags"] == ["unsupported step 2"]
    assert summary.num_rows == {"train": 3, "val": 1}
    assert summary.endings == Counter(
        ["accepted"] * 4 + ["unwritable", "refusal", "hostile", "endpoint"]
    )
    assert {row["created"] for row in train} == {CREATED}


def test_one_journal_gives_the_same_bytes(tmp_path: Path) -> None:
    options = SetOptions(
        facts={"verifier": "an oracle"}, tables=[Table("t", ("a", "b"), (("c", "1"),))]
    )
    contents = []
    for name in ("first", "first", "second"):
        write_instruction_set(tmp_path / name, journal_of(*journal()), PROVENANCE, options)
        contents.append(
            {
                path.name: path.read_bytes()
                for path in (tmp_path / name).iterdir()
                if path.is_file() and path.name != "training.yaml"
            }
        )
    assert contents[0] == contents[1] == contents[2]
    assert set(contents[0]) == {
        *("train.jsonl", "val.jsonl", "rejected.jsonl", "README.md", "report.md", "bias.html"),
        ".gitignore",
    }


@pytest.mark.parametrize(
    ("endings", "message"),
    [
        (
            [
                accepted(clip(0, split="train")),
                rejected(clip(0, start_seconds=2.0, split="val"), "cut"),
            ],
            "'video0' of ego4d has clips in train and in val",
        ),
        ([accepted(clip(0, split="test"))], "has the split 'test'"),
        ([accepted(clip(0, source="../x"))], r"the source '\.\./x' .* must be letters"),
        ([accepted(clip(0, source="a/b"))], "the source 'a/b' .* must be letters"),
    ],
)
def test_a_wrong_journal_is_refused_and_leaves_no_file(
    tmp_path: Path, endings: list[Ending], message: str
) -> None:
    write_instruction_set(tmp_path, journal_of(*journal()), PROVENANCE)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(ValueError, match=message):
        write_instruction_set(tmp_path, journal_of(accepted(clip(9)), *endings), PROVENANCE)
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}


@dataclass(kw_only=True)
class _Overlay:
    """The part of a training configuration that the file sets."""

    data: DataConfig = field(default_factory=DataConfig)


def film(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(path.name.encode())
    return str(path)


def read(folder: Path, skipped: SkippedRows | None = None, media_dir: str = "") -> list[str]:
    """Media that the set's training rows lead to."""
    config = CorpusConfig(reader="causal_vid_instruct", root=str(folder), media_dir=media_dir)
    return sorted({example.media for example in read_corpus(config, skipped=skipped)})


def test_the_training_file_leads_to_the_videos_of_all_sources(tmp_path: Path) -> None:
    data = tmp_path / "data"
    ego4d = film(data / "ego4d/full_scale/1.mp4")
    deep = film(data / "ego4d/full_scale/more/2.mp4")
    ssv2 = film(data / "ssv2/1.webm")
    endings = [
        accepted(clip(source="ego4d", video_id="1", media=ego4d)),
        accepted(clip(source="ego4d", video_id="2", media=deep)),
        accepted(clip(source="ssv2", video_id="1", media=ssv2)),
        accepted(clip(source="ssv2", video_id="3", media=str(data / "ssv2/3.webm"), split="val")),
    ]
    folder = tmp_path / "set"
    options = SetOptions(media_roots={"ego4d": str(data / "ego4d")})
    summary = write_instruction_set(folder, journal_of(*endings), PROVENANCE, options)
    assert summary.unlinked == {}
    assert [row["media"] for row in rows_of(folder / "train.jsonl")] == [
        *("ego4d/full_scale/1.mp4", "ego4d/full_scale/more/2.mp4", "ssv2/1.webm"),
    ]
    config = merge_config(_Overlay, [str(folder / "training.yaml")]).data
    assert [corpus.split for corpus in (*config.train, *config.validation)] == ["train", "val"]
    assert read(folder, media_dir=config.train[0].media_dir) == [
        str(folder / "videos" / name)
        for name in ("ego4d/full_scale/1.mp4", "ego4d/full_scale/more/2.mp4", "ssv2/1.webm")
    ]
    assert all(map(os.path.isfile, read(folder, media_dir=config.train[0].media_dir)))
    # Without it, nothing outside of the set is opened.
    with pytest.raises(ValueError, match="outside of the corpus' root"):
        read(folder, SkippedRows(quiet=True))


def test_videos_that_are_there_are_left_and_odd_places_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "set"
    copied = film(folder / "videos/copied/a.mp4")
    endings = [
        accepted(clip(source="copied", media=film(tmp_path / "elsewhere/a.mp4"))),
        accepted(clip(source="gone", media="/no/such/folder/a.mp4")),
        accepted(clip(source="remote", media="https://example.org/a.mp4")),
        accepted(clip(1, source="spread", media="/one/a.mp4")),
        accepted(clip(2, source="spread", media="/two/a.mp4")),
        accepted(clip(source="linked", media=film(tmp_path / "elsewhere/b.mp4"))),
        accepted(clip(3, source="shards", media="/x/y/0.tar#offset=512&size=9&name=a/b.mp4")),
    ]
    (folder / "videos/linked").symlink_to(tmp_path)
    summary = write_instruction_set(folder, journal_of(*endings), PROVENANCE)
    assert set(summary.unlinked) == {
        "copied",
        "gone",
        "remote",
        "spread",
        "shards",
        "training.yaml",
    }
    assert "have none in common" in caplog.text
    assert Path(copied).read_bytes() == b"a.mp4"
    assert (folder / "videos/linked").readlink() == tmp_path / "elsewhere"
    assert (
        "media_dir"
        not in yaml.safe_load((folder / "training.yaml").read_text())["data"]["train"][0]
    )
    media = {row["source"]: row["media"] for row in rows_of(folder / "train.jsonl")}
    assert media == {
        **{"copied": "copied/a.mp4", "gone": "gone/a.mp4", "remote": "", "spread": ""},
        **{"linked": "linked/b.mp4", "shards": "shards/0.tar#offset=512&size=9&name=a/b.mp4"},
    }
    write_instruction_set(
        tmp_path / "plain", journal_of(*endings), PROVENANCE, SetOptions(link_videos=False)
    )
    assert not (tmp_path / "plain/videos").exists()


def test_what_is_published_has_no_secret_no_path_and_no_markup_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEACHER_API_KEY", KEY)
    provenance = TeacherProvenance(
        teacher=f"/home/me/models/qwen {EVIL}",
        prompt=f"{PROMPT}\n```\n{EVIL}\n{KEY}",
        prompt_sha="cd" * 32,
        parameters={"folder": "/home/me/models/qwen", "key": KEY, "evil": f"```{EVIL}"},
    )
    options = SetOptions(
        facts={"verifier": f"/home/me/verifier {KEY}", EVIL: EVIL},
        tables=[Table(f"sample {EVIL}", ("set", "clips"), (("/home/me/data/egoschema", EVIL),))],
    )
    evil = clip(8, scenario=EVIL, reference=EVIL, licence=EVIL, media="/home/me/v/8.mp4")
    hostile = Draft(steps=(Step(EVIL), Step("The " + "z" * 25 + " rolls")))
    endings = [*journal(), accepted(evil, hostile), accepted(clip(7, scenario="b"), hostile)]
    write_instruction_set(tmp_path, journal_of(*endings), provenance, options)
    for name in ("README.md", "report.md", "bias.html", "train.jsonl", "val.jsonl", ".gitignore"):
        text = (tmp_path / name).read_text()
        for private in (KEY, "/home/me", str(tmp_path), "/data/ego4d"):
            assert private not in text, name
        if not name.endswith("jsonl"):
            outside_code = re.sub(r"(?s)\n```json\n.*?\n```\n|(`+).*?[^`]\1(?!`)", "", text)
            assert "<img" not in outside_code, name
            if name.endswith("md"):
                assert "](javascript" not in outside_code.replace("\\](", ""), name
    card = (tmp_path / "README.md").read_text()
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front)["configs"][0]["data_files"][0] == {
        "split": "train", "path": "train.jsonl"
    }  # fmt: skip
    assert "Second, predict \\*what\\* follows." in body
    for line in ("/videos/", "/rejected.jsonl", "/training.yaml", "/review/", "/reviews/"):
        assert line in (tmp_path / ".gitignore").read_text().splitlines()


def test_a_set_without_a_teacher_names_the_terms_of_the_annotations(tmp_path: Path) -> None:
    write_instruction_set(
        tmp_path, journal_of(accepted(clip())), TeacherProvenance(teacher="continuation")
    )
    card = (tmp_path / "README.md").read_text()
    assert "the texts come from continuation" in card
    assert "made from the sources' annotations" in card
    assert "A model should not be judged" not in card


@pytest.mark.parametrize("endings", [journal(), journal()[:2], journal()[4:]])
def test_hugging_face_datasets_load_the_folder(
    tmp_path: Path, endings: list[Ending], monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "set"
    summary = write_instruction_set(folder, journal_of(*endings), PROVENANCE)
    if not summary.num_rows:
        assert rows_of(folder / "train.jsonl") == []
        return
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {name: len(rows) for name, rows in loaded.items()} == dict(summary.num_rows)
    for name, rows in loaded.items():
        # Arrow takes a column of times for times, and writes them with a blank as text.
        written = rows_of(folder / f"{name}.jsonl")
        times = {"created": CREATED.replace("T", " ").removesuffix("Z")}
        assert list(rows) == [row | times for row in written]
        assert rows.features["predictions"].feature["confidence"].dtype == "float64"


def test_texts_of_a_set_survive_reading_as_they_were(tmp_path: Path) -> None:
    texts = ["a\u2028b", "z\u00fcrich \U0001f600", "tab\tand \x1b[0m", '"quoted" \\ back']
    endings = [
        accepted(
            clip(number),
            Draft(steps=(Step(text),), predictions=(Prediction(text, text, 0.123456789),)),
        )
        for number, text in enumerate(texts)
    ]
    write_instruction_set(tmp_path, journal_of(*endings), PROVENANCE)
    assert [row["causal_explanation"] for row in rows_of(tmp_path / "train.jsonl")] == [
        [text] for text in texts
    ]
    config = CorpusConfig(reader="causal_vid_instruct", root=str(tmp_path), media_dir="/data")
    responses = [example.response for example in read_corpus(config)]
    assert responses[::2] == [f"1. {text}" for text in texts]
    assert DRAFT.steps[0].text not in responses


@pytest.mark.slow
@linux_only
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    def ended() -> Iterator[Ending]:
        for number in range(20_000):
            one = clip(number, split="train" if number % 50 else "val", scenario=f"s{number}")
            steps = tuple(Step(f"Item {number + k} rolls to item {number}.") for k in range(4))
            yield accepted(one, Draft(steps=steps, predictions=DRAFT.predictions))

    def write() -> None:
        write_instruction_set(tmp_path, ended, PROVENANCE)

    assert peak_of(write) < 24 * 2**20
    assert (tmp_path / "train.jsonl").stat().st_size > 16 * 2**20
