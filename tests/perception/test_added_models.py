"""Video encoders and segmenters of installed packages stand beside those of this project."""

import dataclasses
import shutil
import sys
from pathlib import Path

import pytest
import torch
from installed_package import install_examples, install_points
from safetensors.torch import save_file
from tiny_perceiver import tiny_encoder
from torchvision.models import resnet18

from experiments.config.memory_estimate import estimate_perception
from experiments.experiment_config import ExperimentConfig
from experiments.start_checks.checks import find_problems
from vidreason.config import merge_config
from vidreason.perception.added_models import (
    build_added_segmenter,
    check_added_encoder,
)
from vidreason.perception.added_origins import (
    AddedPart,
    added_origins,
    check_declared,
    check_named_modules,
    check_origins,
)
from vidreason.perception.config import (
    ENCODER_GROUP,
    SEGMENTER_GROUP,
    PerceiverConfig,
    SegmenterConfig,
    VideoEncoderConfig,
)
from vidreason.perception.models import build_video_encoder, video_encoder_sizes
from vidreason.perception.perceiver import build_perceiver, perceiver_fingerprint
from vidreason.video.config import SamplingConfig
from vidreason.video.reader import DIRECT

CHECKOUT = Path(__file__).parents[2]
VIDEO = str(CHECKOUT / "vidreason" / "microworld" / "samples" / "hit.mp4")

HEAD = """
import torch
from torch import nn
from vidreason.perception.added_models import AddedSegmenter, AddedVideoEncoder
from vidreason.perception.config import VideoEncoderSizes
from vidreason.perception.segmenter import ObjectMask
from vidreason.perception.video_encoder import EncodedClips
"""

MEANS = """
class Means(AddedVideoEncoder):
    version = 1
    size_fields = ("image_size",)

    def __init__(self, sizes):
        super().__init__(sizes)
        self.weight = nn.Parameter(torch.ones(3))

    @classmethod
    def sizes_of(cls, config):
        side = config.image_size or 16
        return VideoEncoderSizes(width=3, image_size=side, patch_size=8, num_frames=8)

    def forward(self, frames):
        patches = frames.unfold(4, 8, 8).unfold(5, 8, 8).mean((-1, -2)).movedim(3, -1)
        return EncodedClips(patches.mean((2, 3, 4)), patches * self.weight)
"""

HALVES = """
class Halves(AddedSegmenter):
    version = 1

    def segment(self, frames):
        masks = torch.zeros(2, *frames.shape[2:], dtype=torch.bool)
        height, width = masks.shape[1:]
        masks[0, :, : width // 2] = masks[1, :, width // 2 :] = True
        halves = [(0, 0, width // 2, height), (width // 2, 0, width, height)]
        return [
            [
                ObjectMask(mask=mask, box=box, area=int(mask.sum()), predicted_iou=1, stability=1)
                for mask, box in zip(masks, halves)
            ]
            for _ in frames
        ]
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, source: str = MEANS + HALVES) -> None:
    (folder / "outside.py").write_text(HEAD + source)
    groups = {
        ENCODER_GROUP: {"means": "outside:Means", "viclip-b16": "outside:Means"},
        SEGMENTER_GROUP: {"halves": "outside:Halves"},
    }
    install_points(folder, monkeypatch, groups)


def configured(encoder: str = "means", segmenter: str = "halves") -> PerceiverConfig:
    return PerceiverConfig(
        video_encoder=VideoEncoderConfig(name=encoder, allow_random_weights=True),
        segmenter=SegmenterConfig(name=segmenter, allow_random_weights=True),
        sampling=SamplingConfig(num_clips=2, num_key_frames=2),
    )


def test_a_perceiver_of_other_packages(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch)
    config = configured()
    assert "outside" not in sys.modules  # until it is used
    tokens = build_perceiver(config, reader=DIRECT).perceive(VIDEO)
    # Two clips, and two halves of each key frame.
    assert tokens.features.shape == (2 + 2 * 2, 3)
    assert len(set(tokens.track_ids.tolist())) == 3
    left = tokens.boxes[2].tolist()
    assert left == pytest.approx([0, 0, 0.5, 1], abs=0.01)
    # By module and object, the same.
    named = configured("outside:Means", "outside:Halves")
    other = build_perceiver(named, reader=DIRECT).perceive(VIDEO)
    assert torch.equal(other.features, tokens.features)
    assert estimate_perception(config).weights == 3 * 4


def test_another_version_has_another_fingerprint(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch)
    config = configured()
    before = perceiver_fingerprint(config)
    outside = sys.modules["outside"]
    for part in (outside.Means, outside.Halves):
        monkeypatch.setattr(part, "version", 2)
        after = perceiver_fingerprint(config)
        assert after != before
        before = after
    # Parts of this project have none of this: their stores stay as they are.
    tiny = PerceiverConfig(
        video_encoder=tiny_encoder(), sampling=SamplingConfig(frames_per_clip=2), use_objects=False
    )
    known = "e058ca7ce7cc56ae315fb588498d60dc8a601bc22bffba11adf505274736f33c"
    assert perceiver_fingerprint(tiny) == known


def test_no_package_replaces_an_encoder_of_this_project(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch)
    assert video_encoder_sizes(VideoEncoderConfig(name="viclip-b16")).width == 768
    assert "outside" not in sys.modules


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "raise RuntimeError('broken')",
            "means = 'outside:Means' of .* cannot be imported: broken",
        ),
        ("Means = 5", "is a int; it has to be a class derived from .*AddedVideoEncoder"),
        ("class Means: pass", "is the class Means; it is no .*AddedVideoEncoder: derive it"),
        (MEANS.replace("version = 1", ""), "the version of Means is None; give the class `version"),
        (MEANS.replace("width=3,", "width='3',"), "have to be .*'3'"),
        (MEANS.replace("return VideoEncoderSizes", "return dict"), "sizes_of gives a dict"),
        (MEANS.replace("num_frames=8", "num_frames=4"), "takes clips of 4 frames, but .*to 4"),
        (MEANS.replace("mean((2, 3, 4))", "mean((3, 4))"), r"clip tokens of shape \(2, 2, 8, 3\)"),
        (MEANS.replace("movedim(3, -1)", "movedim(3, -9)"), "means = .*: IndexError: "),
        (MEANS.replace("__init__(sizes)", "__init__(sizes, 5)"), "means = .*: AttributeError: "),
        (MEANS.replace("patch_size=8", "patch_size=0"), "means = .*: ZeroDivisionError: "),
        (MEANS.replace("or 16", "or 20"), "its image_size is 20 and its patch_size 8"),
        (MEANS.replace("nn.Parameter", "nn.Absent"), "means = .*: AttributeError: "),
        (HALVES, "cannot be imported: .*Means"),
        (
            MEANS.replace("def forward", "def forwards"),
            "has no method forward: write it as",
        ),
        (MEANS.replace("(cls, config)", "(cls)"), r"its sizes_of takes \(\), and is called as"),
        (
            MEANS + "    def load(self, path): pass\n",
            r"its load takes \(self, path\), and",
        ),
    ],
)
def test_what_is_no_encoder_is_refused_at_the_start(source, message, tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, source)
    with pytest.raises(ValueError, match=message):
        check_added_encoder(configured().video_encoder)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("class Halves: pass", "halves = .* is the class Halves; it is no .*AddedSegmenter"),
        (HALVES.replace("version = 1", "version = '1'"), "the version of Halves is '1'"),
        (
            HALVES.replace("segment(self, frames)", "segment(self)"),
            r"its segment takes \(self\)",
        ),
        (HALVES.replace("def segment", "def segments"), "has no method segment: write it as"),
        (HALVES + "    def __init__(self): pass\n", "halves = .*: TypeError: "),
    ],
)
def test_what_is_no_segmenter_is_refused_at_the_start(source, message, tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, MEANS + source)
    overrides = ["perceiver.video_encoder.name=means", "perceiver.segmenter.name=halves"]
    config = merge_config(ExperimentConfig, [], [*overrides, f"run_dir={tmp_path}"])
    (problem,) = (line for line in find_problems(config, "perceive") if "halves" in line)
    with pytest.raises(ValueError, match=message):
        raise ValueError(problem)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            ("mask=mask, box", "mask=mask.float(), box"),
            r"a mask \(\d+, \d+\) of torch.float32",
        ),
        (("(0, 0, width // 2, height)", "(0, 0, width, 2 * height)"), "the box .* of a mask"),
        (("(0, 0, width // 2, height)", "(0, 0, 1, 1)"), r"larger than its box \(0, 0, 1, 1\)"),
        (("for _ in frames", "for _ in frames[1:]"), "gives a list of 1 for frames"),
        (("ObjectMask(mask", "dict(mask"), "gives a dict for frames"),
        (("torch.zeros(2", "torch.ones('2'"), "halves = .*: TypeError: "),
    ],
)
def test_what_is_no_mask_is_refused_when_it_is_given(wrong, message, tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, MEANS + HALVES.replace(*wrong))
    with pytest.raises(ValueError, match=message):
        build_perceiver(configured(), reader=DIRECT).perceive(VIDEO)


def test_the_segmenter_of_the_example_needs_no_weights(tmp_path, monkeypatch):
    install_examples(tmp_path, monkeypatch, ("my_parts",))
    config = SegmenterConfig(name="colour_regions", max_frame_side=48)
    segmenter = build_added_segmenter(config, torch.device("cpu"))
    frames = torch.full((2, 3, 64, 96), 20, dtype=torch.uint8)
    frames[0, 0, 8:24, 10:30] = 200  # a red rectangle
    frames[0, :, 40:60, 50:90] = 90  # a grey one
    frames[0, :, 50:60, 50:80] = 20  # of the form of an L
    frames[0, :, 2:4, 2:4] = 255  # too small
    first, second = segmenter.segment(frames)
    assert second == []
    assert sorted((one.box, one.area) for one in first) == [
        ((5, 4, 15, 12), 80),
        ((25, 20, 45, 30), 125),
    ]
    assert {tuple(one.mask.shape) for one in first} == {(32, 48)}


def test_sizes_that_an_encoder_does_not_take_are_refused(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch)
    with pytest.raises(ValueError, match=r"video_encoder\.width: 5, .*'means', which takes image_"):
        video_encoder_sizes(VideoEncoderConfig(name="means", width=5))
    assert video_encoder_sizes(VideoEncoderConfig(name="means", image_size=24)).image_size == 24


def test_a_name_that_nobody_has_is_refused_with_a_similar_one(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch)
    for field, near in {
        "video_encoder.name=mean": "means",
        "segmenter.name=halfes": "halves",
    }.items():
        with pytest.raises(ValueError, match=f"perceiver.{field[:9]}.*did you mean {near}"):
            merge_config(ExperimentConfig, [], [f"perceiver.{field}"])


def test_weights_are_needed_and_read_strictly(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, MEANS + HALVES.replace(
        "version = 1",
        "version = 1\n\n    def __init__(self, config):\n        super().__init__(config)\n"
        "        self.register_buffer('edge', torch.ones(1), persistent=False)\n"
        "        self.bias = nn.Parameter(torch.ones(1))\n",
    ))  # fmt: skip
    with pytest.raises(ValueError, match=r"perceiver\.video_encoder\.weights: empty"):
        build_video_encoder(VideoEncoderConfig(name="means"))
    save_file({"weight": torch.tensor([1.0, 2.0, 3.0])}, tmp_path / "right.safetensors")
    save_file({"bias": torch.ones(1)}, tmp_path / "wrong.safetensors")
    right = VideoEncoderConfig(name="means", weights=str(tmp_path / "right.safetensors"))
    assert build_video_encoder(right).weight.tolist() == [1, 2, 3]
    wrong = dataclasses.replace(right, weights=str(tmp_path / "wrong.safetensors"))
    with pytest.raises(ValueError, match="not those of Means"):
        build_video_encoder(wrong)
    # A buffer that no file has would be left without values.
    config = SegmenterConfig(name="halves", weights=str(tmp_path / "wrong.safetensors"))
    with pytest.raises(ValueError, match=r"halves = .*: edge has no values"):
        build_added_segmenter(config, torch.device("cpu"))


def test_a_file_of_others_imports_nothing(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch)
    for config in (configured("outside:Means"), configured(segmenter="outside:Halves")):
        with pytest.raises(ValueError, match=r"folder: perceiver\..*import outside before, if you"):
            check_named_modules("folder", config)
    assert "outside" not in sys.modules
    check_named_modules("folder", configured())
    check_added_encoder(configured().video_encoder)
    check_named_modules("folder", configured("outside:Means"))


def test_a_file_says_which_packages_it_needs(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch)
    config = configured()
    origins = added_origins(config)
    expected = AddedPart(version=1, package="installed 1.0")
    assert origins == {"video_encoder": expected, "segmenter": expected}
    assert added_origins(configured("outside:Means"))["video_encoder"].package == ""
    assert added_origins(PerceiverConfig(use_objects=False)) == {}
    values = dataclasses.asdict(config)
    packages = {part: dataclasses.asdict(origin) for part, origin in origins.items()}
    check_declared("folder", values, packages)
    check_origins("folder", config, origins)
    check_origins("folder", config, {})  # written before they were recorded
    monkeypatch.setattr(sys.modules["outside"].Halves, "version", 2)
    with pytest.raises(ValueError, match=r"folder: .* version 1 of 'halves', of 'installed 1.0'"):
        check_origins("folder", config, origins)
    shutil.rmtree(tmp_path / "installed-1.0.dist-info")
    with pytest.raises(ValueError, match=r"'means', .* group vidreason.video_encoders; .*d 1.0'"):
        check_declared("folder", values, packages)
    # What the file says is text of others: it is cut, and shown as text.
    hostile = {"video_encoder": {"package": "\x1b[2J" + "x" * 9999}}
    with pytest.raises(ValueError, match=r"that package was '\\x1b\[2Jx+', and") as raised:
        check_declared("folder", values, hostile)
    assert len(str(raised.value)) < 500
    # Parts of this project need no package, whatever the file says.
    check_declared("folder", dataclasses.asdict(configured("viclip-b16", "sam")), packages)
    for odd in ({}, {"video_encoder": 5}, {"video_encoder": {"name": []}}):
        check_declared("folder", odd, {"video_encoder": None})


def test_the_example_encoder_is_torchvisions_network(tmp_path, monkeypatch):
    install_examples(tmp_path, monkeypatch, ("my_parts",))
    torch.manual_seed(0)
    released = resnet18().eval()
    torch.save(released.state_dict(), tmp_path / "resnet18.pth")
    config = VideoEncoderConfig(
        name="resnet_frames", weights=str(tmp_path / "resnet18.pth"), image_size=64, num_frames=2
    )
    check_added_encoder(config)
    frames = torch.randn(1, 3, 2, 3, 64, 64)
    encoded = build_video_encoder(config)(frames)
    assert encoded.patch_tokens.shape == (1, 3, 2, 2, 2, 512)
    # The classifier of the mean of a frame's patches is the network's own answer.
    with torch.no_grad():
        answers = released.fc(encoded.patch_tokens.mean((3, 4)))
        torch.testing.assert_close(answers, released(frames[0].flatten(0, 1)).view(1, 3, 2, -1))
    torch.testing.assert_close(encoded.clip_tokens, encoded.patch_tokens.mean((2, 3, 4)))
    half = build_video_encoder(dataclasses.replace(config, dtype="bfloat16"))(frames)
    torch.testing.assert_close(half.clip_tokens, encoded.clip_tokens, rtol=0.1, atol=0.05)
    with pytest.raises(ValueError, match="image_size is 50; choose a multiple of 32"):
        video_encoder_sizes(dataclasses.replace(config, image_size=50))
