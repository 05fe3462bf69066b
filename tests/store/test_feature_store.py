import os
import pickle
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from vidreason.perception.visual_tokens import CLIP_TOKEN, OBJECT_TOKEN, MaskRuns, VisualTokens
from vidreason.store.feature_store import FeatureStore, StoreConfig, feature_key
from vidreason.store.shards import FeatureStoreError


def make_tokens(seed: int, num_clips: int = 2, num_objects: int = 3, width: int = 5):
    generator = torch.Generator().manual_seed(seed)
    count = num_clips + num_objects
    runs = [MaskRuns(size=[4, 6], counts=[0, place, 24 - place]) for place in range(num_objects)]
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


def open_store(folder: Path, **changes) -> FeatureStore:
    return FeatureStore(StoreConfig(path=str(folder), **({"dtype": "float32"} | changes)))


def shards_of(folder: Path) -> list[Path]:
    return sorted((folder / "shards").iterdir())


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
    assert store.get("key") is None
    assert_equal(store.put("key", tokens), tokens)
    assert_equal(store.get("key"), tokens)
    assert_equal(store.put("other", make_tokens(9)), make_tokens(9))
    store.flush()
    assert_equal(store.get("key"), tokens)
    assert_equal(open_store(tmp_path).get("key"), tokens)
    assert_equal(open_store(tmp_path).get("other"), make_tokens(9))


def test_a_bfloat16_store_gives_the_same_numbers_when_putting_and_getting(tmp_path):
    store = open_store(tmp_path, dtype="bfloat16")
    tokens = make_tokens(0)
    put = store.put("key", tokens)
    waiting = store.get("key")
    store.flush()
    assert put.features.dtype == torch.float32
    assert torch.equal(put.features, tokens.features.bfloat16().float())
    assert_equal(waiting, put)
    assert_equal(open_store(tmp_path, dtype="bfloat16").get("key"), put)


def test_number_types_do_not_mix(tmp_path):
    store = open_store(tmp_path, dtype="bfloat16")
    store.put("key", make_tokens(0))
    store.flush()
    assert open_store(tmp_path).get("key") is None


def test_entries_of_several_widths_may_be_put(tmp_path):
    store = open_store(tmp_path)
    for width in (3, 4, 3):
        store.put(f"width {width}", make_tokens(width, width=width))
    store.flush()
    fresh = open_store(tmp_path)
    for width in (3, 4):
        assert_equal(fresh.get(f"width {width}"), make_tokens(width, width=width))


def test_readers_see_what_others_add_later(tmp_path):
    writer, reader = open_store(tmp_path), open_store(tmp_path)
    for seed in range(3):
        assert f"{seed}" not in reader
        writer.put(f"{seed}", make_tokens(seed))
        assert f"{seed}" not in reader
        writer.flush()
        assert_equal(reader.get(f"{seed}"), make_tokens(seed))
    assert reader.num_entries == 3


def test_two_stores_of_one_process_do_not_overwrite_each_other(tmp_path):
    for seed in range(4):
        store = open_store(tmp_path)
        store.put(f"{seed}", make_tokens(seed))
        store.flush()
    assert all(f"{seed}" in open_store(tmp_path) for seed in range(4))


def test_a_known_key_is_not_written_again(tmp_path):
    for _ in range(2):
        store = open_store(tmp_path)
        store.put("key", make_tokens(0))
        store.flush()
    assert len(shards_of(tmp_path)) == 1


def test_shards_are_written_by_size_and_by_waiting_time(tmp_path):
    large = open_store(tmp_path / "large", shard_megabytes=1)
    large.put("small", make_tokens(0))
    assert not (tmp_path / "large" / "shards").exists()
    large.put("big", make_tokens(1, width=2**16))
    assert len(shards_of(tmp_path / "large")) == 1 + 1  # the first one because the width changed
    impatient = open_store(tmp_path / "impatient", flush_seconds=0)
    impatient.put("key", make_tokens(0))
    assert len(shards_of(tmp_path / "impatient")) == 1


def test_waiting_entries_are_written_when_the_store_is_dropped(tmp_path):
    store = open_store(tmp_path)
    store.put("key", make_tokens(0))
    del store
    assert_equal(open_store(tmp_path).get("key"), make_tokens(0))


def test_a_pickled_store_reads_the_same_folder_but_does_not_own_what_waits(tmp_path):
    store = open_store(tmp_path)
    store.put("on disk", make_tokens(0))
    store.flush()
    store.put("waiting", make_tokens(1))
    copy = pickle.loads(pickle.dumps(store))
    assert_equal(copy.get("on disk"), make_tokens(0))
    assert copy.get("waiting") is None


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12, of threads
def test_a_forked_child_writes_its_own_entries_only(tmp_path):
    store = open_store(tmp_path)
    store.put("parent", make_tokens(0))
    child = os.fork()
    if child == 0:
        store.put("child", make_tokens(1))
        store.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    fresh = open_store(tmp_path)
    assert "child" in fresh
    assert "parent" not in fresh
    store.flush()
    assert_equal(fresh.get("parent"), make_tokens(0))


def test_deleted_shards_are_misses_and_other_copies_stay(tmp_path):
    first, second = open_store(tmp_path), open_store(tmp_path)
    first.put("shared", make_tokens(0))
    first.put("alone", make_tokens(1))
    second.put("shared", make_tokens(0))
    first.flush()
    doomed = shards_of(tmp_path)[0]
    second.flush()
    reader = open_store(tmp_path)
    assert "alone" in reader
    doomed.unlink()
    reader.refresh()
    assert "alone" not in reader
    assert_equal(reader.get("shared"), make_tokens(0))


@pytest.mark.parametrize("kept", [-1, 200, 4, 0])
def test_a_cut_off_shard_is_an_error_that_names_it_and_the_remedy(tmp_path, kept):
    store = open_store(tmp_path)
    store.put("key", make_tokens(0))
    store.flush()
    (shard,) = shards_of(tmp_path)
    shard.write_bytes(shard.read_bytes()[:kept])
    with pytest.raises(FeatureStoreError, match=rf"{shard.name}.*damaged.*Delete the file"):
        open_store(tmp_path).get("key")


def test_a_foreign_file_among_the_shards_is_an_error(tmp_path):
    from safetensors.torch import save_file

    (tmp_path / "shards").mkdir()
    save_file({"a": torch.zeros(2)}, tmp_path / "shards" / "foreign.safetensors")
    with pytest.raises(FeatureStoreError, match=r"foreign\.safetensors.*format None"):
        open_store(tmp_path).get("key")


KILLED_WRITERS = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_feature_store import make_tokens, open_store

def write_forever(folder, name):
    store, seed = open_store(folder), 0
    with (folder / f"{name}.flushed").open("w") as flushed:
        while True:
            store.put(f"{name}-{seed}", make_tokens(seed, width=20_000))
            seed += 1
            if seed % 3 == 0:
                store.flush()
                print(seed, file=flushed, flush=True)

folder = Path(sys.argv[2])
for round_number in range(int(sys.argv[3])):
    child = os.fork()  # a fork and not a program, because importing torch takes seconds
    if child == 0:
        write_forever(folder, str(round_number))
    while not (folder / f"{round_number}.flushed").exists():
        time.sleep(0.001)
    time.sleep(0.0137 * round_number)
    os.kill(child, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
"""


def test_killing_writers_leaves_no_torn_entry(tmp_path):
    num_rounds = 8
    arguments = [str(Path(__file__).parent), str(tmp_path), str(num_rounds)]
    subprocess.run([sys.executable, "-c", KILLED_WRITERS, *arguments], check=True)
    store = open_store(tmp_path)
    for name in range(num_rounds):
        num_flushed = int(((tmp_path / f"{name}.flushed").read_text().split() or [0])[-1])
        assert f"{name}-{num_flushed + 3}" not in store  # at most one shard was flushed unsaid
        for seed in range(num_flushed + 3):
            tokens = store.get(f"{name}-{seed}")
            assert tokens is not None or seed >= num_flushed
            if tokens is not None:
                assert_equal(tokens, make_tokens(seed, width=20_000))
    assert store.num_entries > 0


def test_what_a_killed_writer_left_half_written_is_ignored(tmp_path):
    store = open_store(tmp_path)
    store.put("key", make_tokens(0))
    store.flush()
    (shard,) = shards_of(tmp_path)
    (shard.parent / "killed-000000.safetensors.tmp").write_bytes(shard.read_bytes()[:50])
    assert_equal(open_store(tmp_path).get("key"), make_tokens(0))


def test_keys_tell_contents_spans_and_perceivers_apart():
    keys = [
        feature_key("video", None, None, "perceiver"),
        feature_key("other", None, None, "perceiver"),
        feature_key("video", 0.0, None, "perceiver"),
        feature_key("video", 0.0, 2.5, "perceiver"),
        feature_key("video", None, 2.5, "perceiver"),
        feature_key("video", None, None, "other"),
    ]
    assert len(set(keys)) == len(keys)
    assert feature_key("video", 1, None, "perceiver") == feature_key(
        "video", 1.0, None, "perceiver"
    )


def test_file_hashes_are_of_the_content_and_remembered(tmp_path):
    store = open_store(tmp_path / "store")
    video = tmp_path / "video.mp4"
    video.write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert store.hash_video(str(video)) == expected
    status = video.stat()

    # Same path, size and time: the content is not read again, by this process or another.
    video.write_bytes(b"xyz")
    os.utime(video, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert store.hash_video(str(video)) == expected
    assert open_store(tmp_path / "store").hash_video(str(video)) == expected
    assert open_store(tmp_path / "elsewhere").hash_video(str(video)) != expected

    os.utime(video, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert store.hash_video(str(video)) != expected


def test_a_hash_line_cut_by_a_kill_is_ignored(tmp_path):
    video = tmp_path / "video.mp4"
    video.write_bytes(b"abc")
    expected = open_store(tmp_path).hash_video(str(video))
    (cache,) = (tmp_path / "file_hashes").iterdir()
    cache.write_bytes(cache.read_bytes()[:-9])
    assert open_store(tmp_path).hash_video(str(video)) == expected
