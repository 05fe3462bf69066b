import json
import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from tiny_corpora import examples_in

from vidreason.example import Example
from vidreason.microworld.corpora import WorldConfig, rollout_of_video, split_rollouts, write_world
from vidreason.microworld.instructions import instructions
from vidreason.microworld.language import next_sentence
from vidreason.microworld.simulation import NEXT_KINDS, Rollout
from vidreason.reasoning.predictions import parse_predictions

CORPORA = ("webvid", "nextqa", "activitynet_qa", "causal_vid_instruct")
SIZES = {"train": 36, "val": 4, "test": 18}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    write_world(root, WorldConfig(num_videos=SIZES))
    return root


def read(world: Path, split: str) -> list[Example]:
    return [example for corpus in CORPORA for example in examples_in(corpus, world / corpus, split)]


def test_every_reader_reads_what_was_written_and_every_video_is_there(world: Path):
    for split, number in SIZES.items():
        examples = read(world, split)
        assert {example.corpus for example in examples} == {
            "webvid",
            "nextqa",
            "activitynet_qa",
            "causal_vid_instruct",
        }
        assert len({e.video_id for e in examples if e.corpus == "webvid"}) == number
        assert all(Path(example.media).is_file() for example in examples)
        assert len({example.id for example in examples}) == len(examples)


def test_splits_share_no_video_and_no_story(world: Path):
    media: dict[str, set[bytes]] = {}
    stories: dict[str, set[str]] = {}
    for split in SIZES:
        examples = [e for e in read(world, split) if e.corpus == "webvid"]
        media[split] = {Path(example.media).read_bytes() for example in examples}
        stories[split] = {example.video_id for example in examples}
        assert len(media[split]) == SIZES[split]
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        assert media[one].isdisjoint(media[other])
        assert stories[one].isdisjoint(stories[other])


def test_one_video_is_one_file_with_several_names(world: Path):
    by_video: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for example in read(world, "val"):
        status = Path(example.media).stat()
        by_video[example.video_id].add((status.st_dev, status.st_ino))
    assert all(len(files) == 1 for files in by_video.values())


def test_the_right_option_stands_everywhere_equally_often(world: Path):
    examples = [e for e in read(world, "train") if e.options]
    positions = Counter(example.answer_index for example in examples)
    assert set(positions) == set(range(5))
    assert max(positions.values()) - min(positions.values()) <= 0.1 * len(examples)
    for example in examples:
        assert example.options[example.answer_index] == example.response


def test_predictions_read_back(world: Path):
    examples = examples_in("causal_vid_instruct", world / "causal_vid_instruct", "train")
    predictions = [e for e in examples if e.question_type == "prediction"]
    assert len(predictions) == SIZES["train"]
    for example in predictions:
        parsed = parse_predictions(example.response)
        assert parsed.unparsed == ""
        assert 1 <= len(parsed.items) <= 3
        assert all(0 <= item.confidence <= 1 for item in parsed.items)


def test_the_records_tell_the_outcome_and_what_else_might_happen(world: Path):
    path = world / "causal_vid_instruct" / "test.jsonl"
    records = [json.loads(row) for row in path.read_text().splitlines()]
    rollouts = split_rollouts("test", WorldConfig(num_videos=SIZES))
    assert [record["video_id"] for record in records] == list(rollouts)
    for record in records:
        rollout = rollout_of_video(record["video_id"])
        assert rollout == rollouts[record["video_id"]]
        text = next_sentence(rollout, rollout.next_event())
        assert record["outcome"]["text"] == text == record["predictions"][0]["text"]
        assert record["outcome"]["kind"] in NEXT_KINDS
        assert (record["outcome"]["kind"] == "nothing") == (rollout.next_event() is None)
        assert (record["outcome"]["seconds"] is None) == (rollout.next_event() is None)
        assert sum(future["probability"] for future in record["futures"]) == pytest.approx(1)
        assert text in {future["text"] for future in record["futures"]}


def test_pretraining_speaks_as_the_corpora_do(world: Path, rollouts: list[Rollout]):
    spoken = {prompt for _, prompt, _ in instructions(rollouts, random.Random(0))}
    first_lines = {prompt.splitlines()[0].split()[0] for prompt in spoken}
    read_lines = {e.prompt.splitlines()[0].split()[0] for e in read(world, "train")}
    assert read_lines <= first_lines


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match=r"num_videos: unknown splits \['dev'\]"):
        WorldConfig(num_videos={"dev": 1})


def test_the_nextqa_map_covers_all_splits(world: Path):
    known = json.loads((world / "nextqa" / "map_vid_vidorID.json").read_text())
    assert len(known) == sum(SIZES.values())
