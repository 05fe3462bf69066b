"""The V-JEPA 2 anticipation probe: future latents, pooler, files, and the system on a video."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from blind_frames import no_frames
from coded_video import write_video
from lightning import Trainer
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader
from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2AttentivePooler

from vidreason.baselines.build import Baseline, baseline_problems
from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.frames import FrameReader, Frames, LastFrames, middle_frames
from vidreason.baselines.vjepa2.config import LookAhead, ModelSizes, ProbeSizes
from vidreason.baselines.vjepa2.future_latents import FutureLatents, load_future_latents
from vidreason.baselines.vjepa2.pretraining import build_model, clip_transform, save_model
from vidreason.baselines.vjepa2.probe import AttentivePooler, AttentiveProbe
from vidreason.baselines.vjepa2.probe_files import (
    ProbeCard,
    ProbeHead,
    build_probe,
    load_probe,
    save_probe,
)
from vidreason.baselines.vjepa2.probe_training import UNSEEN, LatentBatch, ProbeTraining
from vidreason.baselines.vjepa2.released_probes import (
    convert_released_probe,
    epic_kitchens_labels,
    load_released_probe,
)
from vidreason.baselines.vjepa2.system import VJepa2Probe
from vidreason.evaluation.benchmark import evaluate_examples
from vidreason.evaluation.config import EvaluationConfig
from vidreason.example import Example
from vidreason.perception.weights import hash_weights
from vidreason.reasoning.predictions import parse_predictions
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT, multiple_choice_prompt
from vidreason.reasoning.reasoner_config import DecodingConfig, FuturesConfig
from vidreason.training.config import OptimizerConfig
from vidreason.video.reader import DIRECT

CPU = torch.device("cpu")
SIZES = ModelSizes(
    **{"image_size": 16, "patch_size": 8, "num_frames": 4, "width": 48, "num_layers": 2},
    **{"num_heads": 4, "predictor_width": 16, "predictor_layers": 1, "predictor_heads": 2},
)
LOOK_AHEAD = LookAhead(
    num_frames=4, frames_per_second=8.0, anticipation_seconds=0.5, num_future_frames=2
)
PROBE_SIZES = ProbeSizes(width=48, num_heads=16, num_blocks=3)
LABELS = ["The red ball hits the wall.", "Nothing happens.", "The ball leaves.", "It stops."]
PATCHES = 4
QUIET = {
    **{"accelerator": "cpu", "logger": False, "enable_progress_bar": False},
    **{"enable_model_summary": False, "enable_checkpointing": False},
}


def seeded(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def sharpened(module: torch.nn.Module) -> torch.nn.Module:
    """Larger weights, so that outputs depend on inputs by more than rounding."""
    generator = seeded(7)
    for parameter in module.parameters():
        spread = 0.3 if parameter.ndim > 1 else 0.1
        with torch.no_grad():
            parameter.add_(spread * torch.randn(parameter.shape, generator=generator))
    return module


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("vjepa2")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = sharpened(build_model(SIZES))
    save_model(model, folder)
    return str(folder)


@pytest.fixture(scope="module")
def latents(encoder_folder: str) -> FutureLatents:
    return load_future_latents(encoder_folder, LOOK_AHEAD, device=CPU)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two seconds, 25 frames a second, lossless."""
    path = tmp_path_factory.mktemp("video") / "numbered.mp4"
    lossless = {"options": {"qp": "0"}, "pixel_format": "yuv444p"}
    return str(write_video(path, num_frames=50, **lossless))


def clips(number: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randn(number, 4, 3, 16, 16, generator=seeded(seed))


def probe_card(**changes) -> ProbeCard:
    head = ProbeHead(name="event", labels=LABELS, counts=[1, 4, 2, 1])
    return ProbeCard(**{"sizes": PROBE_SIZES, "heads": [head], "look_ahead": LOOK_AHEAD} | changes)


@pytest.fixture
def probe_folder(tmp_path: Path, encoder_folder: str) -> Path:
    card = probe_card(encoder=hash_weights(encoder_folder), trained_on=["causal_vid_instruct"])
    save_probe(sharpened(build_probe(card)), card, tmp_path / "probe")
    return tmp_path / "probe"


def configured(encoder: str, probe: Path, **changes) -> BaselineConfig:
    weights = {"encoder": encoder, "probe": str(probe)} | changes.pop("weights", {})
    return BaselineConfig(kind="vjepa2", weights=weights, dtype="float32", **changes)


def question(**changes) -> Example:
    fields = {"id": "a:test:1", "corpus": "a", "media": "v.mp4", "video_id": "v", "response": ""}
    return Example(**fields | {"prompt": FUTURE_PREDICTION_PROMPT} | changes)


def test_observed_tokens_are_those_of_transformers(latents):
    expected = latents.model(clips(), skip_predictor=True).last_hidden_state
    torch.testing.assert_close(latents.encode(clips()), expected)
    assert expected.std() > 0.1
    pixels = torch.randint(256, (2, 3, 30, 40), generator=seeded(0)).to(torch.uint8)
    assert torch.equal(latents.transform.apply(pixels), clip_transform(SIZES).apply(pixels))


def test_predictions_inside_the_clip_are_those_of_transformers(latents):
    context, targets = torch.tensor([[0, 2, 3, 6], [1, 2, 4, 5]]), torch.tensor([[1, 7], [0, 6]])
    whole = latents.model(clips(), context_mask=[context], target_mask=[targets])
    predicted = latents.predict(latents.encode(clips()), context, targets)
    torch.testing.assert_close(predicted, whole.predictor_output.last_hidden_state)


def test_future_latents_are_those_of_the_tubelet_at_the_anticipated_time(latents):
    # Tubelets last 2 / 8 s: times are cut to 0, 1 and 3 of them after the clip's two.
    seconds = torch.tensor([0.24, 0.25, 0.99], dtype=torch.float64)
    output = latents(clips(3), seconds)
    tokens = latents.encode(clips(3))
    torch.testing.assert_close(output[:, :8], tokens)
    assert output.shape == (3, 8 + PATCHES, 48)
    for index, tubelet in enumerate((2, 3, 5)):
        targets = torch.arange(PATCHES)[None] + PATCHES * tubelet
        alone = latents.predict(tokens[index : index + 1], torch.arange(8)[None], targets)
        torch.testing.assert_close(output[index, 8:], alone[0], atol=1e-5, rtol=1e-5)


def test_more_future_frames_are_more_tubelets(latents):
    longer = FutureLatents(
        latents.model, latents.transform, replace(LOOK_AHEAD, num_future_frames=5)
    )
    seconds = torch.tensor([0.5, 0.5], dtype=torch.float64)
    assert longer(clips(), seconds).shape == (2, 8 + 2 * PATCHES, 48)


def test_future_latents_depend_on_what_is_observed_and_on_the_time(latents):
    now, later = (torch.tensor([time], dtype=torch.float64) for time in (0.0, 2.0))
    first = latents(clips(1), now)[:, 8:]
    assert not torch.allclose(first, latents(clips(1), later)[:, 8:], atol=1e-3)
    for frame in range(4):
        changed = clips(1)
        changed[:, frame] += 1
        assert not torch.allclose(first, latents(changed, now)[:, 8:], atol=1e-3), frame


def test_frames_after_the_cut_change_nothing(latents, video, tmp_path):
    lossless = {"options": {"qp": "0"}, "pixel_format": "yuv444p"}
    cut = str(write_video(tmp_path / "cut.mp4", num_frames=25, **lossless))
    read, rule = FrameReader(DIRECT), LastFrames(4, 8.0)
    whole, short = read(video, None, 1.0, rule), read(cut, None, 1.0, rule)
    assert whole.indices == short.indices == (12, 15, 18, 21)
    assert torch.equal(latents.of_videos([whole]), latents.of_videos([short]))
    after = read(video, None, 2.0, rule)
    assert not torch.allclose(latents.of_videos([whole]), latents.of_videos([after]), atol=1e-3)


def test_last_frames_go_by_time():
    rule = LastFrames(4, 2.0)
    regular = np.arange(0, 4, 0.25)
    assert rule.indices(regular, 4.0) == [8, 10, 12, 14]
    assert rule.indices(regular[:6], 1.5) == [0, 0, 2, 4]  # too short: the first one repeats
    assert rule.indices(np.array([1.0, 1.1, 2.9]), 3.0) == [0, 1, 1, 1]
    assert replace(rule, share=0.5).indices(regular, 4.0) == [0, 2, 4, 6]


def test_a_clip_with_other_frames_is_stretched(latents):
    pixels = torch.randint(256, (4, 3, 20, 24), generator=seeded(0)).to(torch.uint8)
    frames = Frames(pixels, (0.0,) * 4, (0,) * 4, 4, 1.0)
    still = frames._replace(pixels=pixels[:1])
    repeated = frames._replace(pixels=pixels[[0] * 4])
    assert torch.equal(latents.of_videos([still]), latents.of_videos([repeated]))
    pair = frames._replace(pixels=pixels[:2])
    repeated = frames._replace(pixels=pixels[[0, 0, 1, 1]])
    both = latents.of_videos([frames, pair])
    torch.testing.assert_close(both[1:], latents.of_videos([repeated]))
    torch.testing.assert_close(both[:1], latents.of_videos([frames]))


@pytest.mark.parametrize("num_blocks", [1, 4])
def test_the_pooler_is_that_of_transformers(latents, num_blocks):
    config = latents.model.config
    config = type(config)(**config.to_dict() | {"num_pooler_layers": num_blocks - 1})
    theirs = sharpened(VJEPA2AttentivePooler(config)).eval()
    sizes = ProbeSizes(width=48, num_heads=4, num_blocks=num_blocks, norm_epsilon=1e-6)
    ours = AttentivePooler(sizes, 1)
    state = theirs.state_dict()
    renamed = {"query_tokens": state["query_tokens"]}
    layers = {f"self_attention_layers.{i}": f"blocks.{i}" for i in range(num_blocks - 1)}
    for source, target in {"cross_attention_layer": "cross_attention_block", **layers}.items():
        is_cross = target.startswith("cross")
        attention = f"{source}.{'cross_attn' if is_cross else 'self_attn'}"
        for kind in ("weight", "bias"):
            q, k, v = (state[f"{attention}.{name}_proj.{kind}"] for name in "qkv")
            if is_cross:
                renamed[f"{target}.xattn.q.{kind}"] = q
                renamed[f"{target}.xattn.kv.{kind}"] = torch.cat([k, v])
            else:
                renamed[f"{target}.attn.qkv.{kind}"] = torch.cat([q, k, v])
                renamed[f"{target}.attn.proj.{kind}"] = state[f"{attention}.out_proj.{kind}"]
            for name, other in (("norm1", "layer_norm1"), ("norm2", "layer_norm2")):
                renamed[f"{target}.{name}.{kind}"] = state[f"{source}.{other}.{kind}"]
            for name in ("mlp.fc1", "mlp.fc2"):
                renamed[f"{target}.{name}.{kind}"] = state[f"{source}.{name}.{kind}"]
    ours.load_state_dict(renamed)
    values = torch.randn(3, 10, 48, generator=seeded(1))
    torch.testing.assert_close(ours(values)[:, 0], theirs(values), atol=2e-5, rtol=1e-4)


def test_each_head_has_a_query():
    probe = sharpened(AttentiveProbe(PROBE_SIZES, {"verb": 3, "noun": 5}))
    values = torch.randn(2, 6, 48, generator=seeded(1))
    before = probe(values)
    assert {name: tuple(of.shape) for name, of in before.items()} == {
        "verb": (2, 3),
        "noun": (2, 5),
    }
    with torch.no_grad():
        probe.pooler.query_tokens[:, 1] += 1
    after = probe(values)
    assert torch.equal(before["verb"], after["verb"])
    assert not torch.allclose(before["noun"], after["noun"])


@pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:You defined a `validation_step`"
)
def test_the_probe_overfits_32_samples():
    torch.manual_seed(0)
    labels = torch.arange(32) % 5
    samples = list(zip(torch.randn(32, 12, 48, generator=seeded(3)).half(), labels, strict=True))

    def collate(rows):
        stacked = [torch.stack(column) for column in zip(*rows, strict=True)]
        return LatentBatch(latents=stacked[0], labels={"event": stacked[1]})

    module = ProbeTraining(
        AttentiveProbe(PROBE_SIZES, {"event": 5}), OptimizerConfig(learning_rate=5e-3), 50
    )
    trainer = Trainer(**QUIET, max_steps=50)
    loader = DataLoader(samples, 32, collate_fn=collate)
    trainer.fit(module, loader)
    assert trainer.validate(module, loader, verbose=False)[0]["val/accuracy_event"] >= 0.95
    unseen = [(values, torch.tensor(UNSEEN)) for values, _ in samples[:8]]
    mixed = DataLoader(samples[:8] + unseen, 16, collate_fn=collate)
    metrics = trainer.validate(module, mixed, verbose=False)[0]
    assert metrics["val/accuracy_event"] == 0.5  # an unseen label is wrong, and gives no loss
    assert metrics["val/loss"] < 0.5


# The keys of facebookresearch/vjepa2@c2963a4, evals/action_anticipation_frozen/models.py, with
# their shapes for D = 48 and 2 blocks before the cross-attention.
OFFICIAL_SHAPES = {
    "pooler.query_tokens": (1, 3, 48),
    **{
        f"pooler.cross_attention_block.{name}": shape
        for name, shape in {
            **{"norm1.weight": (48,), "norm1.bias": (48,), "norm2.weight": (48,)},
            **{"norm2.bias": (48,), "xattn.q.weight": (48, 48), "xattn.q.bias": (48,)},
            **{"xattn.kv.weight": (96, 48), "xattn.kv.bias": (96,), "mlp.fc1.weight": (192, 48)},
            **{"mlp.fc1.bias": (192,), "mlp.fc2.weight": (48, 192), "mlp.fc2.bias": (48,)},
        }.items()
    },
    **{
        f"pooler.blocks.{index}.{name}": shape
        for index in range(2)
        for name, shape in {
            **{"norm1.weight": (48,), "norm1.bias": (48,), "norm2.weight": (48,)},
            **{"norm2.bias": (48,), "attn.qkv.weight": (144, 48), "attn.qkv.bias": (144,)},
            **{"attn.proj.weight": (48, 48), "attn.proj.bias": (48,)},
            **{"mlp.fc1.weight": (192, 48), "mlp.fc1.bias": (192,)},
            **{"mlp.fc2.weight": (48, 192), "mlp.fc2.bias": (48,)},
        }.items()
    },
    **{"verb_classifier.weight": (3, 48), "verb_classifier.bias": (3,)},
    **{"noun_classifier.weight": (4, 48), "noun_classifier.bias": (4,)},
    **{"action_classifier.weight": (5, 48), "action_classifier.bias": (5,)},
}
PAIRS = [(700, 8), (0, 8), (0, 300), (3, 5), (3, 1), (0, 8)]
VERBS = {700: "turn-on", 0: "take", 3: "wash"}
NOUNS = {8: "board:chopping", 300: "cup", 5: "plate", 1: "tap"}


def official_tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    return {
        f"module.{key}": 0.3 * torch.randn(shape, generator=seeded(seed + index))
        for index, (key, shape) in enumerate(OFFICIAL_SHAPES.items())
    }


def official_file(folder: Path, classifiers: object = None) -> str:
    if classifiers is None:
        classifiers = [official_tensors(), official_tensors(100)]
    path = folder / "ek100.pt"
    optimizer = [{"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]}]
    torch.save({"classifiers": classifiers, "opt": optimizer, "scaler": None, "epoch": 20}, path)
    return str(path)


def annotations_file(folder: Path, pairs=PAIRS) -> str:
    path = folder / "EPIC_100_train.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["narration_id", "verb", "verb_class", "noun", "noun_class"])
        for verb, noun in pairs:
            writer.writerow(["P01_01_0", VERBS[verb], verb, NOUNS[noun], noun])
    return str(path)


def test_labels_stand_in_the_order_of_the_official_code(tmp_path):
    labels = epic_kitchens_labels(annotations_file(tmp_path))
    # What filter_annotations does: sets of pairs, walked through in their order.
    actions = set(PAIRS)
    assert labels["action"] == [
        f"{VERBS[verb].replace('-', ' ')} {'chopping board' if noun == 8 else NOUNS[noun]}"
        for verb, noun in actions
    ]
    verbs, nouns = {v for v, _ in actions}, {n for _, n in actions}
    assert labels["verb"] == [VERBS[v].replace("-", " ") for v in verbs]
    assert labels["noun"] == ["chopping board" if n == 8 else NOUNS[n] for n in nouns]


def test_a_released_file_loads_and_converts(tmp_path):
    annotations = annotations_file(tmp_path)
    probe, card = load_released_probe(official_file(tmp_path), annotations)
    expected = AttentiveProbe(PROBE_SIZES, {"verb": 3, "noun": 4, "action": 5})
    expected.load_state_dict(
        {key.removeprefix("module."): value for key, value in official_tensors().items()}
    )
    values = torch.randn(2, 6, 48, generator=seeded(1))
    for head, logits in expected(values).items():
        torch.testing.assert_close(probe(values)[head], logits)
    assert (card.fidelity, card.scores, card.look_ahead) == (
        *("official-weights", "sigmoid"),
        LookAhead(
            **{"num_frames": 32, "frames_per_second": 8.0, "anticipation_seconds": 1.0},
            num_future_frames=2,
        ),
    )
    assert [head.name for head in card.heads] == ["verb", "noun", "action"]
    convert_released_probe(official_file(tmp_path), annotations, tmp_path / "folder")
    again, same_card = load_probe(tmp_path / "folder")
    assert same_card == card
    torch.testing.assert_close(again(values)["action"], expected(values)["action"])


def test_a_released_file_without_verbs_has_one_query(tmp_path):
    tensors = official_tensors()
    tensors = {k: v for k, v in tensors.items() if "verb" not in k and "noun" not in k}
    tensors["module.pooler.query_tokens"] = tensors["module.pooler.query_tokens"][:, :1]
    probe, card = load_released_probe(official_file(tmp_path, [tensors]), "")
    assert card.num_labels == {"action": 5}
    assert card.heads[0].labels[3] == "action 3"
    assert probe(torch.zeros(1, 2, 48))["action"].shape == (1, 5)


def test_damaged_released_files_are_refused_by_name(tmp_path):
    annotations = annotations_file(tmp_path)
    tensors = official_tensors()
    key = "module.pooler.blocks.0.attn.qkv.weight"

    def with_tensors(**changes):
        return [{k: v for k, v in (tensors | changes).items() if v is not None}]

    for classifiers, message in (
        ([], "is no list of state dicts"),
        ({"a": torch.zeros(1)}, "is no list of state dicts"),
        ([{"module.a": "text"}], "'module.a', which is no tensor"),
        (with_tensors(**{key: None}), r"missing pooler\.blocks\.0\.attn\.qkv\.weight"),
        (
            with_tensors(**{key: torch.zeros(143, 48)}),
            r"has shape \(143, 48\) instead of \(144, 48\)",
        ),
        (
            with_tensors(**{key: torch.ones(144, 48).bool()}),
            "qkv.weight holds numbers of type bool",
        ),
        (
            with_tensors(**{key: torch.full((144, 48), torch.nan)}),
            "qkv.weight hold values that are",
        ),
        (with_tensors(more=torch.zeros(1)), "unexpected more"),
        (with_tensors(**{"module.pooler.query_tokens": None}), "has no pooler.query_tokens"),
        (with_tensors(**{"module.pooler.query_tokens": torch.zeros(1, 2, 48)}), "2 queries"),
        (with_tensors(**{"module.noun_classifier.weight": None}), "no matrix noun_classifier"),
        (
            with_tensors(**{"module.verb_classifier.weight": torch.zeros(9, 48)}),
            "have 9 classes of verb, but .* has 3",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            load_released_probe(official_file(tmp_path, classifiers), annotations)
    path = Path(official_file(tmp_path))
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], content[:-30000]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="truncated or damaged"):
            load_released_probe(str(path), annotations)
    torch.save({"state_dict": tensors}, path)
    with pytest.raises(ValueError, match="no entry 'classifiers'"):
        load_released_probe(str(path), annotations)
    with pytest.raises(ValueError, match="there is no file"):
        load_released_probe(str(tmp_path / "none.pt"), annotations)


def test_damaged_annotations_are_refused_by_name(tmp_path):
    path = tmp_path / "EPIC_100_train.csv"
    for text, message in (
        ("verb,noun\ntake,cup\n", "line 2 has not all of verb_class"),
        ("verb,verb_class,noun,noun_class\ntake,x,cup,1\n", "invalid literal"),
        ("verb,verb_class,noun,noun_class\n", "has no rows"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            epic_kitchens_labels(str(path))
    path.write_bytes(b"\xff\xfe,\x00")
    with pytest.raises(ValueError, match=r"is not EPIC_100_train\.csv"):
        epic_kitchens_labels(str(path))
    with pytest.raises(ValueError, match="there is no file"):
        epic_kitchens_labels(str(tmp_path / "none.csv"))


def test_damaged_probe_folders_are_refused_by_name(probe_folder):
    card_path, weights_path = probe_folder / "probe.json", probe_folder / "probe.safetensors"
    card, weights = card_path.read_text(), weights_path.read_bytes()
    values = json.loads(card)
    head = values["heads"][0]
    for changed, message in (
        ("{", "is damaged"),
        (json.dumps(values | {"format_version": 2}), "format_version is 2"),
        (json.dumps(values | {"surplus": 1}), "surplus"),
        (json.dumps(values | {"heads": []}), "must differ, and there must be one"),
        (json.dumps(values | {"heads": [head, head]}), "must differ"),
        (json.dumps(values | {"heads": [head | {"name": "a.b"}]}), "the name 'a.b'"),
        (json.dumps(values | {"heads": [head | {"counts": [1]}]}), "4 labels and 1 counts"),
        (json.dumps(values | {"heads": [head | {"labels": ["a", "A.", "b", "c"]}]}), "of one text"),
        (json.dumps(values | {"heads": [head | {"labels": [*LABELS, "e"]}]}), "4 labels|5 labels"),
        (json.dumps(values | {"sizes": values["sizes"] | {"num_heads": 5}}), "not a multiple"),
        (json.dumps(values | {"sizes": values["sizes"] | {"num_blocks": 4}}), "missing pooler"),
        (json.dumps(values | {"look_ahead": {"num_frames": 0}}), "look_ahead.num_frames is 0"),
    ):
        card_path.write_text(changed)
        with pytest.raises(ValueError, match=message):
            load_probe(probe_folder)
    card_path.write_text(card)
    weights_path.write_bytes(weights[:-100])
    with pytest.raises(ValueError, match="truncated or damaged"):
        load_probe(probe_folder)
    weights_path.unlink()
    with pytest.raises(ValueError, match="there is no file"):
        load_probe(probe_folder)
    card_path.unlink()
    with pytest.raises(ValueError, match=r"it has no probe\.json"):
        load_probe(probe_folder)


def test_the_system_predicts_from_a_video(encoder_folder, probe_folder, video):
    config = configured(encoder_folder, probe_folder)
    decoding = DecodingConfig(futures=FuturesConfig(num_candidates=3))
    system = VJepa2Probe.load(config, decoding, CPU)
    read, rule = FrameReader(DIRECT), VJepa2Probe.frame_rule(config)
    assert rule == LastFrames(4, 8.0)
    frames = [read(video, None, end, rule) for end in (1.0, 2.0)]
    replies = system.predict([frames[0], frames[0], frames[1]], [question()] * 3)
    assert replies[0] == replies[1] != replies[2]
    for reply in replies:
        probabilities = [future.probability for future in reply.futures]
        assert len(probabilities) == 3
        assert sum(probabilities) == pytest.approx(1)
        assert probabilities == sorted(probabilities, reverse=True)
        parsed = parse_predictions(reply.output)
        assert not parsed.unparsed
        assert [item.event for item in parsed.items] == [future.event for future in reply.futures]
        assert [item.confidence for item in parsed.items] == pytest.approx(probabilities, rel=1e-4)
    # The probabilities are those of the probe on the latents of these frames.
    probe, _ = load_probe(probe_folder)
    latents = load_future_latents(encoder_folder, LOOK_AHEAD, device=CPU)
    log_shares = probe(latents.of_videos([frames[1]]))["event"][0].log_softmax(-1)
    likeliest = replies[2].futures[0]
    assert LABELS[int(log_shares.argmax())] == likeliest.event
    assert likeliest.log_likelihood == pytest.approx(float(log_shares.max()), abs=1e-5)
    # In 16 bits, as by default, the probabilities are nearly the same.
    rounded = VJepa2Probe.load(replace(config, dtype="bfloat16"), DecodingConfig(), CPU)
    (reply,) = rounded.predict([frames[1]], [question()])
    shares = {future.event: future.log_likelihood for future in reply.futures}
    assert shares[likeliest.event] == pytest.approx(likeliest.log_likelihood, abs=0.3)
    facts = VJepa2Probe.facts(config)
    assert (facts.fidelity, facts.trained_on) == ("re-trained", ("causal_vid_instruct",))
    assert VJepa2Probe.identity(config).keys() == {"encoder", "probe", "card"}
    assert VJepa2Probe.answering(config)["look_ahead"]["anticipation_seconds"] == 0.5


def test_a_video_that_is_not_shown_gets_the_shares_of_training(encoder_folder, probe_folder, video):
    config = configured(encoder_folder, probe_folder, num_frames=1)
    system = VJepa2Probe.load(config, DecodingConfig(), CPU)
    still = FrameReader(DIRECT)(video, None, None, VJepa2Probe.frame_rule(config))
    assert still.indices == middle_frames(1)(50) == [25] or still.indices == (25,)
    blind, seen = system.predict([no_frames(still), still], [question()] * 2)
    shares = {future.event: future.probability for future in blind.futures}
    assert shares == pytest.approx(dict(zip(LABELS, [0.125, 0.5, 0.25, 0.125], strict=True)))
    assert seen.futures != blind.futures


def test_options_that_are_labels_are_chosen_among(encoder_folder, probe_folder, video):
    config = configured(encoder_folder, probe_folder)
    system = VJepa2Probe.load(config, DecodingConfig(), CPU)
    frames = FrameReader(DIRECT)(video, None, None, VJepa2Probe.frame_rule(config))
    order = [future.event for future in system.predict([frames], [question()])[0].futures]
    worst_two = (order[3].lower().rstrip("."), order[2])
    options = (worst_two, (order[1], order[0], order[2]), (order[0], "the sky falls"))
    examples = [question(options=texts, prompt="What comes next?") for texts in options]
    replies = system.choose([frames] * 3, examples)
    assert [reply.output for reply in replies] == [order[2], order[0], ""]
    assert [reply.applies for reply in replies] == [True, True, False]
    # A question about something else has labels as options by chance; its answer is none of ours.
    first = multiple_choice_prompt("What happened first?", worst_two)
    about_others = [
        question(options=worst_two, prompt=first),
        question(options=worst_two, prompt="What hits it?", question_type="TN"),
        question(options=worst_two, prompt="What will she do?", question_type="Prediction"),
    ]
    replies = system.choose([frames] * 3, about_others)
    assert [reply.output for reply in replies] == ["", "", order[2]]
    assert [reply.applies for reply in replies] == [False, False, True]


def test_a_benchmark_asks_it_what_it_can_do(encoder_folder, probe_folder, video, tmp_path):
    config = configured(encoder_folder, probe_folder)
    (tmp_path / "torn.mp4").write_bytes(b"\x00" * 50)
    baseline = Baseline("probe", {"probe": config}, DecodingConfig(), CPU, DIRECT)
    options = {"prompt": "What is next?", "answer_index": 0}
    examples = [
        question(id="future", media=video, answers=(LABELS[0],)),
        question(id="torn", media=str(tmp_path / "torn.mp4"), answers=(LABELS[0],)),
        question(id="labels", media=video, options=tuple(LABELS), **options),
        question(id="others", media=video, options=("a cat", LABELS[0]), **options),
        question(id="past", media=video, options=tuple(LABELS), prompt="What happened first?"),
        question(id="open", media=video, prompt="Why? Answer briefly.", answers=("Because",)),
    ]
    assert not baseline_problems("probe", config, {"probe": config}, DecodingConfig())
    settings = EvaluationConfig(max_unreadable_fraction=1.0)
    answerer = baseline.answerer(examples, "none")
    rows = {row.id: row for row in evaluate_examples(answerer, examples, settings)}
    assert len(rows["future"].futures) == len(LABELS)
    assert "torn.mp4" in rows["torn"].error
    assert rows["labels"].parsed is not None
    future = examples[:1]
    for control in ("half_frames", "single_frame", "blind", "shuffled_frames", "random"):
        (row,) = evaluate_examples(baseline.answerer(future, control), future, settings)
        assert row.futures
        assert row.futures != rows["future"].futures, control
    assert {name: row.missing_capability for name, row in rows.items()} == {
        **{"future": "", "torn": "", "labels": "", "others": "choose", "past": "choose"},
        "open": "answer",
    }


def test_a_released_probe_predicts_actions(encoder_folder, tmp_path, video):
    annotations = annotations_file(tmp_path)
    config = configured(
        *(encoder_folder, Path(official_file(tmp_path))), weights={"annotations": annotations}
    )
    system = VJepa2Probe.load(config, DecodingConfig(), CPU)
    rule = VJepa2Probe.frame_rule(config)
    assert rule == LastFrames(32, 8.0)
    reply = system.predict([FrameReader(DIRECT)(video, None, None, rule)], [question()])[0]
    assert {future.event for future in reply.futures} == set(
        epic_kitchens_labels(annotations)["action"]
    )
    assert sum(future.probability for future in reply.futures) == pytest.approx(1)
    assert VJepa2Probe.facts(config).fidelity == "official-weights"


def test_parts_that_do_not_fit_are_refused(encoder_folder, probe_folder, tmp_path):
    def load(config):
        return VJepa2Probe.load(config, DecodingConfig(), CPU)

    for weights in ({}, {"probe": "a"}, {"encoder": "a", "probe": "b", "model": "c"}):
        config = BaselineConfig(kind="vjepa2", weights=weights)
        for method in (load, VJepa2Probe.facts, VJepa2Probe.answering):
            with pytest.raises(ValueError, match="it takes 'encoder'"):
                method(config)
    with pytest.raises(ValueError, match="there is no file"):
        load(configured(encoder_folder, tmp_path / "none.pt"))
    other = tmp_path / "other"
    with torch.random.fork_rng():
        torch.manual_seed(1)
        save_model(build_model(replace(SIZES, width=24)), other)
    with pytest.raises(ValueError, match="is not the encoder that the probe"):
        load(configured(str(other), probe_folder))
    card = json.loads((probe_folder / "probe.json").read_text())
    (probe_folder / "probe.json").write_text(json.dumps(card | {"encoder": ""}))
    with pytest.raises(ValueError, match=r"width 48, but weights\.encoder gives 24"):
        load(configured(str(other), probe_folder))


def test_encoders_that_cannot_be_used_are_refused(encoder_folder, tmp_path):
    def load(look_ahead=LOOK_AHEAD):
        return load_future_latents(str(tmp_path), look_ahead, device=CPU)

    for name in ("config.json", "video_preprocessor_config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((Path(encoder_folder) / name).read_bytes())
    load()
    config = json.loads((tmp_path / "config.json").read_text())
    for field, value in (("patch_size", 0), ("num_attention_heads", -1), ("tubelet_size", 0)):
        (tmp_path / "config.json").write_text(json.dumps(config | {field: value}))
        with pytest.raises(ValueError, match=rf"config\.json: {field} is {value}; expected 1 or"):
            load()
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="do not divide"):
        load(replace(LOOK_AHEAD, num_frames=3))
    tensors = load_file(tmp_path / "model.safetensors")
    encoder_alone = {k: v for k, v in tensors.items() if not k.startswith("predictor.")}
    save_file(encoder_alone, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"missing predictor\."):
        load()
    tensors = load_file(Path(encoder_folder) / "model.safetensors")
    for key in ("encoder.embeddings.patch_embeddings.proj.weight", "predictor.proj.bias"):
        rounded = tensors | {key: tensors[key].long()}
        save_file(rounded, tmp_path / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ValueError, match=f"{key} holds numbers of type I64, which are no w"):
            load()
    (tmp_path / "model.safetensors").write_bytes(b"\x10")
    with pytest.raises(ValueError, match="truncated or damaged"):
        load()
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match="weights"):
        load()
    with pytest.raises(ValueError, match="there is no file or folder"):
        load_future_latents("none.safetensors", LOOK_AHEAD, device=CPU)
