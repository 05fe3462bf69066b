import errno
import itertools
import os
import pickle
import signal
import time
from dataclasses import fields, replace
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from vidreason.perception.visual_tokens import CLIP_TOKEN, OBJECT_TOKEN, MaskRuns, VisualTokens
from vidreason.store import feature_index, feature_store
from vidreason.store.feature_store import FeatureKey, FeatureStore, StoreConfig
from vidreason.store.shards import FeatureStoreError, read_header


def make_tokens(seed: int, num_clips: int = 2, num_objects: int = 3, width: int = 5):
    generator = torch.Generator().manual_seed(seed)
    count = num_clips + num_objects
    runs = [MaskRuns(size=[4, 6], counts=[0, number, 24 - number]) for number in range(num_objects)]
    return VisualTokens(
        features=torch.randn(count, width, generator=generator),
        kinds=torch.tensor([CLIP_TOKEN] * num_clips + [OBJECT_TOKEN] * num_objects).long(),
        spans=torch.rand(count, 2, generator=generator),
        boxes=torch.rand(count, 4, generator=generator),
        areas=torch.rand(count, generator=generator),
        track_ids=torch.tensor([-1] * num_clips + list(range(num_objects))).long(),
        masks=(None,) * num_clips + tuple(runs),
        duration_seconds=3.2 + seed,
    )


def assert_equal(left: VisualTokens | None, right: VisualTokens) -> None:
    assert left is not None
    for field in fields(VisualTokens):
        a, b = getattr(left, field.name), getattr(right, field.name)
        if isinstance(a, torch.Tensor):
            assert a.dtype == b.dtype, field.name
            assert torch.equal(a, b), field.name
        else:
            assert a == b, field.name


def key_of(name: str) -> FeatureKey:
    return FeatureKey(name, None, None, "perceiver")


def open_store(folder: Path, **changes) -> FeatureStore:
    return FeatureStore(StoreConfig(path=str(folder), **({"dtype": "float32"} | changes)))


def shards_of(folder: Path) -> list[Path]:
    return sorted((folder / "shards").iterdir())


def filled_store(folder: Path, *names: str) -> Path:
    """A store with one shard that holds an entry for each name; returns the shard."""
    store = open_store(folder)
    for seed, name in enumerate(names):
        store.put(key_of(name), make_tokens(seed))
    store.flush()
    (shard,) = shards_of(folder)
    return shard


@pytest.mark.parametrize(
    "tokens",
    [
        make_tokens(0),
        make_tokens(1, num_objects=0),
        make_tokens(2, num_clips=0, num_objects=0),
    ],
    ids=["objects", "no objects", "no tokens"],
)
def test_a_float32_store_gives_back_every_bit(tmp_path, tokens):
    store = open_store(tmp_path)
    assert store.get(key_of("key")) is None
    assert_equal(store.put(key_of("key"), tokens), tokens)
    assert_equal(store.get(key_of("key")), tokens)
    assert_equal(store.put(key_of("other"), make_tokens(9)), make_tokens(9))
    store.flush()
    assert_equal(store.get(key_of("key")), tokens)
    assert_equal(open_store(tmp_path).get(key_of("key")), tokens)
    assert_equal(open_store(tmp_path).get(key_of("other")), make_tokens(9))


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_a_rounding_store_gives_the_same_numbers_when_putting_and_getting(tmp_path, dtype):
    store = open_store(tmp_path, dtype=dtype)
    tokens = make_tokens(0)
    put = store.put(key_of("key"), tokens)
    waiting = store.get(key_of("key"))
    store.flush()
    assert put.features.dtype == torch.float32
    assert_equal(waiting, put)
    assert_equal(open_store(tmp_path, dtype=dtype).get(key_of("key")), put)
    assert_equal(replace(put, features=tokens.features), tokens)  # nothing else is rounded
    if dtype == "bfloat16":
        assert torch.equal(put.features, tokens.features.bfloat16().float())


def test_number_types_do_not_mix(tmp_path):
    for dtype in ("bfloat16", "int8"):
        store = open_store(tmp_path, dtype=dtype)
        store.put(key_of("key"), make_tokens(0))
        store.flush()
    assert open_store(tmp_path).get(key_of("key")) is None


def test_entries_of_several_widths_and_perceivers_may_be_put(tmp_path):
    store = open_store(tmp_path)
    for width in (3, 4, 3):
        for perceiver in ("a", "b"):
            store.put(FeatureKey(f"{width}", None, None, perceiver), make_tokens(1, width=width))
    store.flush()
    fresh = open_store(tmp_path)
    for width in (3, 4):
        for perceiver in ("a", "b"):
            key = FeatureKey(f"{width}", None, None, perceiver)
            assert_equal(fresh.get(key), make_tokens(1, width=width))
    # A shard has one perceiver's entries, so that it can be removed with them.
    headers = [read_header(shard) for shard in shards_of(tmp_path)]
    assert sorted((header.fingerprint, len(header)) for header in headers) == [("a", 2), ("b", 2)]


def test_readers_see_what_others_add_later(tmp_path):
    writer, reader = open_store(tmp_path), open_store(tmp_path)
    for seed in range(3):
        assert key_of(f"{seed}") not in reader
        writer.put(key_of(f"{seed}"), make_tokens(seed))
        assert key_of(f"{seed}") not in reader
        writer.flush()
        assert_equal(reader.get(key_of(f"{seed}")), make_tokens(seed))
    assert reader.index.num_entries == 3


def test_two_stores_of_one_process_do_not_overwrite_each_other(tmp_path):
    for seed in range(4):
        store = open_store(tmp_path)
        store.put(key_of(f"{seed}"), make_tokens(seed))
        store.flush()
    assert all(key_of(f"{seed}") in open_store(tmp_path) for seed in range(4))


def test_a_known_key_is_not_written_again(tmp_path):
    for _ in range(2):
        store = open_store(tmp_path)
        store.put(key_of("key"), make_tokens(0))
        store.flush()
    assert len(shards_of(tmp_path)) == 1


def test_shards_are_written_by_size_and_by_waiting_time(tmp_path):
    large = open_store(tmp_path / "large", shard_megabytes=1)
    large.put(key_of("small"), make_tokens(0))
    assert not (tmp_path / "large" / "shards").exists()
    large.put(key_of("big"), make_tokens(1, width=2**16))
    assert len(shards_of(tmp_path / "large")) == 1
    impatient = open_store(tmp_path / "impatient", flush_seconds=0)
    impatient.put(key_of("key"), make_tokens(0))
    assert len(shards_of(tmp_path / "impatient")) == 1


@pytest.mark.parametrize("shards_before", [3, 40])
def test_a_put_that_writes_nothing_costs_the_same_however_many_shards_there_are(
    tmp_path, monkeypatch, shards_before
):
    for number in range(shards_before):
        filled = open_store(tmp_path)
        filled.put(key_of(f"before {number}"), make_tokens(number))
        filled.flush()
    store, work = open_store(tmp_path), []
    monkeypatch.setattr(feature_index, "_segment_of", lambda *_: work.append("sorted"))
    monkeypatch.setattr(feature_index, "read_header", lambda *_: work.append("read"))
    monkeypatch.setattr(feature_index.os, "scandir", lambda *_: work.append("listed"))
    for number in range(50):
        store.put(key_of(f"{number}"), make_tokens(0))
    assert store.num_waiting == 50
    assert work == []


def test_the_work_for_new_shards_does_not_grow_with_those_before(tmp_path, monkeypatch):
    sorted_rows, read = [], []
    make, header = feature_index.table_of, feature_index.read_header
    monkeypatch.setattr(
        feature_index,
        "table_of",
        lambda keys, rows: sorted_rows.append(len(rows)) or make(keys, rows),
    )
    monkeypatch.setattr(
        feature_index, "read_header", lambda path: read.append(path) or header(path)
    )
    store = open_store(tmp_path, flush_seconds=0)  # a shard an entry
    for number in range(64):
        store.put(key_of(f"{number}"), make_tokens(number % 4))
    assert len(read) == 64
    assert sum(sorted_rows) <= 64 * 7  # each entry once for each doubling, not once for each shard
    assert store.index.num_entries == 64
    for number in range(64):
        assert_equal(store.get(key_of(f"{number}")), make_tokens(number % 4))
    removed = shards_of(tmp_path)[0]
    removed.unlink()
    store.index.refresh()
    assert store.index.num_entries == 63
    assert len(read) == 64  # what is known of the others is kept


def test_waiting_entries_are_written_when_the_store_is_dropped(tmp_path):
    store = open_store(tmp_path)
    store.put(key_of("key"), make_tokens(0))
    del store
    assert_equal(open_store(tmp_path).get(key_of("key")), make_tokens(0))


def test_a_pickled_store_reads_the_same_folder_but_does_not_own_what_waits(tmp_path):
    store = open_store(tmp_path)
    store.put(key_of("on disk"), make_tokens(0))
    store.flush()
    store.put(key_of("waiting"), make_tokens(1))
    copy = pickle.loads(pickle.dumps(store))
    assert_equal(copy.get(key_of("on disk")), make_tokens(0))
    assert copy.get(key_of("waiting")) is None


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12, of threads
def test_a_forked_child_writes_its_own_entries_only(tmp_path):
    store = open_store(tmp_path)
    store.put(key_of("parent"), make_tokens(0))
    child = os.fork()
    if child == 0:
        store.put(key_of("child"), make_tokens(1))
        store.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    fresh = open_store(tmp_path)
    assert key_of("child") in fresh
    assert key_of("parent") not in fresh
    store.flush()
    assert_equal(fresh.get(key_of("parent")), make_tokens(0))


def test_deleted_shards_are_misses_and_other_copies_stay(tmp_path):
    first, second = open_store(tmp_path), open_store(tmp_path)
    first.put(key_of("shared"), make_tokens(0))
    first.put(key_of("alone"), make_tokens(1))
    second.put(key_of("shared"), make_tokens(0))
    first.flush()
    doomed = shards_of(tmp_path)[0]
    # Without looking at the folder: as two processes that wrote at once.
    second.index.include(second._writer.flush())
    reader = open_store(tmp_path)
    assert key_of("alone") in reader
    doomed.unlink()
    assert reader.get(key_of("alone")) is None
    assert key_of("alone") not in reader
    assert_equal(reader.get(key_of("shared")), make_tokens(0))


def cuts_of(shard: Path) -> dict[str, int]:
    """Offsets at which a shard is cut: at the border of every part of it, and within each."""
    header = read_header(shard)
    size, start = shard.stat().st_size, int(header.offsets[0])
    length = int.from_bytes(shard.read_bytes()[:8], "little")
    return {
        "nothing left": 0,
        "in the header's length": 4,
        "before the header": 8,
        "in the header": 8 + length // 2,
        "after the header": 8 + length,
        "in the offsets": 8 + length + 3,
        "in the keys": start - 5,
        "before the first entry": start,
        "in the first entry": start + 30,
        "between two entries": int(header.offsets[1]),
        "in the last entry": size - 100,
        "before the last byte": size - 1,
    }


def test_a_shard_cut_anywhere_is_an_error_that_names_it_and_the_remedy(tmp_path):
    shard = filled_store(tmp_path, "a", "b")
    whole = shard.read_bytes()
    for where, kept in cuts_of(shard).items():
        shard.write_bytes(whole[:kept])
        with pytest.raises(FeatureStoreError, match=rf"{shard.name}.*damaged.*repair=true"):
            open_store(tmp_path).get(key_of("a"))
        shard.write_bytes(whole)
        reader = open_store(tmp_path)  # has seen the shard whole
        os.truncate(shard, kept)
        tokens = None
        if where in ("between two entries", "in the last entry", "before the last byte"):
            tokens = reader.get(key_of("a"))  # what is left of it is sound
            assert_equal(tokens, make_tokens(0))
        with pytest.raises(FeatureStoreError, match=r"is damaged"):
            reader.get(key_of("b"))
        shard.write_bytes(whole)
    shard.write_bytes(whole + b"x")
    with pytest.raises(FeatureStoreError, match=rf"{len(whole) + 1} bytes, expected {len(whole)}"):
        open_store(tmp_path)


def test_no_changed_byte_of_a_shard_goes_unnoticed(tmp_path):
    shard = filled_store(tmp_path, "a")
    whole = shard.read_bytes()
    num_harmless = 0
    for offset in range(len(whole)):
        shard.write_bytes(whole[:offset] + bytes([whole[offset] ^ 0x41]) + whole[offset + 1 :])
        try:
            actual = open_store(tmp_path).get(key_of("a"))
        except FeatureStoreError:
            continue
        # Spaces behind the header, and names that only other tools look at.
        num_harmless += 1
        assert_equal(actual, make_tokens(0))
    assert num_harmless < len(whole) / 4


def test_bad_magic_is_an_error_and_a_foreign_file_too(tmp_path):
    from safetensors.torch import save_file

    shard = filled_store(tmp_path / "magic", "a")
    shard.write_bytes(shard.read_bytes().replace(b"vidreason-features-3", b"vidreason-features-9"))
    with pytest.raises(FeatureStoreError, match=r"format 'vidreason-features-9', expected"):
        open_store(tmp_path / "magic")
    (tmp_path / "shards").mkdir()
    save_file({"a": torch.zeros(2)}, tmp_path / "shards" / "foreign.safetensors")
    with pytest.raises(FeatureStoreError, match=r"foreign\.safetensors.*format None"):
        open_store(tmp_path)


def test_an_index_that_points_elsewhere_does_not_give_another_video(tmp_path):
    shard = filled_store(tmp_path, "a", "b")
    header = read_header(shard)
    store = open_store(tmp_path)
    first, second = (key_of(name).digest("float32") for name in ("a", "b"))
    location = store.index.find(first)
    assert location is not None
    store.index.find = lambda key: location if key == second else None
    assert location.offset == header.offsets[0]
    with pytest.raises(FeatureStoreError, match="the checksum of the entry"):
        store.get(key_of("b"))


def test_safetensors_reads_the_shards(tmp_path):
    from safetensors import safe_open

    shard = filled_store(tmp_path, "a", "b")
    with safe_open(shard, "np") as file:
        assert file.metadata()["format"] == "vidreason-features-3"
        assert file.metadata()["fingerprint"] == "perceiver"
        assert file.get_tensor("tokens").tolist() == [5, 5]
        assert file.get_slice("entries").get_shape() == [file.get_tensor("offsets")[-1]]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_an_error_that_loses_nothing(tmp_path, monkeypatch, call):
    store = open_store(tmp_path)
    store.put(key_of("a"), make_tokens(0))
    with monkeypatch.context() as patched:

        def full(*arguments):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patched.setattr(os, call, full)
        with pytest.raises(FeatureStoreError, match=r"No space left on device.*make room"):
            store.flush()
    assert shards_of(tmp_path) == []  # nothing half written either
    assert_equal(store.get(key_of("a")), make_tokens(0))
    store.flush()
    assert_equal(open_store(tmp_path).get(key_of("a")), make_tokens(0))


def write_forever(folder, name):
    """Put entry after entry, and say how many were surely flushed; in a process to be killed."""
    store = open_store(folder)
    with (folder / f"{name}.flushed").open("w") as flushed:
        for seed in itertools.count():
            store.put(key_of(f"{name}-{seed}"), make_tokens(seed, width=20_000))
            if seed % 3 == 2:
                store.flush()
                print(seed + 1, file=flushed, flush=True)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # the child only writes
def test_killing_writers_leaves_no_torn_entry(tmp_path):
    num_rounds = 8
    for name in range(num_rounds):
        child = get_context("fork").Process(target=write_forever, args=(tmp_path, name))
        child.start()
        flushed = tmp_path / f"{name}.flushed"
        while not flushed.exists() or flushed.stat().st_size == 0:
            time.sleep(0.001)
        time.sleep(0.0137 * name)
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL
    store = open_store(tmp_path)
    for name in range(num_rounds):
        num_flushed = int(((tmp_path / f"{name}.flushed").read_text().split() or [0])[-1])
        assert key_of(f"{name}-{num_flushed + 3}") not in store  # one shard was flushed unsaid
        for seed in range(num_flushed + 3):
            tokens = store.get(key_of(f"{name}-{seed}"))
            assert tokens is not None or seed >= num_flushed
            if tokens is not None:
                assert_equal(tokens, make_tokens(seed, width=20_000))
    assert store.index.num_entries > 0


def test_what_a_killed_writer_left_half_written_is_ignored(tmp_path):
    shard = filled_store(tmp_path, "key")
    (shard.parent / f"{shard.name}.killed.tmp").write_bytes(shard.read_bytes()[:50])
    assert_equal(open_store(tmp_path).get(key_of("key")), make_tokens(0))


def test_keys_tell_contents_spans_perceivers_and_number_types_apart():
    keys = [
        FeatureKey("video", None, None, "perceiver"),
        FeatureKey("other", None, None, "perceiver"),
        FeatureKey("video", 0.0, None, "perceiver"),
        FeatureKey("video", 0.0, 2.5, "perceiver"),
        FeatureKey("video", None, 2.5, "perceiver"),
        FeatureKey("video", None, None, "other"),
    ]
    digests = [key.digest(dtype) for key in keys for dtype in ("float32", "bfloat16", "int8")]
    assert len(set(digests)) == len(digests)
    assert {len(digest) for digest in digests} == {16}
    whole = FeatureKey("video", 1, None, "perceiver")
    assert whole.digest("int8") == replace_start(whole, 1.0).digest("int8")


def replace_start(key: FeatureKey, start_seconds: float) -> FeatureKey:
    return key._replace(start_seconds=start_seconds)


def test_in_a_store_that_may_not_be_written_what_is_perceived_is_not_kept(
    tmp_path, monkeypatch, caplog
):
    filled_store(tmp_path, "a")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(feature_store.os, "access", lambda *_: False)
    store = open_store(tmp_path, dtype="bfloat16")
    for _ in range(2):
        rounded = store.put(key_of("new"), make_tokens(1))
        assert torch.equal(rounded.features, make_tokens(1).features.bfloat16().float())
    store.describe("perceiver", {"a": 1})
    store.flush()
    assert store.num_waiting == 0
    assert sorted(tmp_path.rglob("*")) == before
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}/shards: this user may not write there: what is missing is perceived each "
        "time, and not stored"
    ]
    with pytest.raises(FeatureStoreError, match=r"store\.path: this user may not write into"):
        store.require_writable()
    assert_equal(open_store(tmp_path).get(key_of("a")), make_tokens(0))


def test_the_number_of_tokens_is_read_without_the_tokens(tmp_path):
    store = open_store(tmp_path)
    tokens = make_tokens(0, num_clips=2, num_objects=3)
    store.put(key_of("a"), tokens)
    assert (store.num_tokens(key_of("a")), store.num_tokens(key_of("b"))) == (5, None)  # waiting
    store.flush()
    other = open_store(tmp_path)
    assert (other.num_tokens(key_of("a")), other.num_tokens(key_of("b"))) == (5, None)
    store.put(key_of("b"), make_tokens(1, num_objects=0))
    store.flush()
    assert other.num_tokens(key_of("b")) == 2  # written by another process meanwhile
    for shard in shards_of(tmp_path):
        os.truncate(shard, read_header(shard).offsets[0] + 10)
    with pytest.raises(FeatureStoreError, match=r"damaged: the entry \w+ is cut off"):
        other.num_tokens(key_of("a"))
    for shard in shards_of(tmp_path):
        shard.unlink()
    assert other.num_tokens(key_of("a")) is None
