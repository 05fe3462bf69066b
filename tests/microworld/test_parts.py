import random
import re
from itertools import islice
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from experiments.experiment_config import ExperimentConfig
from experiments.pretrain_microworld import main, pretrain
from vidreason.config import merge_config
from vidreason.microworld import parts
from vidreason.microworld.encoder_pretraining import pretrain_encoder
from vidreason.microworld.instructions import questions_about
from vidreason.microworld.language import story
from vidreason.microworld.language_pretraining import (
    build_language_model,
    deepened,
    documents,
    encode_story,
    story_embeddings,
    train_tokenizer,
)
from vidreason.microworld.renderer import render_frame, render_masks
from vidreason.microworld.scenes import draw_rollout, draw_rollouts
from vidreason.microworld.segmenter_pretraining import pretrain_segmenter
from vidreason.perception.models import build_segmenter, build_video_encoder
from vidreason.reasoning.log_likelihoods import text_log_likelihoods
from vidreason.reasoning.prompts import CAPTION_PROMPT
from vidreason.reasoning.tokenization import encode_example, encode_prompt

CONFIG = "experiments/configs/microworld.yaml"


def test_the_parts_are_small_enough_to_ship():
    files = [path for path in parts.PARTS_FOLDER.rglob("*") if path.is_file()]
    assert {"encoder.safetensors", "segmenter.safetensors"} <= {path.name for path in files}
    assert sum(path.stat().st_size for path in files) < 10 * 2**20


def test_the_shipped_encoder_fits_its_configuration():
    config = merge_config(ExperimentConfig, [CONFIG]).perceiver.video_encoder
    encoder = build_video_encoder(config)
    frames = torch.zeros(1, 1, config.num_frames, 3, config.image_size, config.image_size)
    assert torch.isfinite(encoder(frames).clip_tokens).all()


@pytest.mark.parametrize(
    ("with_screen", "share"),
    # Of what a screen hides, some slivers are missed.
    [(False, 0.9), (True, 0.75)],
)
def test_the_shipped_segmenter_finds_the_objects_of_unseen_scenes(with_screen: bool, share: float):
    segmenter = build_segmenter(merge_config(ExperimentConfig, [CONFIG]).perceiver.segmenter)
    overlaps = []
    for _, rollout in draw_rollouts("segmenter test", 60):
        if (rollout.scene.screen is not None) != with_screen or len(overlaps) > 50:
            continue
        frame = torch.from_numpy(render_frame(rollout, 4.0).copy()).permute(2, 0, 1)
        objects = [item.mask for item in segmenter.segment(frame[None])[0]]
        for true in render_masks(rollout, 4.0).values():
            if true.sum() >= 60:
                mask = torch.from_numpy(true.copy())
                shares = [float((mask & f).sum() / (mask | f).sum()) for f in objects]
                overlaps.append(max(shares, default=0.0))
    print(sum(overlap > 0.6 for overlap in overlaps), len(overlaps))
    assert len(overlaps) > 15
    assert sum(overlap > 0.6 for overlap in overlaps) >= share * len(overlaps)


def test_the_shipped_language_model_reads():
    tokenizer = AutoTokenizer.from_pretrained(parts.LANGUAGE_MODEL_FOLDER)
    model = LlamaForCausalLM.from_pretrained(
        parts.LANGUAGE_MODEL_FOLDER, dtype=torch.float32
    ).eval()
    unseen = (document for document in documents(seed=99) if document.sentences)
    drawn = list(islice((each for each in unseen if each.text.prompt == CAPTION_PROMPT), 20))
    prompt = encode_prompt(tokenizer, CAPTION_PROMPT)
    words = model.get_input_embeddings()

    @torch.inference_mode()
    def told(stories: list[list[str]]) -> float:
        """Share of the tokens of the responses that are the likeliest next ones."""
        right = []
        for sentences, document in zip(stories, drawn, strict=True):
            story = story_embeddings(model, encode_story(tokenizer, sentences))
            wanted = tokenizer(document.text.response, add_special_tokens=False).input_ids
            text = words(torch.tensor([*prompt, *wanted]))
            logits = model(inputs_embeds=torch.cat([story, text])[None]).logits[0]
            likeliest = logits.argmax(1)[-len(wanted) - 1 : -1]
            right += (likeliest == torch.tensor(wanted)).tolist()
        return sum(right) / len(right)

    stories = [document.sentences for document in drawn]
    assert told(stories) > 0.8
    assert told([list(reversed(story)) for story in stories]) > 0.8
    assert told([*stories[1:], stories[0]]) < 0.6


@pytest.mark.parametrize(
    ("template", "share"),
    [
        ("which of the two happens first", 0.7),
        ("which of the two happens last", 0.7),
        ("when in the video", 0.8),
    ],
)
def test_the_shipped_language_model_answers_of_a_story(template: str, share: float):
    """Guesses are right in a half, a half and a third."""
    tokenizer = AutoTokenizer.from_pretrained(parts.LANGUAGE_MODEL_FOLDER)
    model = LlamaForCausalLM.from_pretrained(parts.LANGUAGE_MODEL_FOLDER, dtype=torch.float32)
    generator = random.Random("answers of a story")
    rollouts = [draw_rollout(generator) for _ in range(40)]
    drawn = questions_about(rollouts, generator)
    questions = [
        (number, question.answer, prompt)
        for number, question, prompt in (*drawn["nextqa"], *drawn["test_of_time"])
        if prompt.startswith(template)
    ][:32]
    torch.manual_seed(0)
    right = []
    for number, answer, prompt in questions:
        options = re.findall(r"^\([A-E]\) (.*)$", prompt, re.MULTILINE)
        texts = [encode_example(tokenizer, prompt, option, 448) for option in options]
        sentences = encode_story(tokenizer, [f" {text}." for text in story(rollouts[number])])
        # Told again and again, in as many embeddings as it was read in.
        told = story_embeddings(model, sentences)[torch.arange(32) % len(sentences)][None]
        with torch.inference_mode():
            values = text_log_likelihoods(model, told, [0] * len(texts), texts)
        right.append(options[int(values.argmax())] == answer)
    assert len(right) == 32
    assert sum(right) >= share * len(right)


@pytest.mark.slow
def test_documents_are_the_same_again_and_some_are_blind():
    first, again = (list(islice(documents(seed=5), 300)) for _ in range(2))
    assert first == again
    assert 0.01 < sum(not each.sentences for each in first) / len(first) < 0.2


def test_a_deeper_language_model_says_the_same_at_first():
    tokenizer = AutoTokenizer.from_pretrained(parts.LANGUAGE_MODEL_FOLDER)
    model = build_language_model(tokenizer, width=32, num_layers=2)
    ids = torch.tensor([[1, 7, 9, 4]])
    deeper = deepened(model, 5)
    assert deeper.config.num_hidden_layers == len(deeper.model.layers) == 5
    assert torch.equal(deeper(ids).logits, model(ids).logits)
    loss = deeper(ids, labels=ids).loss
    loss.backward()
    assert all(layer.mlp.down_proj.weight.grad.any() for layer in deeper.model.layers)
    with pytest.raises(ValueError, match="num_layers: expected at least 2"):
        deepened(model, 1)


@pytest.mark.slow
def test_the_tokenizer_spells_any_text():
    tokenizer = train_tokenizer(parts.VOCAB_SIZE)
    for text in (
        "the red circle hits the blue square.",
        "na\u00efve \u4f60\u597d \U0001f600",
    ):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text
    text = "a red circle moves fast up and slightly right at f11."
    sentence = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.batch_decode([[token] for token in sentence]) == [
        *("a red circle", " moves", " fast", " up and slightly right at", " f", "11."),
    ]


def test_each_word_of_a_sentence_has_a_part_of_its_embedding():
    tokenizer = AutoTokenizer.from_pretrained(parts.LANGUAGE_MODEL_FOLDER)
    model = build_language_model(tokenizer, width=32, num_layers=1)
    words = model.get_input_embeddings().weight
    hits, is_hit, alone, nothing = (
        story_embeddings(model, [[1, 2, 3]]),
        story_embeddings(model, [[3, 2, 1]]),
        story_embeddings(model, [[4, 5], [1, 2, 3]]),
        story_embeddings(model, []),
    )
    assert hits.shape == (1, 32)
    assert nothing.shape == (0, 32)
    assert torch.equal(hits[0, :4], words[1, :4])
    assert torch.equal(is_hit[0, 8:12], words[1, 8:12])
    assert not hits[0, 12:].any()
    assert torch.equal(alone[1], hits[0]), "another sentence changes nothing"
    assert not torch.equal(hits, is_hit), "who acts"


@pytest.mark.slow
def test_pretraining_lowers_its_losses():
    config = parts.perceiver_config()
    torch.manual_seed(0)
    encoder_losses = [
        losses
        for _, losses, _ in pretrain_encoder(
            config.video_encoder, config.sampling, steps=24, batch_size=4, report_every=1
        )
    ]
    assert encoder_losses[-1]["facts"] < 0.8 * encoder_losses[0]["facts"]
    segmenter_losses = [
        losses
        for _, losses, _ in pretrain_segmenter(
            config.segmenter, steps=24, batch_size=1, report_every=1
        )
    ]
    assert segmenter_losses[-1]["mask"] < segmenter_losses[0]["mask"]


@pytest.mark.slow
@pytest.mark.parametrize("part", ["encoder", "segmenter", "language_model"])
def test_the_program_writes_each_part_so_that_it_loads(part: str, tmp_path: Path):
    random.seed(0)
    pretrain(part, 21, tmp_path)
    shipped = {p.relative_to(parts.PARTS_FOLDER) for p in parts.PARTS_FOLDER.rglob("*.*")}
    written = {p.relative_to(tmp_path) for p in tmp_path.rglob("*.*")}
    assert written <= shipped
    assert written


def test_a_seed_draws_other_weights_and_the_same_seed_the_same(tmp_path):
    def trained(*arguments):
        folder = tmp_path / "-".join(arguments)
        assert main(["segmenter", "--steps", "1", "--out", str(folder), *arguments]) == 0
        return (folder / parts.SEGMENTER_WEIGHTS.name).read_bytes()

    shipped, first, again = trained(), trained("--seed", "1"), trained("--seed=1")
    assert first == again != shipped
    for wrong in ("0", "-1"):
        with pytest.raises(SystemExit):
            main(["segmenter", "--steps", wrong, "--out", str(tmp_path)])
