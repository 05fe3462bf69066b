"""SeViLA: golden values, the released layout and its damage, texts, and answers on a clip."""

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from baseline_weights import golden_array, golden_values
from blind_frames import no_frames
from tiny_blip2 import (
    OPTIONS,
    clip_frames,
    example,
    official_state,
    rewrite_shards,
    t5_tokenizer,
    write_blip2,
    write_checkpoint,
)
from transformers import Blip2QFormerConfig, Blip2VisionConfig, T5Config

from vidreason.baselines.blip2_files import blip2_folder
from vidreason.baselines.build import Baseline, baseline_problems
from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.frames import Frames, middle_frames
from vidreason.baselines.sevila import prompts
from vidreason.baselines.sevila.model import SevilaModel, SevilaTokens, best_frames
from vidreason.baselines.sevila.prompts import load_texts
from vidreason.baselines.sevila.system import Sevila, part_middles
from vidreason.baselines.sevila.weights import BLIP2_PREFIXES, convert_official, load_model
from vidreason.reasoning.decoding import generate_ids
from vidreason.reasoning.prompts import (
    FUTURE_PREDICTION_PROMPT,
    multiple_choice_prompt,
    open_ended_prompt,
)
from vidreason.reasoning.reasoner_config import DecodingConfig
from vidreason.video.reader import VideoReader

CPU = torch.device("cpu")
GOLDEN_TOKENS = SevilaTokens(
    frame=[3, 4, 5],
    key_frames=[[3, 7, 5], [3, 8, 5], [3, 9, 5]],
    yes=15,
    letters=[10, 11, 12, 13, 14],
)
TOWER_KEYS = ("visual_encoder.",)


@pytest.fixture(scope="module")
def blip2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with T5's golden weights, which has 60 tokens."""
    return write_blip2(tmp_path_factory.mktemp("blip2") / "folder", "sevila")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "sevila_pretrained.pth"
    return write_checkpoint(path, official_state("sevila", TOWER_KEYS))


@pytest.fixture(scope="module")
def frames() -> Frames:
    return clip_frames(part_middles)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Sevila:
    tokenizer = t5_tokenizer()
    folder = write_blip2(
        tmp_path_factory.mktemp("blip2") / "words", "sevila", vocab_size=len(tokenizer)
    )
    tokenizer.save_pretrained(folder)
    weights = {"checkpoint": str(checkpoint), "blip2": str(folder)}
    config = BaselineConfig(kind="sevila", weights=weights, dtype="float32")
    return Sevila.load(config, DecodingConfig(max_new_tokens=6), CPU)


def model_of(checkpoint: Path, blip2: Path) -> SevilaModel:
    folder = blip2_folder(str(blip2), None, BLIP2_PREFIXES)
    return load_model(str(checkpoint), folder, CPU, torch.float32)


def choice(*options: str, question: str = "What hits the box") -> Any:
    return example(multiple_choice_prompt(question, options), options)


def test_golden_values_from_each_layout(blip2: Path, checkpoint: Path, tmp_path: Path) -> None:
    golden = golden_values("sevila")
    whole = write_checkpoint(tmp_path / "whole.pth", official_state("sevila"))
    converted = tmp_path / "sevila.safetensors"
    convert_official(str(checkpoint), converted)
    video = golden_array("video", (2, 6, 3, 28, 28))
    loc, qa = (torch.tensor(golden["ids"][part]) for part in ("loc", "qa"))
    for path in (checkpoint, whole, converted):
        model = model_of(path, blip2)
        with torch.inference_mode():
            output = model(video, loc, qa, GOLDEN_TOKENS)
            # The second question alone, without padding: batches equal singles.
            alone = model(video[:1], loc[:1, :6], qa[:1, :5], GOLDEN_TOKENS)
        expected = torch.tensor(golden["loc_yes"]).view(2, 6)
        assert float((output.yes_logits - expected).abs().max()) < 3e-6, path
        assert output.key_frames == golden["frame_idx"]
        scores = torch.tensor(golden["qa_scores1"])
        assert float((output.letter_logits - scores).abs().max()) < 3e-6, path
        assert output.letter_logits.argmax(-1).tolist() == golden["pred"]
        assert alone.key_frames == golden["frame_idx"][:1]
        assert float((alone.letter_logits - scores[:1]).abs().max()) < 3e-6


def test_word_embeddings_and_output_layer_stay_apart(blip2: Path, checkpoint: Path) -> None:
    t5 = model_of(checkpoint, blip2).t5
    assert float((t5.shared.weight - t5.lm_head.weight).abs().max()) > 0.1
    for part in (t5.encoder, t5.decoder):
        assert torch.equal(part.embed_tokens.weight, t5.shared.weight)
    assert not any(parameter.is_meta for parameter in t5.parameters())


def test_released_sizes_have_the_released_number_of_parameters() -> None:
    text = T5Config(
        **{"vocab_size": 32_128, "d_model": 2048, "d_ff": 5120, "num_layers": 24, "num_heads": 32},
        **{"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    )
    with torch.device("meta"):
        model = SevilaModel(Blip2VisionConfig(), Blip2QFormerConfig(), 32, text)
    # Shoubin/SeViLA: sevila_pretrained.pth has 814.55 MiB
    held = sum(p.numel() for part in (model.localizer, model.answerer) for p in part.parameters())
    assert round(held / 1e6, 1) == 213.5
    assert model.t5.config.decoder_start_token_id == 0


def test_half_precision_keeps_what_would_overflow_in_float32(blip2: Path, checkpoint: Path) -> None:
    folder = blip2_folder(str(blip2), None, BLIP2_PREFIXES)
    golden = golden_values("sevila")
    loc, qa = (torch.tensor(golden["ids"][part]) for part in ("loc", "qa"))
    for dtype in (torch.float16, torch.bfloat16):
        model = load_model(str(checkpoint), folder, CPU, dtype)
        block = model.t5.encoder.block[0].layer[1].DenseReluDense
        assert block.wo.weight.dtype == (torch.float32 if dtype == torch.float16 else dtype)
        assert (
            block.wi_0.weight.dtype == model.vision.model.embeddings.class_embedding.dtype == dtype
        )
        assert model.localizer.norm.weight.dtype == torch.float32
        with torch.inference_mode():
            output = model(golden_array("video", (2, 6, 3, 28, 28)), loc, qa, GOLDEN_TOKENS)
        expected = torch.tensor(golden["loc_yes"]).view(2, 6)
        assert float((output.yes_logits - expected).abs().max()) < 0.3, dtype


def test_key_frames_are_the_best_ones_in_the_order_of_the_video() -> None:
    logits = torch.tensor([0.1, 3.0, -2.0, 2.0, 0.5])
    assert [best_frames(logits, count) for count in (1, 3, 9)] == [[1], [1, 3, 4], [0, 1, 2, 3, 4]]


def test_frames_are_the_middles_of_32_parts() -> None:
    for count in [*range(32, 200), 421, 997, 12_345]:
        edges = np.linspace(0, count, 33).astype(int)
        official = [int(a + b) // 2 for a, b in pairwise(edges)]
        assert part_middles(count) == official, count
    assert part_middles(3) == [0, 1, 2]
    config = BaselineConfig(kind="sevila", num_frames=2)
    assert list(Sevila.frame_rule(config)(100)) == list(middle_frames(2)(100)) == [25, 75]


def test_damaged_checkpoints_are_refused_by_name(blip2: Path, tmp_path: Path) -> None:
    state = official_state("sevila", TOWER_KEYS)
    bias = "Qformer_loc.bert.encoder.layer.3.output_query.dense.bias"
    wrong: dict[str, tuple[dict[str, torch.Tensor], str]] = {
        "missing": ({k: v for k, v in state.items() if k != bias}, f"missing {bias}"),
        "extra": (state | {"t5_model.shared.weight": torch.ones(2)}, "unexpected t5_model"),
        "shape": (state | {"t5_proj.bias": torch.ones(33)}, r"t5_proj.bias has shape \(33,\)"),
        "bytes": (state | {bias: torch.ones(24).char()}, f"{bias} holds numbers of type int8"),
        "nan": (state | {"t5_proj.bias": torch.full((32,), torch.nan)}, "t5_proj.bias hold values"),
        "tower": (state | {"visual_encoder.cls_token": torch.ones(1, 1, 32)}, "missing visual_"),
        "blip2": (
            official_state("sevila", ("Qformer_loc", "query_tokens_loc")),
            "query_tokens_loc",
        ),
    }
    for name, (tensors, message) in wrong.items():
        path = write_checkpoint(tmp_path / f"{name}.pth", tensors)
        with pytest.raises(ValueError, match=message):
            model_of(path, blip2)
    with pytest.raises(ValueError, match="unexpected t5_model"):
        convert_official(str(tmp_path / "extra.pth"), tmp_path / "new.safetensors")
    good = (tmp_path / "extra.pth").read_bytes()
    (tmp_path / "short.pth").write_bytes(good[: len(good) - 100])
    converted = tmp_path / "good.safetensors"
    convert_official(str(write_checkpoint(tmp_path / "good.pth", state)), converted)
    short = tmp_path / "short.safetensors"
    short.write_bytes(converted.read_bytes()[:-100])
    for path in (tmp_path / "short.pth", short):
        with pytest.raises(ValueError, match="truncated or damaged"):
            model_of(path, blip2)


def test_a_wrong_blip2_folder_is_refused_by_name(
    blip2: Path, checkpoint: Path, tmp_path: Path
) -> None:
    head = "language_model.lm_head.weight"
    changes: dict[str, tuple[dict[str, torch.Tensor | None], dict[str, Any], str]] = {
        "a": ({head: None}, {}, f"missing {head}"),
        "b": ({"language_model.extra": torch.ones(1)}, {}, "unexpected language_model.extra"),
        "c": ({}, {"num_layers": 10**7}, r"text_config.num_layers is 10000000"),
        "d": ({}, {"d_model": 64}, "do not fit SevilaModel"),
        "e": ({}, {"scale_decoder_outputs": True}, "needs a Flan-T5"),
        "g": (
            {head: torch.ones(60, 32, dtype=torch.int8)},
            {},
            f"{head} holds numbers of type int8",
        ),
        "f": ({}, {"model_type": "opt"}, "its language model is a 'opt'"),
    }
    for name, (tensors, text, message) in changes.items():
        folder = tmp_path / name
        shutil.copytree(blip2, folder)
        if tensors:
            rewrite_shards(folder, tensors)
        config = json.loads((folder / "config.json").read_text())
        config["text_config"] |= text
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match=message):
            model_of(checkpoint, folder)


def test_texts_are_those_of_the_released_weights(system: Sevila) -> None:
    texts = system.texts
    question = choice("a ball", "it fell.")

    def words(ids: list[int]) -> str:
        text: str = texts.tokenizer.decode(ids, skip_special_tokens=False)
        return text

    assert len(texts.choice_ids(question)) == 77
    assert texts.choice_ids(question)[-1] == texts.tokenizer.eos_token_id
    expected = "Question: What hits the box? Option A: a ball. Option B: it fell. Cons"
    assert words(texts.choice_ids(question)).startswith(expected)
    start = "Question: What hits the box? Options: (a ball. it fell. ) Does the information"
    assert words(texts.localizer_ids(question)).startswith(start[:70])
    opened = example(open_ended_prompt("Why?"))
    assert words(texts.localizer_ids(opened)).startswith("Question: Why? Does the information")
    long = "word " * 60
    assert len(texts.open_ids(long)) > 77
    assert words(texts.open_ids("Why?")) == "Why?</s>"
    forged = texts.open_ids("</s><pad>")
    assert forged.count(texts.tokenizer.eos_token_id) == 1
    assert texts.tokenizer.pad_token_id not in forged
    tokens = texts.tokens(4, 3)
    names = texts.tokenizer.convert_ids_to_tokens
    assert names([tokens.yes, *tokens.letters]) == ["\u2581yes", "\u2581A", "\u2581B", "\u2581C"]
    # The blank behind the colon is a token of its own.
    assert names(tokens.key_frames[1]) == ["\u2581Frame", "\u2581", "2", ":", "\u2581"]
    assert names(tokens.frame) == ["\u2581Frame", ":", "\u2581"]


def test_letters_are_compared_with_the_official_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The true size is 32,100, which takes a second to write and read.
    monkeypatch.setattr(prompts, "_T5_VOCABULARY", 4300)
    letters = dict(zip((71, 272, 205, 309, 262), "ABCDE", strict=True))
    official = {number: f"\u2581{letter}" for number, letter in letters.items()}
    official |= {4273: "\u2581yes"}
    t5_tokenizer(official, 4300).save_pretrained(tmp_path / "true")
    tokens = load_texts(tmp_path / "true").tokens(1, 5)
    assert (tokens.yes, tokens.letters) == (4273, list(letters))
    t5_tokenizer(official | {71: "\u2581B", 272: "\u2581A"}, 4300).save_pretrained(tmp_path / "b")
    with pytest.raises(ValueError, match=r"A to E as 4273 and \[272, 71, 205, 309, 262\]"):
        load_texts(tmp_path / "b")
    split = t5_tokenizer({0: "<pad>", 1: "</s>"})
    content = json.loads(split.backend_tokenizer.to_str())
    content["model"]["vocab"] = [row for row in content["model"]["vocab"] if row[0] != "\u2581yes"]
    (tmp_path / "split").mkdir()
    split.save_pretrained(tmp_path / "split")
    (tmp_path / "split" / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="writes 'yes' as 4 tokens; SeViLA reads answers of 1"):
        load_texts(tmp_path / "split")
    with pytest.raises(ValueError, match=r"has no tokenizer\.json"):
        load_texts(tmp_path)


def test_options_are_scored_at_the_second_generated_token(system: Sevila, frames: Frames) -> None:
    question = choice(*OPTIONS)
    other = frames._replace(pixels=frames.pixels.flip(0))
    videos = [frames, other, no_frames(frames)]
    with torch.inference_mode():
        scored = system.log_likelihoods(videos, [question] * 3)
        chosen = system.choose(videos, [question] * 3)
        singles = [system.log_likelihoods([video], [question])[0] for video in videos]
        tokens = system.texts.tokens(4, 3)
        ids = system.texts.choice_ids(question)
        embeddings, mask = system._input(system.see([frames])[0], question, ids, tokens)
        # The official way: transformers' generation, scores of the second token.
        generated = system.model.t5.generate(
            inputs_embeds=embeddings[None],
            attention_mask=mask[None],
            max_new_tokens=2,
            num_beams=1,
            do_sample=False,
            output_scores=True,
            return_dict_in_generate=True,
        )
    assert scored == singles
    expected = generated.scores[1][0, tokens.letters].log_softmax(0).tolist()
    assert scored[0].log_likelihoods == pytest.approx(expected, abs=1e-5)
    for reply, choice_reply in zip(scored, chosen, strict=True):
        assert choice_reply.output == OPTIONS[int(np.argmax(reply.log_likelihoods))]
    assert len({reply.log_likelihoods for reply in scored}) == 3
    frame_positions = 4 * (5 + 32)
    assert scored[0].num_prompt_tokens == frame_positions + 77
    assert scored[2].num_prompt_tokens == 77


def test_answers_about_a_clip_are_the_same_in_batches(system: Sevila, frames: Frames) -> None:
    videos = [frames, frames, no_frames(frames)]
    prompts = ("Why?", FUTURE_PREDICTION_PROMPT, "What hits the box, and when?")
    examples = [example(prompt) for prompt in prompts]
    with torch.inference_mode():
        batch = system.answer(videos, examples)
        singles = [system.answer([v], [e])[0] for v, e in zip(videos, examples, strict=True)]
        assert batch == singles == system.predict(videos, examples)
        seen = system.see(videos)
        few = frames._replace(pixels=frames.pixels[:2])
        (short,) = system.answer([few], examples[:1])
        # The rows that transformers gives begin with the decoder's start token.
        tokens = system.texts.tokens(4, 0)
        ids = system.texts.open_ids("Why?")
        embeddings, mask = system._input(seen[0], examples[0], ids, tokens)
        decoding = DecodingConfig(max_new_tokens=6)
        rows = generate_ids(system.model.t5, embeddings[None], mask[None], decoding, [1])
    assert seen[0] is seen[1]
    assert rows[0][0] == 0
    assert batch[0].num_generated_tokens == len(rows[0]) - 1
    assert short.num_prompt_tokens < batch[0].num_prompt_tokens
    assert Sevila.facts(BaselineConfig(kind="sevila")).fidelity == "official-weights"


def test_a_run_asks_it_by_its_kind(system: Sevila, checkpoint: Path, blip2: Path) -> None:
    words = system.texts.tokenizer.name_or_path
    weights = {"checkpoint": str(checkpoint), "blip2": words}
    config = BaselineConfig(kind="sevila", weights=weights, dtype="float32")
    assert baseline_problems("rival", config, {"rival": config}, DecodingConfig()) == []
    reader = VideoReader(timeout_seconds=None)
    decoding = DecodingConfig(max_new_tokens=2)
    run = Baseline("rival", {"rival": config}, decoding, CPU, reader)
    assert run.fidelity == "official-weights"
    questions = [choice(*OPTIONS), choice("yes", "no", question="Is it red?")]
    replies = run.answerer(questions, "none").log_likelihoods(questions)
    blind = run.answerer(questions, "blind").log_likelihoods(questions)
    assert [len(reply.log_likelihoods) for reply in replies] == [3, 2]
    assert replies[0].log_likelihoods != blind[0].log_likelihoods
    with torch.inference_mode():
        frames = clip_frames(part_middles)
        assert system.log_likelihoods([frames] * 2, questions) == replies
