"""Every shipped configuration loads, type-checks and builds; the paper's numbers are in them."""

import dataclasses
import json
import re
import shutil
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import pytest
import yaml

from data_modules.global_order import accumulation
from experiments.demo.config import DemoConfig
from experiments.demo.run import stage_experiment
from experiments.devices import num_processes
from experiments.experiment_config import READERS_OF_SECTIONS, ExperimentConfig
from experiments.fit.resume_rules import field_defaults, learnt_settings
from experiments.fit.strategies import build_strategy
from vidreason.config import merge_config, save_config
from vidreason.model import build_reasoner
from vidreason.perception.models import build_video_encoder, video_encoder_sizes
from vidreason.perception.sam import build_sam
from vidreason.released_parts import RELEASED_PARTS
from vidreason.training.stage import StageModule
from vidreason.typed_merge import REMOVED_KEYS, RENAMED_KEYS

CHECKOUT = Path(__file__).parents[2]
CONFIGS = CHECKOUT / "experiments" / "configs"
LLAMA_3_8B = str(CHECKOUT / "tests" / "assets" / "llama-3-8b-instruct")
HARDWARE = {
    "stage1_32xh100.yaml": ("stage1_alignment.yaml",),
    "stage2_8xh100.yaml": ("stage2_instruction.yaml",),
    **{
        name: ("stage1_alignment.yaml", "stage2_instruction.yaml")
        for name in ("one_gpu_80gb.yaml", "one_gpu_24gb.yaml", "laptop.yaml", "tiny.yaml")
    },
    "cpu_2proc.yaml": ("microworld.yaml",),
}
"""Overlay to what it goes on."""
VARIANTS = {
    "stage1_hd_vila.yaml": "stage1_alignment.yaml",
    "stage2_full.yaml": "stage2_instruction.yaml",
}
"""Overlay to the stage that learns something else with it."""
LANGUAGE_MODELS = {
    "llama_3_2_1b_instruct": ("llama-3.2-1b-instruct", 1_235_814_400),
    "qwen2_5_0_5b_instruct": ("qwen2.5-0.5b-instruct", 494_032_768),
    "smollm2_135m_instruct": ("smollm2-135m-instruct", 134_515_008),
}
"""Overlay to (folder of its config.json, published number of parameters)."""
DEMOS = ("microworld_reference.yaml",)
"""Configurations of the demo, which :func:`test_the_recipes_of_the_demo_load` reads."""
COMBINATIONS = [
    *(
        [p.name]
        for p in sorted(CONFIGS.glob("*.yaml"))
        if p.name not in (*HARDWARE, *VARIANTS, *DEMOS)
    ),
    *([stage, variant] for variant, stage in VARIANTS.items()),
    *([stage, preset] for preset, stages in HARDWARE.items() for stage in stages),
    *(
        ["microworld.yaml", path.name]
        for path in sorted(CONFIGS.glob("microworld_*.yaml"))
        if path.name not in DEMOS
    ),
]


@cache
def load(*names: str) -> ExperimentConfig:
    """The configuration of these files, read once; only to be read."""
    return merge_config(ExperimentConfig, [str(CONFIGS / name) for name in names])


def test_the_papers_stage_1_reads_both_corpora():
    config = load("stage1_alignment.yaml", "stage1_hd_vila.yaml", "stage1_32xh100.yaml")
    readers = {corpus.reader: corpus.weight for corpus in config.data.train}
    assert readers == {"webvid": 1.0, "hd_vila": 0.1}


def test_stage_2_trains_the_whole_language_model():
    config = load("stage2_instruction.yaml", "stage2_8xh100.yaml", "stage2_full.yaml")
    assert config.reasoner.lora is None
    assert [thaw.part for thaw in config.freeze_schedule] == ["language_model"]
    assert config.reasoner.language_model.dtype == "float32"


@pytest.mark.parametrize("name", DEMOS)
def test_the_recipes_of_the_demo_load(name):
    demo = merge_config(DemoConfig, [str(CONFIGS / name)])
    stages = [stage_experiment(demo, stage) for stage in ("stage1", "stage2")]
    assert [stage.stage for stage in stages] == ["alignment", "instruction"]
    read = {corpus.reader for stage in stages for corpus in stage.data.train}
    assert read == {"webvid", *demo.forms}
    assert all(stage.run_dir.startswith(demo.run_dir) for stage in stages)


@pytest.fixture(scope="module")
def shallow_llama(tmp_path_factory):
    """Llama-3-8B's folder with 2 of its 32 equal layers: building each takes time."""
    folder = tmp_path_factory.mktemp("llama") / "shallow"
    shutil.copytree(LLAMA_3_8B, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    return str(folder)


@pytest.mark.parametrize("names", COMBINATIONS, ids="+".join)
def test_loads_and_builds_on_the_meta_device(names, shallow_llama):
    config = load(*names)
    language_model = dataclasses.replace(config.reasoner.language_model, name_or_path=shallow_llama)
    reasoner_config = dataclasses.replace(config.reasoner, language_model=language_model)
    visual_dim = video_encoder_sizes(config.perceiver.video_encoder).width
    reasoner = build_reasoner(reasoner_config, visual_dim, device="meta")
    thawed = [thaw.part for thaw in config.freeze_schedule]
    module = StageModule(reasoner, config.optimizer, 1_000_000, config.stage, thawed=thawed)
    module.configure_optimizers()
    encoder = build_video_encoder(config.perceiver.video_encoder, device="meta")
    assert {p.device.type for m in (module, encoder) for p in m.parameters()} == {"meta"}


@pytest.mark.parametrize("names", COMBINATIONS, ids="+".join)
def test_what_is_resolved_can_be_saved_and_read_again(names, tmp_path):
    config = load(*names)
    save_config(config, tmp_path / "resolved.yaml")
    assert merge_config(ExperimentConfig, [str(tmp_path / "resolved.yaml")]) == config


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.name)
def test_the_header_says_how_to_run_it_and_what_it_takes(path):
    text = path.read_text().split("\n\n")[0]
    assert all(line.startswith("#") for line in text.splitlines())
    for word in ("Command", "Hardware:", "Duration:"):
        assert word in text
    if path.name.startswith("stage"):
        assert "(paper:" in text


def test_every_language_model_preset_is_listed():
    assert {path.stem for path in (CONFIGS / "language_models").glob("*.yaml")} == set(
        LANGUAGE_MODELS
    )


@pytest.mark.parametrize("preset", LANGUAGE_MODELS)
def test_a_language_model_preset_builds_at_its_published_size(preset):
    config = load("stage2_instruction.yaml", f"language_models/{preset}.yaml")
    folder, size = LANGUAGE_MODELS[preset]
    name = config.reasoner.language_model.name_or_path
    assert name.rpartition("/")[2].lower() == folder
    assert name in RELEASED_PARTS
    local = dataclasses.replace(
        config.reasoner.language_model, name_or_path=str(CHECKOUT / "tests" / "assets" / folder)
    )
    reasoner_settings = dataclasses.replace(config.reasoner, language_model=local, lora=None)
    reasoner = build_reasoner(reasoner_settings, visual_dim=768, device="meta")
    assert sum(parameter.numel() for parameter in reasoner.language_model.parameters()) == size


def test_stage_1_has_the_papers_numbers():
    config = load("stage1_alignment.yaml")
    assert config.stage == "alignment"
    assert (config.data.global_batch_size, config.data.num_epochs) == (2048, 4)
    assert (config.optimizer.learning_rate, config.optimizer.betas) == (1e-4, [0.9, 0.98])
    assert (config.optimizer.weight_decay, config.optimizer.warmup_steps) == (0.05, 2000)
    fusion = config.reasoner.fusion
    assert (fusion.num_queries, fusion.width, fusion.num_layers) == (32, 768, 8)
    assert config.reasoner.lora is None


def test_stage_2_has_the_papers_numbers():
    config = load("stage2_instruction.yaml")
    assert config.stage == "instruction"
    assert (config.data.global_batch_size, config.data.num_epochs) == (256, 3)
    assert config.optimizer.learning_rate == 2e-5
    assert (config.optimizer.betas, config.optimizer.weight_decay) == ([0.9, 0.98], 0.05)
    lora = config.reasoner.lora
    assert lora is not None
    assert (lora.rank, lora.alpha, lora.target_modules) == (64, 128, "all-linear")
    assert [corpus.reader for corpus in config.data.train] == [
        "nextqa",
        "activitynet_qa",
        "causal_vid_instruct",
    ]


@pytest.mark.parametrize(
    ("preset", "processes"),
    [
        ("stage1_32xh100.yaml", 32),
        ("stage2_8xh100.yaml", 8),
        ("one_gpu_80gb.yaml", 1),
        ("one_gpu_24gb.yaml", 1),
        ("cpu_2proc.yaml", 2),
    ],
)
def test_a_preset_says_where_a_stage_runs_and_not_what_it_learns(preset, processes):
    for stage in HARDWARE[preset]:
        config = load(stage, preset)
        assert num_processes(config) == processes
        accumulation(config.data.global_batch_size, config.data.batch_size, processes)
        build_strategy(config)
        before, after = learnt_settings(load(stage)), learnt_settings(config)
        changed = {key for key, value in after.items() if before[key] != value}
        smaller_models = (
            "reasoner.language_model.",
            "perceiver.segmenter.",
            "data.max_text_tokens",
        )
        if preset == "one_gpu_24gb.yaml":
            changed = {key for key in changed if not key.startswith(smaller_models)}
        assert changed <= {"trainer.precision"}


@pytest.mark.parametrize("preset", [name for name in HARDWARE if name != "tiny.yaml"])
def test_a_preset_gives_the_reason_for_its_strategy_and_its_memory(preset):
    header = (CONFIGS / preset).read_text().split("\n\n")[0]
    assert "# Strategy:" in header
    assert re.search(r"# Memory: .*?--explain", header, re.DOTALL)


def test_the_defaults_of_the_schema_are_the_papers():
    defaults = ExperimentConfig()
    stage1 = load("stage1_alignment.yaml")
    # The warm-up of runs as long as the paper's.
    assert replace(defaults.optimizer, warmup_steps=2000) == stage1.optimizer
    assert defaults.reasoner == stage1.reasoner
    assert defaults.perceiver.sampling == stage1.perceiver.sampling


@pytest.mark.slow
def test_lora_on_llama_3_8b_has_the_published_size():
    config = load("stage2_instruction.yaml")
    language_model = dataclasses.replace(config.reasoner.language_model, name_or_path=LLAMA_3_8B)
    reasoner_config = dataclasses.replace(config.reasoner, language_model=language_model)
    visual_dim = video_encoder_sizes(config.perceiver.video_encoder).width
    reasoner = build_reasoner(reasoner_config, visual_dim, device="meta")
    sizes = {name: p.numel() for name, p in reasoner.named_parameters()}
    # r x (in + out), 64 x 81,920 a layer, 32 layers: q and o 8,192 each, k and v 5,120 each, gate,
    # up and down 18,432 each.
    assert sum(size for name, size in sizes.items() if ".lora_" in name) == 64 * 81_920 * 32
    frozen = [n for n in sizes if n.startswith("language_model.") and ".lora_" not in n]
    assert sum(sizes[name] for name in frozen) == 8_030_261_248


def test_sam_vit_h_of_the_paper_builds():
    config = load("stage1_alignment.yaml").perceiver.segmenter
    sam = build_sam(config, "meta")
    assert sum(p.numel() for p in sam.parameters()) > 600_000_000


def test_stage_2_needs_lora(shallow_llama):
    config = load("stage2_instruction.yaml")
    language_model = dataclasses.replace(config.reasoner.language_model, name_or_path=shallow_llama)
    reasoner = build_reasoner(
        dataclasses.replace(config.reasoner, language_model=language_model, lora=None), 8, "meta"
    )
    with pytest.raises(ValueError, match=r"reasoner\.lora"):
        StageModule(reasoner, config.optimizer, 10_000, "instruction")


def test_an_initial_checkpoint_does_not_go_with_stage_1():
    with pytest.raises(ValueError, match="set resume to its path"):
        merge_config(ExperimentConfig, [], ["initial_checkpoint=x.ckpt"])


@pytest.mark.parametrize(
    "override", ["trainer.checkpoint_every_n_steps=0", "trainer.stop_after_steps=0", "run_dir=''"]
)
def test_values_that_cannot_be_are_refused(override):
    with pytest.raises(ValueError, match=override.split("=")[0]):
        merge_config(ExperimentConfig, [], [override])


MAX_FIELDS = 206
"""Keys of an experiment's configuration: only ever to be lowered, as fields go."""
MAX_BASELINE_FIELDS = 18
"""Keys of one baseline, with those of an endpoint."""


def test_the_number_of_keys_does_not_grow():
    keys = [key for key, _ in field_defaults(ExperimentConfig)]
    of_baselines = [key for key in keys if key.startswith("baselines")]
    assert len(of_baselines) <= MAX_BASELINE_FIELDS
    assert len(keys) - len(of_baselines) <= MAX_FIELDS


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.stop_after_stalls=2", "the key is now trainer.early_stopping_patience"),
        ("freeze_schedule=[{part: lora, stalls_for: 2}]", "is now freeze_schedule.patience"),
        ("trainer.log_devices=true", "the key is gone: Lightning's DeviceStatsMonitor"),
    ],
)
def test_a_renamed_key_names_the_new_one(override, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        merge_config(ExperimentConfig, [], [override])


def test_every_renamed_key_has_a_present_one():
    keys = {key for key, _ in field_defaults(ExperimentConfig)}
    assert set(RENAMED_KEYS.values()) <= keys
    assert not keys & (RENAMED_KEYS.keys() | REMOVED_KEYS.keys())


def test_the_readers_of_sections_are_told_of_sections_that_exist():
    assert set(READERS_OF_SECTIONS) <= {field.name for field in fields(ExperimentConfig)}


def test_all_baselines_together_are_those_of_their_own_files():
    folder = CONFIGS / "baselines"
    together = yaml.safe_load((folder / "all.yaml").read_text())["baselines"]
    for name, baseline in together.items():
        assert yaml.safe_load((folder / f"{name}.yaml").read_text())["baselines"] == {
            name: baseline
        }
    for kind in ("video_chatgpt", "video_llama", "sevila", "viper", "transformers"):
        assert kind in {baseline["kind"] for baseline in together.values()}
