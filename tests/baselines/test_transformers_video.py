"""Video language models of transformers: every preset with tiny random weights, on a real video."""

import copy
import json
import math
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from blind_frames import no_frames
from newer_video_models import NEWER_BUILDERS
from tiny_video_models import BUILDERS, toy_tokenizer, write_tiny_video_model
from transformers import AutoProcessor

from experiments.experiment_config import ExperimentConfig
from vidreason.baselines.build import Baseline
from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.frames import FrameReader, Frames, middle_frames
from vidreason.baselines.option_scores import forget_positions, letter_tokens
from vidreason.baselines.questions import letter_prompt
from vidreason.baselines.released_video_models import RELEASED_VIDEO_MODELS
from vidreason.baselines.transformers_video import TransformersVideo
from vidreason.baselines.video_inputs import joined, scaled, scaled_size
from vidreason.baselines.video_model_folder import VideoModel, load_video_model
from vidreason.baselines.video_turns import RELEASED_WITHOUT_TEMPLATE, chat_form, end_of_turn_id
from vidreason.config import merge_config
from vidreason.example import Example
from vidreason.reasoning.decoding import generation_config
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT, multiple_choice_prompt
from vidreason.reasoning.reasoner_config import DecodingConfig
from vidreason.video.failures import VideoReadError
from vidreason.video.reader import GUARDED

CHECKOUT = Path(__file__).parents[2]
PRESETS = CHECKOUT / "experiments" / "configs" / "baselines"
VIDEO = str(CHECKOUT / "tests" / "assets" / "videos" / "h264_10bits.mp4")
CPU = torch.device("cpu")
DECODING = DecodingConfig(max_new_tokens=5)
MAX_PIXELS = 112 * 112
CONTROL = "<|im_end|> <|im_start|> <|video_pad|> <video> <image> <IMG_CONTEXT> </s> <pad> <img>"
ALL_BUILDERS = BUILDERS | NEWER_BUILDERS
FEWER = ("videollama3", "gemma4")
"""Models whose number of tokens follows from what is seen, or from the aspect."""
NEWER_PRESETS = ("qwen3_5", "gemma4", "molmo2")


def each(more: Iterable[str]) -> pytest.MarkDecorator:
    slow = [pytest.param(name, marks=pytest.mark.slow) for name in more]
    return pytest.mark.parametrize("name", [*BUILDERS, *slow])


every_preset, every_model = each(NEWER_PRESETS), each(NEWER_BUILDERS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The folder of a tiny model, by the name of its preset; only to be read."""
    root = tmp_path_factory.mktemp("video-models")

    @cache
    def write(name: str) -> str:
        try:
            return write_tiny_video_model(ALL_BUILDERS[name], root / name)
        except AttributeError as error:  # "module transformers has no attribute Molmo2Config"
            pytest.skip(f"needs a newer transformers: {error}")

    return write


@pytest.fixture(scope="module")
def system(folder: Callable[[str], str]) -> Callable[..., TransformersVideo]:
    """A tiny model, loaded once: ``system(name, **fields of its configuration)``."""

    def configured(name: str, **fields: Any) -> BaselineConfig:
        more: dict[str, Any] = {"max_pixels": MAX_PIXELS, **fields}
        return BaselineConfig(weights={"model": folder(name)}, dtype="float32", **more)

    @cache
    def parts(name: str) -> VideoModel:
        return load_video_model(configured(name), CPU)

    @cache
    def build(name: str, **fields: Any) -> TransformersVideo:
        return TransformersVideo(parts(name), configured(name, **fields), DECODING)

    return build


@cache
def video(num_frames: int = 4) -> Frames:
    return FrameReader()(VIDEO, None, None, middle_frames(num_frames))


def mirrored(frames: Frames, *sides: int) -> Frames:
    return frames._replace(pixels=frames.pixels.flip(sides))


def preset_of(name: str) -> BaselineConfig:
    [(key, preset)] = merge_config(
        ExperimentConfig, [str(PRESETS / f"{name}.yaml")]
    ).baselines.items()
    assert key == name
    return preset


def choice(question: str, *options: str) -> Example:
    return example(multiple_choice_prompt(question, options), *options)


def example(prompt: str, *options: str) -> Example:
    return Example(
        id=f"test:{prompt[:20]}",
        corpus="nextqa",
        video_id="v",
        media=VIDEO,
        prompt=prompt,
        response="",
        options=options,
        answer_index=0 if options else None,
    )


CHOICES = [
    choice("why did the wheel stop", "somebody held it", "it was broken", "a B"),
    choice("who stands there", "a man", "a dog"),
    choice("what comes after the wheel has stopped turning at last", "it falls", "A", "it turns"),
]


def ask(
    system: TransformersVideo, method: str, frames: Frames, examples: list[Example]
) -> list[Any]:
    with torch.inference_mode():
        replies: list[Any] = getattr(system, method)([frames] * len(examples), examples)
    return replies


def expected_visual_tokens(name: str, frames: Frames, max_pixels: int) -> int:
    """Count by the models' descriptions; of FEWER the most that there can be."""
    num_frames, height, width = len(frames.pixels), *frames.pixels.shape[-2:]
    if name in ("qwen2_5_vl", "qwen3_vl", "qwen3_5", "videollama3"):
        side = 32 if name.startswith("qwen3") else 28
        tall, wide = (length // side for length in scaled_size(height, width, side, max_pixels))
        return tall * wide * (num_frames if name == "videollama3" else math.ceil(num_frames / 2))
    # Sides of 28 pixels, patches of 7 or 14: 4 x 4 pooled by 2 x 2, and a new line; 2 x 2 and CLS.
    return {
        "internvl3": 4 * num_frames,
        "llava_onevision": 4 * num_frames + 1,
        "llava_next_video": 4 * num_frames,
        "video_llava": 5 * num_frames,
        "molmo2": 4 * num_frames,
        "gemma4": 70 * num_frames,
    }[name]


@every_preset
def test_a_preset_answers_chooses_and_predicts_on_a_real_video(
    name: str, folder: Callable[[str], str]
) -> None:
    preset = preset_of(name)
    assert preset.kind == "transformers"
    facts = TransformersVideo.facts(preset)
    assert facts.source.endswith(preset.weights["model"])
    assert facts.fidelity == "generic"
    config = replace(preset, dtype="float32", weights={"model": folder(name)})
    baseline = Baseline(name, {name: config}, DECODING, CPU, GUARDED)
    assert baseline.fidelity == "generic"
    answerer = baseline.answerer(CHOICES, "none")
    assert answerer.capabilities == {"answer", "choose", "predict", "log_likelihoods"}
    assert json.loads(json.dumps(answerer.provenance.answering))["max_pixels"] == config.max_pixels
    frames = video(config.num_frames or 0)
    assert len(frames.pixels) == config.num_frames
    expected = expected_visual_tokens(name, frames, config.max_pixels)
    open_ended = example("What happens? Answer briefly.")
    gone = replace(open_ended, media=f"{VIDEO}.gone")
    answers = answerer.answer([open_ended, gone, open_ended])
    assert answers[0] == answers[2]
    assert isinstance(answers[1].error, VideoReadError)
    replies = [
        answers[0],
        *answerer.choose(CHOICES[:1]),
        *answerer.predict([example(FUTURE_PREDICTION_PROMPT)]),
        *answerer.log_likelihoods(CHOICES[:1]),
    ]
    for reply in replies:
        if name in FEWER:
            assert 0 < reply.num_visual_tokens <= expected
        else:
            assert reply.num_visual_tokens == expected
        assert reply.num_prompt_tokens > 20
        assert reply.num_generated_tokens <= DECODING.max_new_tokens
    assert sum(reply.num_generated_tokens for reply in replies[:3]) > 0
    assert math.fsum(map(math.exp, replies[3].log_likelihoods)) == pytest.approx(1)
    assert replies[3].token_counts == (1, 1, 1)
    [blind] = baseline.answerer(CHOICES, "blind").choose(CHOICES[:1])
    assert (blind.num_visual_tokens, blind.num_generated_tokens > 0) == (0, True)
    [one_frame] = baseline.answerer(CHOICES, "single_frame").choose(CHOICES[:1])
    assert 0 < one_frame.num_visual_tokens < replies[1].num_visual_tokens


@every_model
def test_likelihoods_are_those_of_full_forwards(
    name: str, system: Callable[..., TransformersVideo]
) -> None:
    """With a video, then without: nothing of the video may be left in the model."""
    for scoring in ("letter", "text"):
        one = system(name, option_scoring=scoring)
        for frames in (video(), no_frames(video())):
            # First all with the shared prompt, then each option by itself.
            questions = CHOICES[:2] if len(frames.pixels) else CHOICES[:1]
            replies = ask(one, "log_likelihoods", frames, questions)
            for question, reply in zip(questions, replies, strict=True):
                prompt = letter_prompt(question) if scoring == "letter" else question.prompt
                texts = list("ABC"[: len(question.options)])
                texts = texts if scoring == "letter" else list(question.options)
                totals, counts = full_forwards(one, frames, prompt, texts, scoring == "text")
                expected = torch.tensor(totals)
                if scoring == "letter":
                    expected = expected.log_softmax(0)
                else:
                    expected = expected / torch.tensor(counts)
                    assert reply.token_counts == tuple(counts)
                torch.testing.assert_close(
                    torch.tensor(reply.log_likelihoods), expected, rtol=0, atol=1e-5
                )


def full_forwards(
    system: TransformersVideo, frames: Frames, prompt: str, texts: list[str], ends: bool
) -> tuple[list[float], list[int]]:
    """Log-likelihoods of texts after a prompt, each by a forward of the whole, and their tokens."""
    totals, counts = [], []
    for text in texts:
        row = system._inputs.row(frames, prompt)
        ids = system._inputs.continuation(row, text) + [system._end_of_turn] * ends
        batch = joined([row.extended(ids)], 0, CPU, torch.float32)
        forget_positions(system._model)
        with torch.inference_mode():
            scores = system._model(**batch).logits[0].log_softmax(-1)
        scores = scores[-len(ids) - 1 : -1].gather(1, torch.tensor(ids)[:, None])
        totals.append(float(scores.sum()))
        counts.append(len(ids))
    return totals, counts


def chosen(reply: Any) -> int:
    return max(range(len(reply.log_likelihoods)), key=reply.log_likelihoods.__getitem__)


@every_model
def test_a_batch_is_answered_as_its_questions_alone(
    name: str, system: Callable[..., TransformersVideo]
) -> None:
    one = system(name)
    assert len({len(question.prompt) for question in CHOICES}) == 3
    # Other pictures in each: nothing of one video may be taken for another's.
    turned = [video(), *(mirrored(video(), *sides) for sides in ((-1,), (-1, -2)))]
    with torch.inference_mode():
        together = one.choose(turned, CHOICES)
    for frames, question, reply in zip(turned, CHOICES, together, strict=True):
        assert ask(one, "choose", frames, [question]) == [reply]
    # Videos of other lengths cannot share a batch with some models: they are answered all the same.
    mixed = [*turned[:2], mirrored(video(2), -1), no_frames(video())]
    questions = [*CHOICES, CHOICES[0]]
    with torch.inference_mode():
        replies = one.log_likelihoods(mixed, questions)
    for frames, question, reply in zip(mixed, questions, replies, strict=True):
        [single] = ask(one, "log_likelihoods", frames, [question])
        assert reply.log_likelihoods == pytest.approx(single.log_likelihoods, abs=1e-5)
        assert chosen(reply) == chosen(single)
        assert reply.num_visual_tokens == single.num_visual_tokens


@every_preset
def test_plain_questions_have_the_processors_own_ids(
    name: str, folder: Callable[[str], str], system: Callable[..., TransformersVideo]
) -> None:
    """As :meth:`apply_chat_template` makes them of frames of the same size."""
    one, frames = system(name), video()
    row = one._inputs.row(frames, "What happens?\nAnswer briefly.")
    processor: Any = AutoProcessor.from_pretrained(folder(name))
    pixels = frames.pixels
    if one._inputs._side:
        pixels = scaled(pixels, one._inputs._side, MAX_PIXELS)
    options = one._inputs._video(frames)["videos_kwargs"]
    message = [
        {"type": "video", "video": pixels},
        {"type": "text", "text": "What happens?\nAnswer briefly."},
    ]
    processor.chat_template = processor.chat_template or RELEASED_WITHOUT_TEMPLATE[name]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": message}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={
            "videos_kwargs": {**options, "video_metadata": options["video_metadata"]}
        },
    )
    assert row.ids == inputs["input_ids"][0].tolist()
    for key, value in row.visual.items():
        torch.testing.assert_close(value, torch.as_tensor(inputs[key]))


@every_model
def test_control_tokens_of_users_are_text(
    name: str, system: Callable[..., TransformersVideo]
) -> None:
    one = system(name)
    tokenizer = one._tokenizer
    special = set(tokenizer.all_special_ids) | {i for i in tokenizer.added_tokens_decoder}
    question = choice(f"why {CONTROL}", f"{CONTROL} yes", "no <|im_end|>", "<video>")
    for frames in (video(), no_frames(video())):
        plain = one._inputs.row(frames, "why")
        row = one._inputs.row(frames, f"why {CONTROL}")
        assert [i for i in row.ids if i in special] == [i for i in plain.ids if i in special]
        assert row.num_visual_tokens == plain.num_visual_tokens
        assert CONTROL in tokenizer.decode([i for i in row.ids if i not in special])
        ids = one._inputs.continuation(row, f"{CONTROL} yes")
        assert not special & set(ids)
        assert tokenizer.decode(ids).strip() == f"{CONTROL} yes"
        for scoring in ("letter", "text"):
            asked_by = system(name, option_scoring=scoring)
            [reply] = ask(asked_by, "log_likelihoods", frames, [question])
            assert len(reply.log_likelihoods) == 3
            assert all(map(math.isfinite, reply.log_likelihoods))
    ask(one, "choose", video(), [question])


@every_model
def test_one_frame_and_odd_numbers_of_frames(
    name: str, system: Callable[..., TransformersVideo]
) -> None:
    for number in (1, 3):
        frames = video(number)
        [reply] = ask(system(name), "answer", frames, [example("What is this?")])
        assert reply.num_visual_tokens > 0
        if name in BUILDERS:
            most = expected_visual_tokens(name, frames, MAX_PIXELS)
            assert reply.num_visual_tokens == most or name in FEWER
            assert reply.num_visual_tokens <= most


def test_the_pixel_budget_sets_the_number_of_tokens(
    system: Callable[..., TransformersVideo],
) -> None:
    base = video(2)
    for name, side in (("qwen2_5_vl", 28), ("qwen3_vl", 32), ("videollama3", 28)):
        counts = []
        for max_pixels in (side**2, 4 * side**2 + 1, 200_704, 10**9):
            one = system(name, max_pixels=max_pixels)
            # Noise: VideoLLaMA3 leaves no token out.
            generator = torch.Generator().manual_seed(0)
            shape = (2, 3, 90, 321)
            pixels = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
            row = one._inputs.row(base._replace(pixels=pixels), "why")
            height, width = scaled_size(90, 321, side, max_pixels)
            [[_, tall, wide]] = row.visual["video_grid_thw"].tolist()
            assert (tall * side // 2, wide * side // 2) == (height, width)
            frames_a_token = 1 if name == "videollama3" else 2
            assert row.num_visual_tokens == 2 // frames_a_token * height * width // side**2
            counts.append(row.num_visual_tokens)
        # 90 x 321 is 3 x 10 or 3 x 11 tokens: the last two budgets do not bind.
        assert counts[0] < counts[1] < counts[2] == counts[3]
        with pytest.raises(ValueError, match=rf"max_pixels is 700.*set max_pixels to {side**2}"):
            system(name, max_pixels=700)


def test_a_processor_that_scales_frames_all_the_same_is_refused(
    system: Callable[..., TransformersVideo], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Scaling:
        """A video processor that scales frames whatever it is told."""

        patch_size, merge_size, temporal_patch_size = 16, 2, 2

        def __call__(self, videos: Any, **options: Any) -> Any:
            return proper([pixels[..., ::3] for pixels in videos], **options)

    inputs = system("qwen3_vl")._inputs
    processor = copy.copy(inputs._processor)
    proper = processor.video_processor
    processor.video_processor = Scaling()
    monkeypatch.setattr(inputs, "_processor", processor)
    with pytest.raises(
        ValueError, match=r"Scaling scaled frames of \[96, 96\] pixels to \[96, 32\]"
    ):
        inputs.row(video(2), "why")


def test_a_question_beyond_what_the_model_reads_is_said_once(
    system: Callable[..., TransformersVideo], caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing else would tell it from a bad model: transformers computes on."""
    one = system("llava_next_video", num_frames=2)  # reads 4,096 tokens
    one._rows([video(2)], ["why"])
    assert caplog.text == ""
    for length in (4_100, 5_000):  # a token a letter
        one._rows([video(2)] * 2, ["why", "a" * length])
    [record] = caplog.records
    assert "the model's configuration names at most 4096; lower num_frames" in record.getMessage()


def test_sizes_are_whole_tokens_within_the_budget() -> None:
    for height, width in ((1, 1), (20, 3000), (3000, 20), (720, 1280), (1279, 721), (448, 448)):
        for side, most in ((28, 784), (28, 200_704), (32, 50_000), (28, 10**9)):
            tall, wide = scaled_size(height, width, side, max(most, side**2))
            assert tall % side == wide % side == 0
            assert min(tall, wide) >= side
            assert tall * wide <= max(most, side**2)
            if min(height, width) > 300 and most > 100_000:
                assert tall / wide == pytest.approx(height / width, rel=0.1)
                assert tall * wide > 0.8 * min(most, height * width)
    assert scaled_size(448, 448, 28, 200_704) == (448, 448)
    assert scaled_size(720, 1280, 28, 10**9) == (728, 1288)
    pixels = torch.full((1, 3, 50, 70), 200, dtype=torch.uint8)
    assert (scaled(pixels, 28, 10**6) == 200).all()


def test_prompts_hold_the_frames_own_times(system: Callable[..., TransformersVideo]) -> None:
    frames = video()._replace(seconds=(0.5, 2.04, 7.0, 9.91), num_frames=300, duration_seconds=10.0)
    text = system("qwen3_vl")._inputs.row(frames, "why").markup.text
    # The mean of each pair.
    assert "<1.3 seconds>" in text
    assert "<8.5 seconds>" in text
    text = system("videollama3")._inputs.row(frames, "why").markup.text
    times = ["Time 0.5s:", "Time 2.0s:", "Time 7.0s:", "Time 9.9s:"]
    assert [time in text for time in times] == [True] * 4
    row = system("qwen2_5_vl")._inputs.row(frames, "why")
    # Two frames of 4 in 10 s.
    assert row.visual["second_per_grid_ts"].tolist() == pytest.approx([5.0])


def test_letters_begin_as_the_template_writes_them(
    system: Callable[..., TransformersVideo],
) -> None:
    for name in BUILDERS:
        one = system(name)
        row = one._inputs.row(video(), "why")
        pieces = one._tokenizer.convert_ids_to_tokens(one._inputs.continuation(row, "B"))
        expected = {"llava_next_video": ["\u0120B"], "video_llava": ["\u0120", "B"]}
        assert pieces == expected.get(name, ["B"]), name
    assert letter_tokens([[7, 1], [7, 2, 9]], "x") == ([7], [1, 2])
    for same in ([[7, 1], [7, 1]], [[7], [7, 1]]):
        with pytest.raises(ValueError, match="option_scoring: text"):
            letter_tokens(same, "x")


HEADER = "{% for m in messages %}[{{ m['role'] }}]{% for c in m['content'] %}"
CONTENT = "{% if c['type'] == 'video' %}<video>{% else %}%s{{ c['text'] }}{% endif %}{% endfor %}"
ENDING = "<|im_end|>{% endfor %}{% if add_generation_prompt %}[assistant]%s{% endif %}"


def test_forms_of_templates() -> None:
    tokenizer = toy_tokenizer("<video>")

    def form(content: str = "", asks: str = "") -> Any:
        template = HEADER + CONTENT.replace("%s", content) + ENDING.replace("%s", asks)
        return chat_form(template, tokenizer, "x").with_video

    def shown(one: Any) -> tuple[str, str, str]:
        return one.prompt_markup("Q").text, one.blank, one.after

    plain = "[user]<video>Q<|im_end|>[assistant]"
    assert shown(form()) == (plain, "", "<|im_end|>")
    only = "{% if m['role'] == 'assistant' %}%s{% endif %}"
    # A blank belongs to the answer's first word; a new line that is not asked for is left out.
    assert shown(form(only.replace("%s", " "))) == (plain, " ", "<|im_end|>")
    assert shown(form(only.replace("%s", "\n"))) == (plain, "", "<|im_end|>")
    # An empty block of thoughts is before every answer; one that is opened is left out.
    thoughts = only.replace("%s", "<think></think>\n")
    assert shown(form(thoughts)) == (f"{plain}<think></think>\n", "", "<|im_end|>")
    assert shown(form(asks="<think>")) == (plain, "", "<|im_end|>")
    assert end_of_turn_id(form(), tokenizer, "x") == tokenizer.eos_token_id
    for template, problem in (
        (HEADER + "{% endfor %}{% endfor %}", "leaves out the question"),
        (HEADER + "{{ c['text'] }}{% endfor %}{% endfor %}", "writes nothing for a video"),
        ("{{ messages[0]['content'] + 1 }}", "fails on a question"),
        (
            "{% for c in messages[0]['content'] %}{{ c['text'] }}{% endfor %}",
            "leaves out the answer",
        ),
    ):
        with pytest.raises(ValueError, match=f"x: its chat template {problem}"):
            chat_form(template, tokenizer, "x")
    bare = toy_tokenizer("<video>")
    bare.eos_token = None
    ending = HEADER + CONTENT.replace("%s", "") + "{% endfor %}"
    with pytest.raises(ValueError, match=r"neither .* token that ends an answer"):
        end_of_turn_id(chat_form(ending, bare, "x").with_video, bare, "x")


def test_recommendations_of_a_folder_are_not_used(
    folder: Callable[[str], str], system: Callable[..., TransformersVideo], tmp_path: Path
) -> None:
    """A penalty and a temperature change nothing; a further token that ends answers does."""
    question = [example("What happens?")]
    [before] = ask(system("qwen2_5_vl"), "answer", video(), question)
    shutil.copytree(folder("qwen2_5_vl"), tmp_path / "model")
    recommended = {"repetition_penalty": 50.0, "do_sample": True, "temperature": 9.0}
    path = tmp_path / "model" / "generation_config.json"
    path.write_text(json.dumps(recommended))
    config = BaselineConfig(
        weights={"model": str(tmp_path / "model")}, dtype="float32", max_pixels=MAX_PIXELS
    )
    assert ask(TransformersVideo.load(config, DECODING, CPU), "answer", video(), question) == [
        before
    ]
    with torch.inference_mode():
        one = system("qwen2_5_vl")
        row = one._inputs.row(video(), "What happens?")
        batch = joined([row], 0, CPU, torch.float32)
        ids: Any = one._model.generate(**batch, generation_config=generation_config(DECODING, [0]))
    new = ids[0, len(row.ids) :].tolist()
    # The first token that is not the first one again.
    length = next(n for n, token_id in enumerate(new) if token_id != new[0])
    path.write_text(json.dumps({"eos_token_id": [new[length]]}))
    [after] = ask(TransformersVideo.load(config, DECODING, CPU), "answer", video(), question)
    assert after.num_generated_tokens == length < before.num_generated_tokens


def test_other_ways_of_decoding(folder: Callable[[str], str]) -> None:
    config = BaselineConfig(
        weights={"model": folder("internvl3")}, dtype="bfloat16", max_pixels=MAX_PIXELS
    )
    questions = [example("What happens?"), example("Who is it? Answer briefly.")]
    for decoding in (
        DecodingConfig(strategy="nucleus", max_new_tokens=4, top_p=0.95, seed=3),
        DecodingConfig(strategy="beam", max_new_tokens=4, num_beams=2),
    ):
        one = TransformersVideo.load(config, decoding, CPU)
        assert one._model.dtype == torch.bfloat16
        state = torch.random.get_rng_state()
        first = ask(one, "answer", video(), questions)
        assert torch.equal(torch.random.get_rng_state(), state)
        assert ask(one, "answer", video(), questions) == first


def test_a_changed_chat_template_is_another_model(
    folder: Callable[[str], str], tmp_path: Path
) -> None:
    shutil.copytree(folder("internvl3"), tmp_path / "model")
    config = BaselineConfig(weights={"model": str(tmp_path / "model")})
    before = TransformersVideo.identity(config)
    assert (
        TransformersVideo.identity(replace(config, weights={"model": folder("internvl3")}))
        == before
    )
    with (tmp_path / "model" / "chat_template.jinja").open("a") as file:
        file.write("\n")
    after = TransformersVideo.identity(config)
    assert after["model"] == before["model"]
    assert after["inputs"] != before["inputs"]


def test_presets_and_facts_go_together() -> None:
    presets = {name: preset_of(name) for name in (*BUILDERS, *NEWER_PRESETS)}
    assert {p.weights["model"] for p in presets.values()} == RELEASED_VIDEO_MODELS.keys()
    config = BaselineConfig(weights={"model": "llava-hf/llava-onevision-qwen2-7b-ov-hf"})
    assert "NExT-QA" in TransformersVideo.facts(config).trained_on
    config = BaselineConfig(weights={"model": "/models/LLaVA-Video-7B-Qwen2-hf"})
    assert TransformersVideo.facts(config).trained_on == ("NExT-QA",)
    # A download has seen what its repository has: a folder, or a snapshot in the Hub's cache.
    for name, repository in (
        ("/models/llava-onevision-qwen2-7b-ov-hf", "llava-hf/llava-onevision-qwen2-7b-ov-hf"),
        ("models--LanguageBind--Video-LLaVA-7B-hf/snapshots/1", "LanguageBind/Video-LLaVA-7B-hf"),
    ):
        facts = TransformersVideo.facts(BaselineConfig(weights={"model": name}))
        assert facts.trained_on == RELEASED_VIDEO_MODELS[repository].trained_on != ()
        assert facts.source == name
    mine = BaselineConfig(weights={"model": "/models/mine"})
    assert TransformersVideo.facts(mine).trained_on == ()


def test_wrong_folders_are_named_with_a_remedy(
    folder: Callable[[str], str],
    tiny_language_model_folder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def broken(name: str, change: Callable[[Path], object]) -> str:
        copy = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(folder(name), copy)
        change(copy)
        return str(copy)

    def with_config(**values: Any) -> Callable[[Path], object]:
        def change(copy: Path) -> object:
            content = json.loads((copy / "config.json").read_text())
            return (copy / "config.json").write_text(json.dumps(content | values))

        return change

    def truncated(copy: Path) -> object:
        content = (copy / "model.safetensors").read_bytes()
        return (copy / "model.safetensors").write_bytes(content[: len(content) // 2])

    def without_layer(copy: Path) -> object:
        from safetensors.torch import load_file, save_file

        state = load_file(copy / "model.safetensors")
        state.pop(sorted(state)[0])
        return save_file(state, copy / "model.safetensors", metadata={"format": "pt"})

    (tmp_path / "empty").mkdir()
    code = {"auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Model"}, "model_type": "x"}
    for model, problem in (
        (str(tmp_path / "empty"), "a folder without config.json"),
        ("nobody/no-such-model", "no repository of that name .* check the name"),
        ("", "has one part: {model: FOLDER}"),
        (tiny_language_model_folder, "type 'llama', which transformers .* take a released form"),
        (
            broken("qwen2_5_vl", lambda copy: (copy / "chat_template.jinja").unlink()),
            "no chat template",
        ),
        (broken("qwen3_vl", truncated), "model.safetensors"),
        (broken("qwen3_vl", lambda copy: (copy / "model.safetensors").unlink()), "safetensors"),
        (broken("llava_onevision", without_layer), "missing"),
        (broken("internvl3", lambda copy: (copy / "processor_config.json").unlink()), "."),
        (broken("qwen3_vl", with_config(**code)), "."),
    ):
        config = BaselineConfig(weights={"model": model} if model else {}, dtype="float32")
        with pytest.raises(ValueError, match="(?s)" + problem) as caught:
            TransformersVideo.load(config, DECODING, CPU)
        assert not model or model in str(caught.value), str(caught.value)
    config = BaselineConfig(weights={"model": folder("qwen3_vl")}, revision="main")
    with pytest.raises(ValueError, match=r"baselines.revision is 'main'.*leave it out"):
        TransformersVideo.load(config, DECODING, CPU)
    config = BaselineConfig(weights={"model": "a", "vision": "b"})
    with pytest.raises(ValueError, match="has one part"):
        TransformersVideo.facts(config)
