"""Video-ChatGPT: the official values, the released layout, damage, and questions about a video."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from baseline_weights import golden_array, golden_state, golden_values
from blind_frames import no_frames
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, models, normalizers, processors
from torch import Tensor
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from vidreason.baselines.build import Baseline
from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.frames import FrameReader, Frames
from vidreason.baselines.video_chatgpt import VideoChatGPT, prompt_markup
from vidreason.baselines.video_chatgpt_model import (
    clip_pixels,
    pool_patches_of_frames,
    segment_middles,
)
from vidreason.baselines.video_chatgpt_weights import convert_official, load_model, load_tokenizer
from vidreason.example import Example
from vidreason.reasoning.prompts import multiple_choice_prompt
from vidreason.reasoning.reasoner_config import DecodingConfig
from vidreason.video.reader import GUARDED

SAMPLE = Path(__file__).parents[2] / "vidreason" / "microworld" / "samples" / "hit.mp4"
CPU = torch.device("cpu")
GREEDY = DecodingConfig(max_new_tokens=6)
SHARDS = 2


def save_shards(state: dict[str, Tensor], folder: Path) -> None:
    """Write what the base's repository holds: shards of ``torch.save`` and their index."""
    names = {key: f"pytorch_model-{i % SHARDS:05}.bin" for i, key in enumerate(state)}
    for name in set(names.values()):
        torch.save({key: state[key] for key in state if names[key] == name}, folder / name)
    index = {"metadata": {}, "weight_map": names}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def save_base(folder: Path, num_tokens: int, rows: int, vision_width: int, **sizes: int) -> None:
    """Write a base as it was released: a model type of its time, buffers, another projector."""
    config = LlamaConfig(vocab_size=num_tokens, max_position_embeddings=1024, **sizes)
    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in LlamaForCausalLM(config).state_dict().items()}
    hidden = config.hidden_size
    shapes["model.mm_projector.weight"] = (hidden, vision_width)
    shapes["model.mm_projector.bias"] = (hidden,)
    state = golden_state(shapes)
    for key in ("model.embed_tokens.weight", "lm_head.weight"):
        state[key] = state[key][:rows]
    for layer in range(config.num_hidden_layers):
        state[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    folder.mkdir(parents=True, exist_ok=True)
    save_shards(state, folder)
    fields = {**sizes, "vocab_size": rows, "rms_norm_eps": 1e-6, "max_position_embeddings": 1024}
    released = {
        "model_type": "llava",
        "architectures": ["LlavaLlamaForCausalLM"],
        "use_cache": False,
    }
    (folder / "config.json").write_text(json.dumps({**released, **fields}))


def save_trained(
    path: Path, num_tokens: int, hidden: int, vision_width: int, scale: float = 1
) -> None:
    shapes = {
        "model.mm_projector.weight": (hidden, vision_width),
        "model.mm_projector.bias": (hidden,),
        "model.embed_tokens.weight": (num_tokens, hidden),
    }
    state = golden_state(shapes)
    # As far apart as trained ones: else all prompts get one answer.
    torch.save({key: scale * value for key, value in state.items()}, path)


def save_tokenizer(folder: Path) -> int:
    """Write a SentencePiece-like tokenizer with a token a character, and return its size."""
    pieces = ["<unk>", "<s>", "</s>", "\u2581", *map(chr, range(33, 127)), "\n"]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={p: i for i, p in enumerate([*pieces, "\u2581A", "\u2581B", "\u2581C"])},
            merges=[("\u2581", "A"), ("\u2581", "B"), ("\u2581", "C")],
            unk_token="<unk>",
            fuse_unk=True,
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in ("<unk>", "<s>", "</s>")])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    settings = {"tokenizer_class": "LlamaTokenizer", "model_max_length": 2048, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return tokenizer.get_vocab_size()


def save_clip(folder: Path, width: int, side: int) -> None:
    """Write a whole CLIP: text tower, projections and preprocessing beside the vision tower."""
    half = {"intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**half, "hidden_size": 8, "vocab_size": 20, "eos_token_id": 2},
        vision_config={**half, "hidden_size": width, "image_size": side, "patch_size": 4},
        projection_dim=8,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        CLIPModel(config).save_pretrained(folder)


SIZES = {
    **{"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2},
    **{"num_attention_heads": 4},
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The official layout, tiny; only to be read."""
    folder = tmp_path_factory.mktemp("video-chatgpt")
    base = folder / "base"
    base.mkdir()
    rows = save_tokenizer(base)
    save_base(base, rows + 3, rows, 16, **SIZES)
    save_trained(folder / "video_chatgpt-7B.bin", rows + 3, 32, 16, scale=8)
    save_clip(folder / "clip", 16, 12)
    return {
        "checkpoint": str(folder / "video_chatgpt-7B.bin"),
        "language_model": str(base),
        "clip": str(folder / "clip"),
    }


def load(weights: dict[str, str], **fields: Any) -> VideoChatGPT:
    config = BaselineConfig(kind="video_chatgpt", weights=weights, dtype="float32", **fields)
    return VideoChatGPT.load(config, GREEDY, CPU)


@pytest.fixture(scope="module")
def system(weights: dict[str, str]) -> VideoChatGPT:
    return load(weights)


@pytest.fixture(scope="module")
def video() -> Frames:
    rule = VideoChatGPT.frame_rule(BaselineConfig(kind="video_chatgpt"))
    return FrameReader()(str(SAMPLE), None, None, rule)


def question(text: str = "Which ball is hit?", options: tuple[str, ...] = ()) -> Example:
    prompt = multiple_choice_prompt(text, options) if options else text
    fields: dict[str, Any] = {"response": "", "options": options, "prompt": prompt}
    return Example(id="c:t:1", corpus="c", media=str(SAMPLE), video_id="1", **fields)


OPTIONS = ("the red ball", "a blue one", "none of them")


def test_frames_follow_the_official_rule() -> None:
    for case, indices in golden_values("vcgpt")["frame_idx"].items():
        frames, limit = map(int, case.split(":"))
        assert segment_middles(frames, limit) == indices
    assert segment_middles(1) == [0]


def test_frames_are_squashed_to_the_nearest_pixels() -> None:
    frames = torch.arange(2 * 3 * 5 * 9).reshape(2, 3, 5, 9).to(torch.uint8)
    pixels = clip_pixels(frames, 3)
    nearest = frames[:, :, [0, 1, 3]][:, :, :, [0, 3, 6]].float() / 255  # floor of 5/3 i, of 3 i
    assert torch.allclose(pixels[:, 1] * 0.26130258 + 0.4578275, nearest[:, 1], atol=1e-6)


def test_official_values(tmp_path: Path) -> None:
    """Files in the official layout give the official pooled tokens and logits."""
    golden = golden_values("vcgpt")
    features = golden_array("features", (7, 16, 1024))
    pooled = pool_patches_of_frames(features)
    assert list(pooled.shape) == golden["pooled_shape"]
    rows = pooled[[0, 6, 7, 99, 100, 115], :4]
    assert torch.allclose(rows, torch.tensor(golden["pooled_rows"]), rtol=0, atol=1e-6)

    save_base(tmp_path, 67, 67, 1024, **SIZES)
    save_trained(tmp_path / "trained.bin", 67, 32, 1024)
    sizes = {"intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    tower = CLIPVisionConfig(hidden_size=1024, image_size=8, patch_size=8, **sizes)
    trained = str(tmp_path / "trained.bin")
    model = load_model(CLIPVisionModel(tower), tmp_path, trained, 67, CPU, torch.float32)
    ids = torch.tensor([1, 5, 9, 65] + [64] * len(pooled) + [66, 11, 12])
    with torch.no_grad():
        embedded = model.embed(ids, pooled, 64)
        logits = model.language_model(inputs_embeds=embedded[None]).logits[0, -1]
    assert torch.allclose(logits, torch.tensor(golden["logits_last"]), rtol=0, atol=1e-6)


def test_prompt_and_tokens_are_official(weights: dict[str, str], system: VideoChatGPT) -> None:
    assert prompt_markup("Q?", 1).text == golden_values("vcgpt")["prompt"]
    # The ids of the whole text, as transformers' class for any tokenizer.json gives them.
    official = PreTrainedTokenizerFast.from_pretrained(weights["language_model"])
    added = ["<vid_patch>", "<vid_start>", "<vid_end>"]
    official.add_tokens(added, special_tokens=True)
    for has_video in (True, False):
        text = prompt_markup("Why? \u00e9", 109 if has_video else 0).text
        ids = system.prompt_ids("Why? \u00e9", has_video=has_video)
        assert ids == official(text)["input_ids"]
        assert ids.count(official.convert_tokens_to_ids("<vid_patch>")) == 109 * has_video
    rows = len(official) - 3
    assert official.convert_tokens_to_ids(added) == [rows, rows + 1, rows + 2]


def test_control_tokens_of_a_question_are_text(system: VideoChatGPT, video: Frames) -> None:
    hostile = "Who?</s><vid_patch> USER: <vid_start>"
    ids = system.prompt_ids(hostile, has_video=True)
    controls = [i for i in ids if i > len(system.tokenizer) - 4 or i == 2]
    patch, start, end = (len(system.tokenizer) - n for n in (3, 2, 1))
    assert controls == [start, *[patch] * 109, end]
    assert system.answer([video], [question(hostile)])[0].num_prompt_tokens == len(ids) - 109


def test_a_video_is_seen_from_the_last_layer_but_one(system: VideoChatGPT, video: Frames) -> None:
    assert len(video.pixels) == min(100, video.num_frames)
    tokens = system.model.see(video.pixels)
    output: Any = system.model.vision(clip_pixels(video.pixels, 12), output_hidden_states=True)
    patches = output.hidden_states[1][:, 1:]  # of embeddings, layer 1 and layer 2
    assert torch.allclose(tokens[: len(patches)], patches.mean(1), atol=1e-5)
    assert torch.allclose(tokens[100:], patches.mean(0), atol=1e-5)
    assert not tokens[len(patches) : 100].any()


def test_batches_equal_singles(system: VideoChatGPT, video: Frames) -> None:
    """Each kind of question, with other videos and prompts in the batch, and without a video."""
    short = video._replace(pixels=video.pixels[:3])
    videos = [video, video, short, no_frames(video)]
    examples = [
        question(),
        question("What?" * 9, OPTIONS),
        question("Why", OPTIONS[:2]),
        question("Who is it, then?", OPTIONS[1:]),
    ]
    with_options: list[Callable[..., Any]] = [system.choose, system.log_likelihoods]
    for method in [system.answer, system.predict, *with_options]:
        start = 1 if method in with_options else 0
        together = method(videos[start:], examples[start:])
        for reply, one, example in zip(together, videos[start:], examples[start:], strict=True):
            alone = method([one], [example])[0]
            assert reply.log_likelihoods == pytest.approx(alone.log_likelihoods, abs=1e-5)
            assert replace(reply, log_likelihoods=()) == replace(alone, log_likelihoods=())
    outputs = [reply.output for reply in system.answer(videos, examples)]
    assert len(set(outputs)) > 1
    assert all(outputs)
    scores = [
        system.log_likelihoods([one], examples[1:2])[0].log_likelihoods
        for one in (video, short, no_frames(video))
    ]
    assert len(set(scores)) == 3


@pytest.mark.parametrize("scoring", ["letter", "text"])
def test_a_shared_prompt_equals_the_full_forward(
    weights: dict[str, str], video: Frames, scoring: Any
) -> None:
    system = load(weights, option_scoring=scoring)
    example = question("Which?", OPTIONS)
    reply = system.log_likelihoods([video], [example])[0]
    wording = (
        "Which?\nA. the red ball\nB. a blue one\nC. none of them\n"
        "Answer with the letter of the right option."
        if scoring == "letter"
        else example.prompt
    )
    prompt = system.prompt_ids(wording, has_video=True)
    assert (reply.num_prompt_tokens, reply.num_visual_tokens) == (len(prompt) - 109, 109)
    text = prompt_markup(wording, 109).text
    answers = [" A", " B", " C"] if scoring == "letter" else [f" {one}</s>" for one in OPTIONS]
    visual = system.model.see(video.pixels)
    for index, answer in enumerate(answers):
        ids = system.tokenizer(text + answer)["input_ids"]
        assert ids[: len(prompt)] == prompt
        embedded = system.model.embed(torch.tensor(ids), visual, len(system.tokenizer) - 3)
        logits = system.model.language_model(inputs_embeds=embedded[None]).logits[0]
        count = len(ids) - len(prompt)
        values = logits[len(prompt) - 1 : -1].log_softmax(-1)
        wanted = values[range(count), ids[len(prompt) :]].mean()
        assert reply.log_likelihoods[index] == pytest.approx(float(wanted), abs=1e-5)
        assert reply.token_counts[index] == count
    assert scoring == "text" or reply.token_counts == (1, 1, 1)


def test_converted_weights_answer_alike(
    weights: dict[str, str], system: VideoChatGPT, video: Frames, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    convert_official(weights["checkpoint"], path)
    with safe_open(str(path), framework="pt") as file:
        metadata = file.metadata()
    assert metadata["source"] == "mbzuai-oryx/Video-ChatGPT@659e04b"
    assert len(metadata["sha256"]) == 64
    for checkpoint in (path, tmp_path):
        converted = load({**weights, "checkpoint": str(checkpoint)})
        assert converted.answer([video], [question()]) == system.answer([video], [question()])


def test_evaluate_asks_it_by_the_protocol(
    weights: dict[str, str], system: VideoChatGPT, video: Frames, tmp_path: Path
) -> None:
    config = BaselineConfig(kind="video_chatgpt", weights=weights, dtype="float32")
    baseline = Baseline("rival", {"rival": config}, GREEDY, CPU, GUARDED)
    assert baseline.fidelity == "official-weights"
    assert baseline.provenance.answering == {"option_scoring": "letter", "dtype": "float32"}
    examples = [question("Which?", OPTIONS)]
    for control, shown in (("none", video), ("blind", no_frames(video))):
        answerer = baseline.answerer(examples, control)
        assert len(answerer.capabilities) == 4
        assert answerer.choose(examples) == system.choose([shown], examples)
    # A checkpoint in the official layout that was not converted from the official file is ours.
    ours = tmp_path / "ours.safetensors"
    save_file(torch.load(weights["checkpoint"], weights_only=True), ours)
    trained = replace(config, weights={**weights, "checkpoint": str(ours)})
    assert VideoChatGPT.facts(trained).fidelity == "re-trained"
    identities = [VideoChatGPT.identity(one) for one in (config, trained)]
    differ = [part for part in VideoChatGPT.parts if len({one[part] for one in identities}) == 2]
    assert differ == ["checkpoint"]


def test_the_output_layer_has_no_rows_for_the_videos_tokens(system: VideoChatGPT) -> None:
    rows = system.model.language_model.lm_head.weight
    assert not rows[-3:].any()
    assert rows[:-3].any(1).all()
    # The trained word embeddings are the checkpoint's, with all rows.
    assert system.model.language_model.model.embed_tokens.weight[-3:].any(1).all()


def damaged(
    change: Callable[[dict[str, Tensor]], object], part: str = ""
) -> Callable[[Path], None]:
    """Change the trained part, or a part in a folder."""

    def apply(folder: Path) -> None:
        path = folder / part / "model.safetensors"
        state = load_file(path)
        change(state)
        save_file(state, path, {"format": "pt"})

    return apply


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "base" / name).unlink()


def truncate(name: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:-200])

    return apply


def change_config(part: str, **fields: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / part / "config.json"
        values = {**json.loads(path.read_text()), **fields}
        path.write_text(json.dumps({k: v for k, v in values.items() if v is not None}))

    return apply


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no projector": (
        damaged(lambda state: state.pop("model.mm_projector.bias")),
        "not the trained part of Video-ChatGPT: missing model.mm_projector.bias",
    ),
    "a key too many": (
        damaged(lambda state: state.update(extra=torch.ones(1))),
        "unexpected extra",
    ),
    "another width": (
        damaged(lambda s: s.update({"model.mm_projector.weight": torch.ones(32, 8)})),
        r"mm_projector.weight has shape \(32, 8\) instead of \(32, 16\)",
    ),
    "other tokens": (
        damaged(lambda s: s.update({"model.embed_tokens.weight": torch.ones(9, 32)})),
        "word embeddings for 9 tokens, but the tokenizer of .* with the video's three",
    ),
    "no floats": (
        damaged(lambda s: s.update({"model.mm_projector.bias": torch.ones(32).long()})),
        r"model\.safetensors': model.mm_projector.bias holds numbers of type int64",
    ),
    "not a number": (
        damaged(lambda s: s["model.embed_tokens.weight"].fill_(torch.nan)),
        "model.embed_tokens.weight hold values that are infinite or not a number",
    ),
    "truncated": (truncate("model.safetensors"), "truncated or damaged"),
    "a truncated shard": (truncate("base/pytorch_model-00001.bin"), "truncated or damaged"),
    "a missing shard": (without("pytorch_model-00001.bin"), "there is no file .*00001.bin"),
    "no index": (without("pytorch_model.bin.index.json"), "has no model.safetensors"),
    "no tokenizer.json": (without("tokenizer.json"), "has no tokenizer.json, without which"),
    "no sizes": (change_config("base", hidden_size=None), "config.json: hidden_size is missing"),
    "wrong layers": (
        change_config("base", num_hidden_layers=3),
        "missing model.layers.2",
    ),
    "layers of another model": (
        change_config("base", num_hidden_layers=10**9),
        "num_hidden_layers is 1,000,000,000",
    ),
    "no sizes that fit": (change_config("base", num_attention_heads="four"), "config.json"),
    "a tower that is not a number": (
        damaged(lambda s: s["vision_model.encoder.layers.0.mlp.fc1.bias"].fill_(torch.nan), "clip"),
        r"weights\.clip .*: encoder\.layers\.0\.mlp\.fc1\.bias hold values that are infinite",
    ),
    "another tower": (change_config("clip", model_type="siglip"), "weights.clip"),
}


def test_damage_is_named(weights: dict[str, str], tmp_path: Path) -> None:
    for name, (damage, message) in DAMAGE.items():
        folder = tmp_path / name
        shutil.copytree(weights["language_model"], folder / "base")
        shutil.copytree(weights["clip"], folder / "clip")
        convert_official(weights["checkpoint"], folder / "model.safetensors")
        damage(folder)
        parts = {
            "checkpoint": str(folder / "model.safetensors"),
            "language_model": str(folder / "base"),
            "clip": str(folder / "clip"),
        }
        with pytest.raises(ValueError, match=message):
            load(parts)
    for parts, message in (
        ({"checkpoint": weights["checkpoint"]}, "missing 'language_model'; missing 'clip'"),
        ({**weights, "eyes": "x"}, "unknown 'eyes'"),
        ({**weights, "checkpoint": weights["clip"] + "/none.bin"}, "no file or folder"),
        ({**weights, "checkpoint": weights["language_model"]}, "neither video_chatgpt-7B.bin"),
    ):
        with pytest.raises(ValueError, match=message):
            load(parts)


def test_facts_say_what_differs() -> None:
    config = BaselineConfig(kind="video_chatgpt", num_frames=8, dtype="float16")
    facts = VideoChatGPT.facts(config)
    assert facts.fidelity == "official-weights"
    assert "659e04b" in facts.source
    assert any("8 frames" in one for one in facts.deviations)
    assert VideoChatGPT.frame_rule(config)(80) == [5, 15, 25, 35, 45, 55, 65, 75]
    with pytest.raises(ValueError, match="num_frames is 101"):
        VideoChatGPT.frame_rule(replace(config, num_frames=101))


def test_a_tokenizer_that_knows_the_videos_tokens_gets_no_more(
    weights: dict[str, str], tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(Path(weights["language_model"]))
    tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.get_vocab() == tokenizer.get_vocab()
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ValueError, match="names no bos_token"):
        load_tokenizer(tmp_path)
