import copy
import dataclasses
import json
import os
import pickle
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_feature_store import make_tokens
from tiny_perceiver import tiny_encoder, tiny_segmenter
from torch.utils.data import DataLoader, Dataset

from vidreason.perception.models import build_video_encoder
from vidreason.perception.perceiver import PerceiverConfig, build_perceiver
from vidreason.perception.visual_tokens import CLIP_TOKEN, OBJECT_TOKEN
from vidreason.perception.weights import hash_weights
from vidreason.store.feature_store import FeatureStore, StoreConfig
from vidreason.store.visual_token_source import VisualTokenSource
from vidreason.video.reader import VideoReadError
from vidreason.video.sampling import SamplingConfig

PERCEIVER = PerceiverConfig(
    sampling=SamplingConfig(num_clips=2, frames_per_clip=2, num_key_frames=1),
    video_encoder=tiny_encoder(),
    segmenter=tiny_segmenter(points_per_side=2),
    max_object_share=1.0,
)


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("videos")
    paths = [str(folder / f"noise{seed}.mp4") for seed in range(3)]
    for seed, path in enumerate(paths):
        pictures = np.random.default_rng(seed).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
        with av.open(path, "w") as container:
            stream = container.add_stream("libx264", rate=5)
            stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
            for picture in pictures:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
    return paths


def open_source(folder, dtype="float32", **changes) -> VisualTokenSource:
    store = StoreConfig(path=str(folder) if folder else "", dtype=dtype)
    return VisualTokenSource(dataclasses.replace(PERCEIVER, **changes), store)


def test_with_and_without_a_store_the_numbers_are_the_same(tmp_path, videos):
    direct = build_perceiver(PERCEIVER).perceive(videos[0])
    without_store = open_source(None)(videos[0])
    source = open_source(tmp_path)
    fresh, again = source(videos[0]), source(videos[0])
    source.store.flush()
    later = open_source(tmp_path)
    stored = later(videos[0])
    for tokens in (without_store, fresh, again, stored):
        assert torch.equal(tokens.features, direct.features)
        assert torch.equal(tokens.spans, direct.spans)
        assert torch.equal(tokens.boxes, direct.boxes)
        assert tokens.masks == direct.masks
    assert source.num_perceived == 1
    assert later.num_perceived == 0


def test_a_bfloat16_store_rounds_a_fresh_video_like_a_stored_one(tmp_path, videos):
    fresh = open_source(tmp_path, dtype="bfloat16")(videos[0])
    stored = open_source(tmp_path, dtype="bfloat16")(videos[0])
    assert torch.equal(fresh.features, stored.features)
    assert torch.equal(fresh.features, open_source(None)(videos[0]).features.bfloat16().float())


def test_what_was_made_otherwise_is_perceived_anew(tmp_path, videos):
    open_source(tmp_path)(videos[0])  # dropped, hence written
    same, changed = open_source(tmp_path), open_source(tmp_path, objects_per_key_frame=1)
    same(videos[0])
    assert same.num_perceived == 0
    same(videos[0], 0.2, 0.8)
    same(videos[1])
    assert same.num_perceived == 2
    changed(videos[0])
    assert changed.num_perceived == 1


def test_a_copied_video_is_found_by_its_content(tmp_path, videos):
    source = open_source(tmp_path / "store")
    source(videos[0])
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(Path(videos[0]).read_bytes())
    source(str(copy))
    assert source.num_perceived == 1


@pytest.mark.parametrize("with_store", [True, False])
def test_a_missing_or_broken_video_is_a_read_error(tmp_path, with_store):
    source = open_source(tmp_path / "store" if with_store else None)
    with pytest.raises(VideoReadError, match=r"nothing\.mp4"):
        source(str(tmp_path / "nothing.mp4"))
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(VideoReadError, match=r"text\.mp4"):
        source(str(tmp_path / "text.mp4"))


def test_no_model_is_built_while_the_store_has_everything(tmp_path, videos, monkeypatch):
    open_source(tmp_path)(videos[0])
    source = open_source(tmp_path)

    def refuse(*arguments):
        raise AssertionError("the perceiver was built")

    monkeypatch.setattr("vidreason.store.visual_token_source.build_perceiver", refuse)
    source(videos[0])
    with pytest.raises(AssertionError, match="the perceiver was built"):
        source(videos[1])


def leaves(config, prefix: str = "") -> list[str]:
    """Dotted names of all fields of a configuration."""
    names = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            names += leaves(value, f"{prefix}{field.name}.")
        else:
            names.append(prefix + field.name)
    return names


def changed_value(value):
    if isinstance(value, bool):
        return not value
    if value is None:
        return 7
    if isinstance(value, list):
        return [*value, 99]
    return value + ("x" if isinstance(value, str) else 1)


NOT_IN_THE_KEY = "kept_objects"  # applied behind the store
OTHER_NAMES = {"video_encoder.name": "viclip-b16", "segmenter.name": "sam"}
"""Other ones would be looked for among the installed packages."""


@pytest.mark.parametrize(
    "name", [n for n in leaves(PERCEIVER) if "weights" not in n and n != NOT_IN_THE_KEY]
)
def test_each_field_of_the_perceiver_is_part_of_the_key(tmp_path, videos, name):
    source = open_source(tmp_path)
    tokens = make_tokens(0)
    source.store.put(source.key(videos[0]), tokens)
    source.store.flush()
    other = copy.deepcopy(PERCEIVER)
    *owners, field = name.split(".")
    owner = other
    for part in owners:
        owner = getattr(owner, part)
    value = OTHER_NAMES.get(name) or changed_value(getattr(owner, field))
    setattr(owner, field, value)  # unchecked: only its key is asked
    assert open_source(tmp_path).key(videos[0]) in source.store
    changed = VisualTokenSource(other, StoreConfig(path=str(tmp_path), dtype="float32"))
    assert changed.key(videos[0]) not in changed.store
    assert changed.store.get(changed.key(videos[0])) is None


@pytest.mark.parametrize("model", ["video_encoder", "segmenter"])
def test_the_content_of_the_weights_is_part_of_the_key(tmp_path, videos, model):
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"one")
    with_weights = dataclasses.replace(getattr(PERCEIVER, model), weights=str(weights))
    first = open_source(tmp_path / "store", **{model: with_weights}).key(videos[0])
    assert first != open_source(tmp_path / "store").key(videos[0])
    moved = weights.rename(tmp_path / "moved.safetensors")
    there = dataclasses.replace(with_weights, weights=str(moved))
    assert open_source(tmp_path / "store", **{model: there}).key(videos[0]) == first
    moved.write_bytes(b"two, of another size")
    assert open_source(tmp_path / "store", **{model: there}).key(videos[0]) != first


def test_weights_that_are_gone_are_needed_only_to_perceive(tmp_path, videos):
    file = tmp_path / "weights.safetensors"
    save_file(build_video_encoder(PERCEIVER.video_encoder).state_dict(), file)
    encoder = dataclasses.replace(PERCEIVER.video_encoder, weights=str(file))
    source = open_source(tmp_path / "store", video_encoder=encoder)
    expected = source(videos[0])
    assert source.weights_hashes == {str(file): hash_weights(str(file))}
    source.store.flush()
    content = file.read_bytes()
    file.unlink()
    later = open_source(tmp_path / "store", video_encoder=encoder)
    assert later.weights_hashes == source.weights_hashes
    assert torch.equal(later(videos[0]).features, expected.features)
    message = r"no tokens of '.*noise1\.mp4', and it cannot be perceived: perceiver\.video_encoder"
    with pytest.raises(ValueError, match=message + r"\.weights: .* '.*/weights\.safetensors'"):
        later(videos[1])
    with pytest.raises(VideoReadError, match="nothing"):  # one video, not the whole run
        later(str(tmp_path / "nothing.mp4"))

    save_file({"other": torch.ones(1)}, file)
    with pytest.raises(ValueError, match="are not those that the run has begun with"):
        later(videos[1])
    assert open_source(tmp_path / "store", video_encoder=encoder).key(videos[0]) != later.key(
        videos[0]
    )
    file.write_bytes(content)
    later(videos[1])
    assert later.num_perceived == 1


def test_video_span_and_number_type_are_part_of_the_key(tmp_path, videos):
    source = open_source(tmp_path / "store")
    video = tmp_path / "video.mp4"
    video.write_bytes(Path(videos[0]).read_bytes())
    key = source.key(str(video), 0.0, 1.0)
    source.store.put(key, make_tokens(0))
    source.store.flush()
    for start, end in ((None, 1.0), (0.1, 1.0), (0.0, None), (0.0, 1.1)):
        assert source.key(str(video), start, end) not in source.store
    assert source.key(videos[0], 0.0, 1.0) in source.store  # the same content
    for dtype in ("bfloat16", "int8"):
        assert key not in FeatureStore(StoreConfig(path=str(tmp_path / "store"), dtype=dtype))
    video.write_bytes(Path(videos[1]).read_bytes())
    assert source.key(str(video), 0.0, 1.0) not in source.store


def test_a_video_that_is_gone_is_found_and_a_changed_one_is_perceived_anew(
    tmp_path, videos, monkeypatch
):
    path = tmp_path / "video.mp4"
    path.write_bytes(Path(videos[0]).read_bytes())
    expected = open_source(tmp_path / "store")(str(path))

    def refuse(*arguments, **options):
        raise AssertionError("a video was opened or an encoder built")

    with monkeypatch.context() as patched:
        patched.setattr("vidreason.store.visual_token_source.build_perceiver", refuse)
        patched.setattr("vidreason.video.reader.VideoReader.read_content", refuse)
        path.unlink()
        source = open_source(tmp_path / "store")
        assert torch.equal(source(str(path)).features, expected.features)
        # Nor is a model loaded to say that a video that was never seen is not there.
        with pytest.raises(VideoReadError, match="there is no such file"):
            source(str(path), 0.2, 0.8)
    path.write_bytes(Path(videos[1]).read_bytes())
    source = open_source(tmp_path / "store")
    assert not torch.equal(source(str(path)).features, expected.features)
    assert source.num_perceived == 1


def test_the_store_says_which_perceiver_a_fingerprint_is(tmp_path, videos):
    source = open_source(tmp_path)
    source(videos[0])
    (file,) = (tmp_path / "perceivers").iterdir()
    assert file.stem == source.key(videos[0]).fingerprint
    described = dataclasses.asdict(PERCEIVER)
    del described["kept_objects"]  # applied behind the store
    assert json.loads(file.read_text()) == described


def test_a_source_that_has_perceived_may_be_pickled(tmp_path, videos):
    source = open_source(tmp_path)
    first = source(videos[0])
    size = len(pickle.dumps(source))
    assert size < 10_000
    copy = pickle.loads(pickle.dumps(source))
    assert torch.equal(copy(videos[0]).features, first.features)


class TokenDataset(Dataset):
    def __init__(self, source: VisualTokenSource, paths: list[str]) -> None:
        self.source, self.paths = source, paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int, int]:
        return self.source(self.paths[index]).features, torch.get_num_threads(), os.getpid()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12, of threads
@pytest.mark.parametrize("start_method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_perceive_on_one_thread_and_leave_all_they_saw(tmp_path, videos, start_method):
    source = open_source(tmp_path)
    expected = [build_perceiver(PERCEIVER).perceive(path).features for path in videos]
    loader = DataLoader(
        TokenDataset(source, videos),
        batch_size=None,
        num_workers=2,
        multiprocessing_context=start_method,
    )
    rows = list(loader)
    del loader
    for (features, num_threads, process_id), wanted in zip(rows, expected, strict=True):
        assert torch.equal(features, wanted)
        assert num_threads == 1
        assert process_id != os.getpid()
    store = FeatureStore(StoreConfig(path=str(tmp_path), dtype="float32"))
    for path, wanted in zip(videos, expected, strict=True):
        stored = store.get(source.key(path))
        assert stored is not None
        assert torch.equal(stored.features, wanted)


def test_other_numbers_of_kept_objects_share_the_stored_tokens(tmp_path, videos):
    every = open_source(tmp_path)(videos[0])
    kinds = every.kinds.tolist()
    num_objects = kinds.count(OBJECT_TOKEN)
    assert num_objects > 1
    for kept in (0, 1, num_objects):
        source = open_source(tmp_path, kept_objects=kept)
        shown = source(videos[0])
        assert source.num_perceived == 0
        # One key frame: the first of its objects, which the perceiver ranks.
        assert torch.equal(shown.features, every.features[: kinds.count(CLIP_TOKEN) + kept])
        assert len(shown.masks) == len(shown)
    fresh = open_source(None, kept_objects=1)(videos[0])
    assert torch.equal(fresh.features, open_source(tmp_path, kept_objects=1)(videos[0]).features)
    stored = open_source(tmp_path / "other", kept_objects=0)
    stored(videos[0])  # perceives, and stores all that it sees
    stored.store.flush()
    again = open_source(tmp_path / "other")
    assert torch.equal(again(videos[0]).features, every.features)
    assert again.num_perceived == 0
