"""The microworld's own program synthesis: its head, its modules and its language model."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vidreason.baselines.build import Baseline, system_class
from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.viper.modules import Box
from vidreason.baselines.viper.text_model import PromptedWriter, load_text_model
from vidreason.example import Example
from vidreason.microworld import parts
from vidreason.microworld.look_head import LookHead, train_look_head
from vidreason.microworld.program_language_model import (
    PROMPT,
    program_pairs,
    program_tokenizer,
    train_program_model,
)
from vidreason.microworld.program_synthesis import MicroworldPrograms
from vidreason.microworld.renderer import render_frame, render_masks
from vidreason.microworld.simulation import COLORS, Rollout
from vidreason.microworld.world_modules import WorldModules
from vidreason.perception.models import build_segmenter
from vidreason.perception.segmenter import ObjectMask, Segmenter
from vidreason.reasoning.prompts import multiple_choice_prompt
from vidreason.reasoning.reasoner_config import DecodingConfig
from vidreason.video.reader import DIRECT

KIND = "vidreason.microworld.program_synthesis:MicroworldPrograms"
VIDEO = str(Path(parts.__file__).parent / "samples" / "hit.mp4")
CPU = torch.device("cpu")


class TrueMasks:
    """A segmenter of rendered frames of one rollout that cannot err; it counts its frames."""

    def __init__(self, rollouts: list[Rollout], time: float) -> None:
        self.num_frames = 0
        self._masks = {
            picture(rollout, time).numpy().tobytes(): render_masks(rollout, time)
            for rollout in rollouts
        }

    def segment(self, frames: torch.Tensor) -> list[list[ObjectMask]]:
        self.num_frames += len(frames)
        return [self._of(frame) for frame in frames]

    def _of(self, frame: torch.Tensor) -> list[ObjectMask]:
        masks = map(torch.from_numpy, self._masks[frame.numpy().tobytes()].values())
        return [
            ObjectMask(
                mask=mask,
                box=box_of(mask),
                area=int(mask.sum()),
                predicted_iou=1.0,
                stability=1.0,
            )
            for mask in masks
        ]


def box_of(mask: torch.Tensor) -> tuple[int, int, int, int]:
    rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def picture(rollout: Rollout, time: float) -> torch.Tensor:
    return torch.from_numpy(render_frame(rollout, time).copy()).permute(2, 0, 1)


def shipped_segmenter() -> Segmenter:
    config = parts.perceiver_config().segmenter
    config.weights = str(parts.SEGMENTER_WEIGHTS)
    return build_segmenter(config)


def exact_head() -> LookHead:
    """A head that tells the colours by their mean, written down and not trained."""
    head = LookHead()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        # Hidden units 0 to 2: mean of the inner 8 x 8 pixels of each channel, from 0 to 2.
        window = torch.zeros(3, 3, 16, 16)
        for channel in range(3):
            window[channel, channel, 4:12, 4:12] = 1 / 64
        head.hidden.weight[:3, :768] = window.flatten(1)
        head.hidden.bias[:3] = 1
        rgb = {
            "red": (214, 40, 40),
            "green": (46, 160, 67),
            "blue": (38, 84, 214),
            "yellow": (240, 208, 30),
            "purple": (138, 48, 190),
            "orange": (244, 132, 24),
        }
        # The nearest colour has the largest x . c - |c|^2 / 2.
        for row, color in enumerate(COLORS):
            center = torch.tensor(rgb[color]) / 127.5
            head.things.weight[row, :3] = 200 * center
            head.things.bias[row] = -100 * center.square().sum()
        head.things.bias[6:] = -1e6
    return head


def test_modules_find_what_is_named_and_look_once_at_a_picture(rollouts: list[Rollout]) -> None:
    rollout = rollouts[0]
    masks = render_masks(rollout, 3.0)
    segmenter = TrueMasks([rollout], 3.0)
    modules = WorldModules(segmenter, exact_head())
    frame = picture(rollout, 3.0)
    for color, mask in masks.items():
        expected = [Box(*map(float, box_of(torch.from_numpy(mask))))]
        assert modules.detect(frame, f"{color} object") == expected
        left, top, right, bottom = map(int, expected[0])
        crop = frame[:, max(top - 2, 0) : bottom + 2, max(left - 2, 0) : right + 2]
        assert modules.ask(crop, f"Is this a {color} object? Answer yes or no.") == "yes"
        assert modules.ask(crop, "What color is it?") == color
        others = [other for other in COLORS if other != color]
        scores = modules.match([crop], [color, *others, "object"])
        assert scores.shape == (1, 7)
        assert scores.argmax() == 0 or scores[0, 0] == scores[0, -1]
        # A property that it has fits better with the name than the name alone; another does not.
        [[with_it, without, with_other]] = modules.match(
            [crop], [f"{color} object", "object", f"{others[0]} object"]
        ).tolist()
        assert with_it > without > with_other
    assert len(modules.detect(frame, "object")) == len(masks)
    absent = next(color for color in COLORS if color not in masks)
    assert modules.detect(frame, f"{absent} object") == []
    assert modules.detect(frame, "a dog") == []
    assert modules.ask(frame, "Why did it stop?") == "unknown"
    assert segmenter.num_frames == 1


def test_what_the_world_has_no_model_of_fails_and_is_said() -> None:
    modules = WorldModules(TrueMasks([], 0.0), exact_head())
    with pytest.raises(RuntimeError, match="no model of depth"):
        modules.depth(torch.zeros(3, 8, 8, dtype=torch.uint8))
    with pytest.raises(RuntimeError, match="no model of texts"):
        modules.complete("why")


def question(prompt: str, options: tuple[str, ...] = ()) -> Example:
    text = multiple_choice_prompt(prompt, options) if options else prompt
    return Example(
        id="1",
        corpus="mine",
        media=VIDEO,
        video_id="1",
        prompt=text,
        response="",
        options=options,
    )


def weights(folder: Path) -> dict[str, str]:
    folder.mkdir(exist_ok=True)
    path = folder / "look_head.safetensors"
    save_file({key: value.half() for key, value in LookHead().state_dict().items()}, path)
    return {"segmenter": str(parts.SEGMENTER_WEIGHTS), "head": str(path)}


def test_it_is_a_kind_of_baseline_whose_replies_have_their_programs(
    tmp_path: Path,
) -> None:
    config = BaselineConfig(
        kind=KIND, weights=weights(tmp_path / "parts"), dtype="float32", num_frames=2
    )
    assert system_class(config) is MicroworldPrograms
    baseline = Baseline("programs", {"programs": config}, DecodingConfig(), CPU, DIRECT)
    known = question("did the red circle move")
    other = question("why did the dog bark", ("it is hungry", "it rains"))
    replies = baseline.answerer([known, other], "none").answer([known, other])
    assert "execute_command" in replies[0].record["program"]
    assert replies[0].output in ("yes", "no")
    assert replies[0].record["result"] == replies[0].output
    assert replies[1].record["failure"]["kind"] == "no program"
    assert replies[1].output == "unknown"
    # Without a picture a program runs over an empty floor.
    [blind] = baseline.answerer([known], "blind").answer([known])
    assert blind.output == "no"


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    good = weights(tmp_path)
    odd = tmp_path / "odd.safetensors"
    save_file({"hidden.weight": torch.zeros(2, 2)}, odd)
    for changed, message in (
        ({"head": str(tmp_path / "absent.safetensors")}, "absent.safetensors"),
        ({"head": str(odd)}, "LookHead"),
        ({"head": ""}, "weights.head is missing"),
        ({"code_model": str(tmp_path / "nowhere")}, "weights.code_model"),
    ):
        config = BaselineConfig(weights={**good, **changed})
        with pytest.raises(ValueError, match=message):
            MicroworldPrograms.load(config, DecodingConfig(), CPU)


def test_the_tokenizer_gives_programs_back_and_keeps_unknown_words_apart() -> None:
    texts = ["why did the red circle stop", "did the orange square push the blue triangle"]
    pairs = program_pairs([*texts, "why did the dog bark"])
    assert [text for text, _ in pairs] == sorted(texts)
    tokenizer = program_tokenizer(pairs)
    for _, program in pairs:
        ids = tokenizer(program, add_special_tokens=False).input_ids
        assert tokenizer.decode(ids) == program
        assert len(ids) < 100
    ids = tokenizer("why did the dog", add_special_tokens=False).input_ids
    assert ids[-1] == tokenizer.unk_token_id != ids[-2]


@pytest.mark.slow
def test_a_language_model_learns_sixteen_pairs_by_heart(tmp_path: Path) -> None:
    names = [f"{color} {shape}" for color in COLORS[:4] for shape in ("circle", "square")]
    texts = [
        text for name in names for text in (f"did the {name} move", f"how did the {name} leave")
    ]
    pairs = program_pairs(texts)
    assert len(pairs) == 16
    tokenizer = program_tokenizer(pairs)
    *_, (_, _, model) = train_program_model(tokenizer, pairs, steps=400, batch_size=8)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    config = BaselineConfig(dtype="float32")
    write = PromptedWriter(load_text_model(str(tmp_path), config, CPU), PROMPT, DecodingConfig())
    written = {text: write(text, ("yes", "no")).text for text, _ in pairs}
    assert written == {text: program.rstrip() for text, program in pairs}


@pytest.mark.slow
def test_a_head_trained_for_seconds_names_what_the_shipped_segmenter_masks(
    rollouts: list[Rollout],
) -> None:
    segmenter = shipped_segmenter()
    *_, (_, _, head) = train_look_head(segmenter, rollouts[:80], frames_per_rollout=2, steps=300)
    modules = WorldModules(segmenter, head)
    right, total = 0, 0
    for rollout in rollouts[100:112]:
        for color, mask in render_masks(rollout, 4.0).items():
            if mask.sum() < 300:
                continue  # partly out of sight
            name = f"{color} {rollout.body(color).shape}"
            boxes = modules.detect(picture(rollout, 4.0), name)
            true = Box(*map(float, box_of(torch.from_numpy(mask))))
            total += 1
            right += (
                bool(boxes) and max(abs(a - b) for a, b in zip(boxes[0], true, strict=True)) < 8
            )
    assert total > 20
    assert right > 0.85 * total
