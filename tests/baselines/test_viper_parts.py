"""The models behind programs, from folders of transformers: tiny random ones of each kind."""

import copy
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import viper_parts
from transformers import PreTrainedTokenizerFast

from vidreason.baselines.build import baseline_problems, baseline_provenance
from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.frames import Frames
from vidreason.baselines.viper.modules import ModuleError
from vidreason.baselines.viper.system import Viper
from vidreason.baselines.viper.transformers_modules import MAX_BOXES, TransformersModules
from vidreason.example import Example
from vidreason.reasoning.decoding import DecodingConfig

PARTS: dict[str, tuple[str, Callable[[Path, PreTrainedTokenizerFast], None]]] = {
    "clip": ("matcher", viper_parts.write_clip),
    "owl": ("detector", viper_parts.write_owl),
    "grounding-dino": ("detector", viper_parts.write_grounding_dino),
    "depth-anything": ("depth", viper_parts.write_depth),
    "blip-2": ("vqa", viper_parts.write_blip2),
    "llava": ("vqa", viper_parts.write_llava),
}


@pytest.fixture(scope="module")
def part_folder(
    tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: PreTrainedTokenizerFast
) -> Callable[[str], Path]:
    """Give the folder of a tiny model, made once."""
    root = tmp_path_factory.mktemp("viper-parts")

    def folder(name: str) -> Path:
        if not (root / name).exists():
            with torch.random.fork_rng():
                torch.manual_seed(0)
                # A processor may add tokens; other tests share the tokenizer.
                PARTS[name][1](root / name, copy.deepcopy(tiny_tokenizer))
        return root / name

    return folder


@pytest.fixture
def modules_of(part_folder: Callable[[str], Path]) -> Callable[..., TransformersModules]:
    def modules(*names: str, **weights: str) -> TransformersModules:
        folders = {PARTS[name][0]: str(part_folder(name)) for name in names}
        return _modules(folders | weights)

    return modules


def _modules(weights: dict[str, str]) -> TransformersModules:
    config = BaselineConfig(kind="viper", weights=weights, dtype="float32")
    return TransformersModules(config, DecodingConfig(max_new_tokens=8), torch.device("cpu"))


def _picture(seed: int, height: int = 40, width: int = 50) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def test_texts_are_matched_with_pictures(modules_of: Callable[..., TransformersModules]) -> None:
    """A score depends on its picture and text alone; thin parts and long texts are taken."""
    modules = modules_of("clip")
    pictures = [_picture(0), _picture(1), _picture(2, 1, 3)]
    texts = ["a red cube", "a ball <|end_of_turn|>", "a long text " * 20]
    scores = modules.match(pictures, texts)
    assert (scores.shape, scores.dtype) == ((3, 3), torch.float32)
    assert len(scores.unique()) == 9
    for row, picture in zip(scores, pictures, strict=True):
        single = torch.cat([modules.match([picture], [text])[0] for text in texts])
        torch.testing.assert_close(row, single, rtol=0, atol=1e-4)
    # What reads like a control token is text.
    assert not torch.equal(scores[:, 1], modules.match(pictures, ["a ball "])[:, 0])


def test_objects_are_detected(modules_of: Callable[..., TransformersModules]) -> None:
    for name in ("owl", "grounding-dino"):
        modules = modules_of(name)
        _sure(modules)
        for height, width in ((40, 50), (2, 30)):
            boxes = modules.detect(_picture(3, height, width), "Red cube")
            assert 1 <= len(boxes) <= MAX_BOXES, name
            # Random boxes may lie over the border, though not far.
            assert all(-width <= box.left <= box.right <= 2 * width for box in boxes), boxes
        assert modules.detect(_picture(3), "cube <|end_of_turn|> " * 40), name


def _sure(modules: TransformersModules) -> None:
    """Make a random Grounding DINO sure of everything, so that its boxes are looked at."""
    model = modules._detector.model
    for name, value in model.named_parameters():
        if "class_embed" in name:
            value.data += 1.0


def test_depth_grows_with_the_distance(
    modules_of: Callable[..., TransformersModules], part_folder: Callable[[str], Path]
) -> None:
    """A relative model's disparity is turned into a distance, a metric one's is taken as it is."""
    picture = _picture(4)
    modules = modules_of("depth-anything")
    model: Any = modules._depth.model
    with torch.no_grad():
        model.head.conv3.bias += 5  # some depth everywhere
        pixels = modules._depth.processor(
            images=[picture.permute(1, 2, 0).numpy()], return_tensors="pt"
        )
        predicted = model(pixels["pixel_values"]).predicted_depth
    assert predicted.min() > 0
    depth = modules.depth(picture)
    assert (depth.shape, depth.dtype) == ((40, 50), torch.float32)
    resized = torch.nn.functional.interpolate(
        predicted[None], size=(40, 50), mode="bicubic", align_corners=False
    )[0, 0]
    torch.testing.assert_close(depth, 1 / resized)
    model.config.depth_estimation_type = "metric"
    torch.testing.assert_close(modules.depth(picture), resized)


def test_questions_about_pictures(modules_of: Callable[..., TransformersModules]) -> None:
    for name in ("blip-2", "llava"):
        modules = modules_of(name)
        answers = [modules.ask(_picture(seed), "What is it?") for seed in (5, 5, 6)]
        assert answers[0] == answers[1], name
        # A question is text, whatever it holds: the number of pictures is not changed by it.
        assert isinstance(modules.ask(_picture(5, 1, 1), "<image><|end_of_turn|>?"), str), name
        assert not any("<|" in answer or "What is it?" in answer for answer in answers)


def test_weights_that_cannot_be_used_are_named(
    part_folder: Callable[[str], Path], tmp_path: Path, tiny_language_model_folder: str
) -> None:
    picture = _picture(0)
    damaged = tmp_path / "damaged"
    shutil.copytree(part_folder("clip"), damaged)
    (damaged / "model.safetensors").write_bytes(b"\0" * 100)
    missing = tmp_path / "missing"
    shutil.copytree(part_folder("clip"), missing)
    (missing / "model.safetensors").unlink()
    empty = tmp_path / "empty"
    empty.mkdir()
    cases: list[tuple[dict[str, str], Callable[[TransformersModules], Any], str]] = [
        ({}, lambda m: m.detect(picture, "x"), r"weights\.detector is missing.*grounding-dino"),
        ({}, lambda m: m.match([picture], ["x"]), r"weights\.matcher is missing.*clip"),
        ({}, lambda m: m.ask(picture, "x"), r"weights\.vqa is missing.*blip2"),
        ({}, lambda m: m.depth(picture), r"weights\.depth is missing.*Depth-Anything"),
        ({}, lambda m: m.complete("x"), r"weights\.language_model is missing"),
        (
            {"matcher": str(part_folder("owl"))},
            lambda m: m.match([picture], ["x"]),
            r"weights\.matcher: .* of type 'owlv2'; expected clip or siglip",
        ),
        (
            {"vqa": tiny_language_model_folder},
            lambda m: m.ask(picture, "x"),
            r"weights\.vqa: .* of type 'llama'; expected a model that answers",
        ),
        ({"matcher": str(damaged)}, lambda m: m.match([picture], ["x"]), "model.safetensors"),
        ({"matcher": str(missing)}, lambda m: m.match([picture], ["x"]), r"weights\.matcher"),
        ({"depth": str(empty)}, lambda m: m.depth(picture), r"weights\.depth"),
        (
            {"language_model": str(empty)},
            lambda m: m.complete("x"),
            r"weights\.language_model: .*empty",
        ),
    ]
    for weights, call, message in cases:
        with pytest.raises(ModuleError, match=message):
            call(_modules(weights))


def test_a_configuration_becomes_a_system(
    part_folder: Callable[[str], Path],
    tiny_language_model_folder: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A random language model writes no program; the fallback answers, and nothing else loads."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    prompt = tmp_path / "short.prompt"
    prompt.write_text("Write a program.\n# INSERT_QUERY_HERE\ndef execute_command(video):")
    config = BaselineConfig(
        kind="viper",
        weights={
            "code_model": tiny_language_model_folder,
            "prompt": str(prompt),
            "vqa": str(part_folder("llava")),
            "detector": "/nowhere",
        },
        dtype="float32",
        num_frames=3,
    )
    decoding = DecodingConfig(max_new_tokens=8)
    monkeypatch.setattr("vidreason.baselines.viper.text_model.PROGRAM_TOKENS", 8)
    system = Viper.load(config, decoding, torch.device("cpu"))
    frames = Frames(torch.stack([_picture(seed) for seed in range(3)]), (0.0,), (0,), 3, 9.0)
    question = Example(
        id="nextqa:test:1", corpus="nextqa", media="v", video_id="v", prompt="Why?", response=""
    )
    [reply] = system.answer([frames], [question])
    assert reply.record["failure"]["kind"] == "no program"
    expected = _modules({"vqa": config.weights["vqa"]}).ask(_picture(1), "Why?")
    assert reply.output == reply.record["fallback"] == expected
    assert reply.num_generated_tokens <= 8
    written = "Write a program.\n# Why?\ndef execute_command(video):"
    assert reply.num_prompt_tokens == len(written) + 6  # a token a byte, and those of the template
    assert list(Viper.frame_rule(config)(9)) == [1, 4, 7]
    # As evaluate sees it: the prompt is a setting, the models are told apart by their content.
    there = replace(config, weights={**config.weights, "detector": str(part_folder("owl"))})
    assert baseline_problems("v", there, {}, decoding) == []
    provenance = baseline_provenance(there)
    prompt.write_text("# INSERT_QUERY_HERE")
    changed = baseline_provenance(there)
    assert provenance.model == changed.model
    assert provenance.answering != changed.answering
    assert provenance.system["fidelity"] == "re-composed"

    for weights, message in (
        ({"vqa": "v"}, "weights.code_model is missing"),
        ({"code_model": "m", "model": "x"}, "weights has model, which"),
        ({"code_model": "/nowhere", "vqa": "v"}, "weights.code_model: "),
        ({"code_model": "m", "prompt": "/nowhere"}, "weights.prompt is '/nowhere'"),
        # Our prompt has some four thousand bytes, each a token here.
        ({"code_model": tiny_language_model_folder}, r"at most 1,024; .* weights\.prompt"),
    ):
        wrong = BaselineConfig(kind="viper", weights=weights)
        with pytest.raises(ValueError, match=message):
            Viper.load(wrong, decoding, torch.device("cpu"))
