"""The index over many shards; verify, repair, stats and garbage collection."""

import json
import os
import time
from pathlib import Path

import pytest
from test_feature_store import (
    assert_equal,
    filled_store,
    key_of,
    make_tokens,
    open_store,
    shards_of,
)

from vidreason.store import feature_index
from vidreason.store.feature_index import FeatureIndex
from vidreason.store.feature_store import FeatureKey
from vidreason.store.maintenance import find_garbage, repair, store_stats, verify
from vidreason.store.shards import FeatureStoreError, read_header
from vidreason.store.sorted_table import list_tables


def write_shards(folder: Path, count: int, first: int = 0) -> None:
    store = open_store(folder)
    for seed in range(first, first + count):
        store.put(key_of(f"{seed}"), make_tokens(seed))
        store.flush()


def assert_holds(folder: Path, count: int) -> None:
    store = open_store(folder)
    for seed in range(count):
        assert_equal(store.get(key_of(f"{seed}")), make_tokens(seed))
    assert key_of(f"{count}") not in store


def segments_of(folder: Path) -> list[Path]:
    return sorted((folder / "index").glob("*.index"))


def test_a_segment_spares_reading_the_headers_it_covers(tmp_path, monkeypatch):
    write_shards(tmp_path, 5)
    assert not FeatureIndex(tmp_path).cover()  # too few
    assert FeatureIndex(tmp_path).cover(5)
    write_shards(tmp_path, 2, first=5)
    read: list[str] = []
    real = feature_index.read_header
    monkeypatch.setattr(
        feature_index, "read_header", lambda path: (read.append(path.name), real(path))[1]
    )
    index = FeatureIndex(tmp_path)
    assert len(read) == 2
    assert index.num_entries == 7
    assert_holds(tmp_path, 7)
    assert verify(tmp_path).is_clean


def test_segments_are_merged_when_they_would_double(tmp_path):
    for number in range(12):
        write_shards(tmp_path, 1, first=number)
        assert FeatureIndex(tmp_path).cover(1)
        assert_holds(tmp_path, number + 1)
    current, superseded = list_tables(tmp_path / "index", ".index")
    assert len(current) <= 4
    assert sum(map(len, current.values())) == 12
    assert len(current) + len(superseded) == len(segments_of(tmp_path))
    assert FeatureIndex(tmp_path).cover(0)
    assert len(list_tables(tmp_path / "index", ".index")[0]) == 1
    assert not FeatureIndex(tmp_path).cover(0)
    assert_holds(tmp_path, 12)
    assert verify(tmp_path).is_clean


def test_two_processes_that_cover_at_once_do_no_harm(tmp_path):
    write_shards(tmp_path, 3)
    first, second = FeatureIndex(tmp_path), FeatureIndex(tmp_path)
    assert first.cover(1)
    # As if it had begun before the first one was done.
    feature_index.write_segment(tmp_path / "index" / "second.index", second._fresh)
    assert len(segments_of(tmp_path)) == 2
    assert_holds(tmp_path, 3)
    assert verify(tmp_path).is_clean
    write_shards(tmp_path, 1, first=3)
    assert FeatureIndex(tmp_path).cover(0)
    (current,) = list_tables(tmp_path / "index", ".index")[0].values()
    assert sorted(name for name, _ in current.info["shards"]) == [
        path.name for path in shards_of(tmp_path)
    ]
    assert len(current) == 4
    assert_holds(tmp_path, 4)


def test_a_segment_forgets_shards_that_were_removed(tmp_path):
    write_shards(tmp_path, 4)
    assert FeatureIndex(tmp_path).cover(1)
    doomed = shards_of(tmp_path)[0]
    (key,) = [bytes(key) for key in read_header(doomed).keys]
    open_before = open_store(tmp_path)
    doomed.unlink()
    assert FeatureIndex(tmp_path).find(key) is None
    assert FeatureIndex(tmp_path).num_entries == 3
    assert sum(open_before.get(key_of(f"{seed}")) is None for seed in range(4)) == 1
    assert FeatureIndex(tmp_path).cover(0)
    (current,) = list_tables(tmp_path / "index", ".index")[0].values()
    assert len(current) == 3
    assert verify(tmp_path).is_clean


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_segment_is_found_and_repaired(tmp_path, damage):
    write_shards(tmp_path, 3)
    assert FeatureIndex(tmp_path).cover(1)
    (segment,) = segments_of(tmp_path)
    content = bytearray(segment.read_bytes())
    if damage == "cut":
        segment.write_bytes(content[:-1])
        assert_holds(tmp_path, 3)  # by the shards' headers
    else:
        content[-20] ^= 1
        segment.write_bytes(content)
    verdict = verify(tmp_path)
    assert not verdict.is_clean
    assert verdict.damaged_tables == [str(segment)]
    repair(tmp_path, verdict)
    assert verify(tmp_path).is_clean
    assert_holds(tmp_path, 3)


def test_a_segment_that_disagrees_with_its_shards_is_found(tmp_path):
    write_shards(tmp_path, 3)
    index = FeatureIndex(tmp_path)
    rows = index._fresh[0].table.rows
    rows["offset"][1] += 8
    feature_index.write_segment(tmp_path / "index" / "wrong.index", index._fresh)
    verdict = verify(tmp_path)
    assert verdict.num_entries == 3
    assert "disagrees with shard" in verdict.damage[0]
    repair(tmp_path, verdict)
    assert verify(tmp_path).is_clean


def test_repair_keeps_the_sound_entries_of_a_damaged_shard(tmp_path):
    shard = filled_store(tmp_path, "a", "b", "c")
    assert verify(tmp_path).num_entries == 3
    header = read_header(shard)
    content = bytearray(shard.read_bytes())
    content[int(header.offsets[1]) + 40] ^= 1
    shard.write_bytes(content)
    verdict = verify(tmp_path)
    assert (verdict.num_shards, verdict.num_entries) == (1, 2)
    assert shard.name in verdict.damage[0]
    assert "1 entries are damaged" in verdict.damage[0]
    with pytest.raises(FeatureStoreError, match="repair=true"):
        open_store(tmp_path).get(key_of("b"))
    assert repair(tmp_path, verdict) == 2
    assert verify(tmp_path).is_clean
    store = open_store(tmp_path)
    assert_equal(store.get(key_of("a")), make_tokens(0))
    assert store.get(key_of("b")) is None
    assert_equal(store.get(key_of("c")), make_tokens(2))


def test_repair_sets_a_shard_without_a_header_aside(tmp_path):
    shard = filled_store(tmp_path, "a")
    shard.write_bytes(shard.read_bytes()[:20])
    verdict = verify(tmp_path)
    assert verdict.damaged_shards == [shard.name]
    assert repair(tmp_path, verdict) == 0
    assert verify(tmp_path).is_clean
    assert [path.name for path in shards_of(tmp_path)] == [f"{shard.name}.damaged"]
    assert open_store(tmp_path).get(key_of("a")) is None


def test_unfinished_files_are_listed_and_harm_nothing(tmp_path):
    shard = filled_store(tmp_path, "a")
    left = shard.with_name("killed.safetensors.tmp")
    left.write_bytes(b"half")
    verdict = verify(tmp_path)
    assert verdict.is_clean
    assert verdict.unfinished == [str(left)]


def test_stats_count_by_perceiver_and_number_type(tmp_path):
    for dtype in ("float32", "int8"):
        store = open_store(tmp_path, dtype=dtype)
        for video in ("a", "b"):
            store.put(FeatureKey(video, None, None, "first"), make_tokens(0))
        store.flush()
    store.put(FeatureKey("a", None, None, "second"), make_tokens(0, num_objects=1))
    names = {"video_encoder": {"name": "viclip"}, "segmenter": {"name": "custom"}}
    store.describe("second", names | {"use_objects": True})
    store.flush()
    rows = store_stats(tmp_path)
    assert [(row.fingerprint, row.dtype) for row in rows] == [
        ("first", "float32"),
        ("first", "int8"),
        ("second", "int8"),
    ]
    assert [(row.num_shards, row.num_entries, row.num_tokens) for row in rows] == [
        (1, 2, 10),
        (1, 2, 10),
        (1, 1, 3),
    ]
    assert [row.description for row in rows] == ["", "", "viclip, custom"]
    assert rows[0].num_bytes > rows[1].num_bytes


def test_garbage_is_what_no_perceiver_wants_and_what_is_old(tmp_path):
    store = open_store(tmp_path)
    for perceiver in ("wanted", "other", "unwanted"):
        store.put(FeatureKey("a", None, None, perceiver), make_tokens(0))
    store.flush()
    for number in range(2):
        video = tmp_path / f"{number}.mp4"
        video.write_bytes(str(number).encode())
        store.media.content_hash(str(video))
        assert store.media.cover(1)
    store.index.cover(1)
    write_shards(tmp_path, 4)
    assert FeatureIndex(tmp_path).cover(0)
    unfinished = tmp_path / "shards" / "killed.safetensors.tmp"
    unfinished.write_bytes(b"half")
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())

    keep = {"wanted", "oth", "perceiver"}
    young = find_garbage(tmp_path, keep, older_than_seconds=3600)
    assert [garbage.why for garbage in young] == ["of the perceiver unwanted"]
    old = find_garbage(tmp_path, keep, older_than_seconds=0)
    assert sorted(before) == sorted(path for path in tmp_path.rglob("*") if path.is_file())
    kinds = sorted((garbage.why, garbage.path.suffix) for garbage in old)
    assert kinds == [
        ("of the perceiver unwanted", ".safetensors"),
        ("superseded", ".index"),
        ("superseded", ".jsonl"),
        ("superseded", ".table"),
        ("unfinished", ".tmp"),
    ]
    for garbage in old:
        garbage.path.unlink()
    assert verify(tmp_path).is_clean
    fresh = open_store(tmp_path)
    assert FeatureKey("a", None, None, "wanted") in fresh
    assert FeatureKey("a", None, None, "other") in fresh
    assert FeatureKey("a", None, None, "unwanted") not in fresh
    for number in range(2):
        (tmp_path / f"{number}.mp4").unlink()
        assert fresh.media.recorded(str(tmp_path / f"{number}.mp4")) is not None


def test_what_was_superseded_just_now_is_still_searched_by_others(tmp_path):
    write_shards(tmp_path, 1)
    assert FeatureIndex(tmp_path).cover(1)
    (old,) = segments_of(tmp_path)
    long_ago = time.time() - 1e6
    os.utime(old, (long_ago, long_ago))
    write_shards(tmp_path, 1, first=1)
    assert FeatureIndex(tmp_path).cover(1)
    assert find_garbage(tmp_path, {"perceiver"}, older_than_seconds=3600) == []
    assert [each.path for each in find_garbage(tmp_path, {"perceiver"}, older_than_seconds=0)] == [
        old
    ]


def test_garbage_collection_wants_to_know_what_to_keep(tmp_path):
    with pytest.raises(ValueError, match="keep: empty"):
        find_garbage(tmp_path, set(), older_than_seconds=0)


def test_a_description_is_written_once_for_each_fingerprint(tmp_path):
    store = open_store(tmp_path)
    store.describe("abc", {"a": 1})
    store.describe("abc", {"a": 2})
    (file,) = (tmp_path / "perceivers").iterdir()
    assert (file.name, json.loads(file.read_text())) == ("abc.json", {"a": 1})
