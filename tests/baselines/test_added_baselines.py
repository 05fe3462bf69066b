"""A baseline of an installed package stands beside those of this project."""

import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from installed_package import install_points
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    PreTrainedTokenizerFast,
)

from vidreason.added_parts import added_parts
from vidreason.baselines.build import Baseline, system_class
from vidreason.baselines.config import BASELINE_GROUP, KINDS, BaselineConfig
from vidreason.baselines.frames import Frames, middle_frames
from vidreason.baselines.system import System, SystemAnswerer
from vidreason.evaluation.answerer import Reply
from vidreason.evaluation.provenance import Provenance
from vidreason.example import Example, Turn
from vidreason.reasoning.reasoner_config import DecodingConfig
from vidreason.video.reader import DIRECT

CHECKOUT = Path(__file__).parents[2]
EXAMPLE = CHECKOUT / "examples" / "my_baseline"
VIDEO = str(CHECKOUT / "vidreason" / "microworld" / "samples" / "hit.mp4")


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, points: dict[str, str]) -> None:
    install_points(folder, monkeypatch, {BASELINE_GROUP: points})


def write_clip(folder: Path) -> str:
    """Write a tiny CLIP with random weights."""
    words = [
        "<unk>",
        "<pad>",
        "<s>",
        "</s>",
        *["the", "red", "blue", "ball", "square", "hits", "leaves", "a"],
    ]
    tokenizer = Tokenizer(WordLevel({word: n for n, word in enumerate(words)}, "<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", eos_token="</s>"
    )
    images = CLIPImageProcessor(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}, do_center_crop=True
    )
    CLIPProcessor(images, fast).save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    sizes["num_attention_heads"] = 2
    config = CLIPConfig(
        text_config={**sizes, "vocab_size": len(words), "eos_token_id": 3},
        vision_config={**sizes, "image_size": 16, "patch_size": 8},
        projection_dim=8,
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    return str(folder)


def question(number: int, **fields: object) -> Example:
    return Example(
        **{"id": str(number), "corpus": "mine", "media": VIDEO, "video_id": "1", "prompt": "which",
           "response": "", "options": ("the red ball", "a blue square leaves", "hits"), **fields}
    )  # fmt: skip


def test_the_example_package_scores_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    monkeypatch.syspath_prepend(str(EXAMPLE))
    install(tmp_path, monkeypatch, project["entry-points"][BASELINE_GROUP])
    config = BaselineConfig(
        kind="clip_options", weights={"model": write_clip(tmp_path / "clip")}, dtype="float32"
    )
    baseline = Baseline("clip", {"clip": config}, DecodingConfig(), torch.device("cpu"), DIRECT)
    questions = [question(1), question(2, start_seconds=1.0, end_seconds=2.0), question(3)]
    answerer = baseline.answerer(questions, "none")
    assert answerer.capabilities == {"log_likelihoods"}
    replies = answerer.log_likelihoods(questions)
    # As probabilities, the same for the same frames, others for a part of the video.
    for reply in replies:
        assert torch.tensor(reply.log_likelihoods).exp().sum().item() == pytest.approx(1, abs=1e-5)
    assert replies[0] == replies[2] != replies[1]
    blind = baseline.answerer(questions, "blind").log_likelihoods(questions)
    assert blind[0].log_likelihoods == (0.0, 0.0, 0.0)


def test_a_system_of_one_question_gets_a_conversation_as_one_text() -> None:
    class Echo(System):
        def answer(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
            assert not any(example.earlier_turns for example in examples)
            return [Reply(output=example.prompt) for example in examples]

    class EchoOfTurns(System):
        takes_turns = True

        def answer(self, videos: Sequence[Frames], examples: Sequence[Example]) -> list[Reply]:
            return [Reply(output=example.earlier_turns[1].text) for example in examples]

    turns = (Turn("user", "what is it?"), Turn("assistant", "a ball"))
    frames = Frames(torch.zeros(0, 3, 1, 1, dtype=torch.uint8), (), (), 0, 1.0)
    for system, expected in (
        (Echo, "Earlier about this video:\nQuestion: what is it?\nAnswer: a ball\n\nwhich"),
        (EchoOfTurns, "a ball"),
    ):
        answerer = SystemAnswerer(
            system, system, middle_frames(1), lambda *_: frames, Provenance(model="m")
        )
        (answer,) = answerer.answer([question(1, earlier_turns=turns)])
        assert answer.output == expected


def test_a_name_that_nobody_has_is_refused_with_a_similar_one() -> None:
    with pytest.raises(ValueError, match=r"kind is 'sevilla'.*did you mean sevila\?"):
        BaselineConfig(kind="sevilla")


def test_a_class_that_is_no_system_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = "from vidreason.baselines.system import System\nclass Odd: pass\nFIVE = 5\n"
    for name, methods in {
        "Bare": ("facts", "load"),
        "Silent": ("facts", "load", "frame_rule"),
        "Short": ("facts", "load", "frame_rule", "choose"),
    }.items():
        content += f"class {name}(System):\n"
        content += "".join(f"    {method} = classmethod(lambda *all: 0)\n" for method in methods)
    content = content.replace("choose = classmethod(lambda *all", "choose = (lambda self, videos")
    (tmp_path / "odd_baseline.py").write_text(content)
    points = {"odd": "odd_baseline:Odd", "five": "odd_baseline:FIVE", "no": "odd_baseline:Absent"}
    points |= {name.lower(): f"odd_baseline:{name}" for name in ("Bare", "Silent", "Short")}
    install(tmp_path, monkeypatch, {**points, "sevila": "odd_baseline:Odd"})
    assert set(added_parts(BASELINE_GROUP, KINDS)) == set(
        points
    )  # none of this project's is replaced
    assert "sevila" in KINDS
    for kind, message in {
        "odd": "odd = .* is the class Odd; it is no",
        "five": "is a int; it has to be a class derived from",
        "no": "cannot be imported",
        "bare": r"has no method frame_rule: write it as .*System\.frame_rule\(config",
        "silent": "silent = .* answers nothing: override one of answer, choose",
        "short": r"its choose takes \(self, videos\), and is called as .*System\.choose\(self, vid",
    }.items():
        with pytest.raises(ValueError, match=message):
            system_class(BaselineConfig(kind=kind))
