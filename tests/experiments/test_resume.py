import copy
import dataclasses
import functools

import pytest
import torch

from experiments.experiment_config import ExperimentConfig
from experiments.fit.resume import check_initial_checkpoint, checkpoint_folder, resume_checkpoint
from experiments.fit.resume_rules import RULES, changes, field_defaults, rule_of
from vidreason.config import merge_config
from vidreason.training.checkpoint_files import write_file
from vidreason.training.checkpoint_format import FORMAT_VERSION

ENCODER = "perceiver.video_encoder.weights=encoder.safetensors"
THAW = "freeze_schedule=[{part: lora, when_metric: val/loss, reaches: 1.0}]"


def config(run_dir, *overrides, resume="auto", initial=""):
    made = copy.deepcopy(merged(overrides))
    made.run_dir, made.resume = str(run_dir), resume
    made.initial_checkpoint = initial or made.initial_checkpoint
    return made


@functools.cache
def merged(overrides):
    """Merging takes more time than all that these tests look at."""
    return merge_config(ExperimentConfig, [], overrides)


def start_run(run_dir, *overrides, drop=(), frozen=("language_model", "video_encoder")):
    """Leave what a run leaves when it is killed after step 4."""
    values = dataclasses.asdict(config(run_dir, *overrides))
    for section, name in drop:
        del values[section][name]
    record = {
        **{
            "format_version": FORMAT_VERSION,
            "stage": values["stage"],
            "config": values,
            "trainable": [],
        },
        **{"frozen": dict.fromkeys(frozen, "hash"), "world_size": 1, "rng": []},
    }
    path = checkpoint_folder(str(run_dir)) / "step-00000004.ckpt"
    write_file({"state_dict": {}, "vidreason": record}, path)
    return str(path)


@pytest.mark.parametrize("resume", ["auto", "never"])
def test_a_new_run_starts_at_step_0(tmp_path, resume):
    assert resume_checkpoint(config(tmp_path, resume=resume)) is None


def test_auto_takes_the_newest_checkpoint(tmp_path):
    checkpoint = start_run(tmp_path)
    assert resume_checkpoint(config(tmp_path)) == checkpoint


def test_never_does_not_overwrite_a_run(tmp_path):
    start_run(tmp_path)
    with pytest.raises(ValueError, match=r"holds checkpoints.*choose another run_dir"):
        resume_checkpoint(config(tmp_path, resume="never"))


def test_a_given_checkpoint_of_another_run(tmp_path):
    checkpoint = start_run(tmp_path / "first", "seed=1")
    second = config(tmp_path / "second", "seed=1", resume=checkpoint)
    assert resume_checkpoint(second) == checkpoint
    with pytest.raises(ValueError, match=r"there is no checkpoint 'absent\.ckpt'"):
        resume_checkpoint(config(tmp_path, resume="absent.ckpt"))
    (tmp_path / "link.ckpt").symlink_to("gone.ckpt")
    with pytest.raises(ValueError, match=r"link\.ckpt' links to 'gone\.ckpt', which is missing"):
        resume_checkpoint(config(tmp_path, resume=str(tmp_path / "link.ckpt")))


LORA = "reasoner.lora={rank: 4}"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.learning_rate=0.5", r"optimizer.learning_rate: 0.0001 -> 0.5"),
        ("optimizer.betas=[0.5,0.6]", r"optimizer.betas: \[0.9, 0.98\] -> \[0.5, 0.6\]"),
        ("optimizer.weight_decay=0", r"optimizer.weight_decay: 0.05 -> 0.0"),
        ("optimizer.warmup_steps=7", r"optimizer.warmup_steps: None -> 7"),
        ("optimizer.learning_rate_factors={lora: 2}", r"optimizer.learning_rate_factors"),
        ("data.global_batch_size=7", r"data.global_batch_size"),
        ("data.max_text_tokens=7", r"data.max_text_tokens"),
        ("data.drop={clips: 0.5}", r"data.drop"),
        ("data.num_epochs=2", r"data.num_epochs: 3 -> 2"),
        ("data.train=[{reader: webvid, root: x, weight: 2}]", r"data.train.0.weight: 1.0 -> 2.0"),
        ("data.train=[]", r"data.train"),
        ("seed=3", r"seed: 0 -> 3"),
        ("reasoner.lora.rank=8", r"reasoner.lora.rank: 4 -> 8"),
        ("reasoner.lora.alpha=8", r"reasoner.lora.alpha: 128 -> 8"),
        ("reasoner.lora.dropout=0.5", r"reasoner.lora.dropout"),
        ("reasoner.lora.target_modules=q_proj", r"reasoner.lora.target_modules"),
        ("reasoner.fusion.num_heads=4", r"reasoner.fusion.num_heads: 12 -> 4"),
        ("reasoner.fusion.token_positions=none", r"reasoner.fusion.token_positions"),
        ("reasoner.language_model.dtype=float32", r"reasoner.language_model.dtype"),
        ("perceiver.sampling.num_clips=2", r"perceiver.sampling.num_clips: 4 -> 2"),
        ("perceiver.video_encoder.weights=''", r"perceiver.video_encoder.weights"),
        ("trainer.precision=bf16-mixed", r"trainer.precision"),
        ("weight_average.kind=ema", r"weight_average.kind"),
        ("guard.skip_nonfinite=false", r"guard.skip_nonfinite"),
        ("initial_checkpoint=a.ckpt", r"initial_checkpoint"),
        (THAW, r"freeze_schedule"),
    ],
)
def test_a_run_does_not_continue_as_another_experiment(tmp_path, override, message):
    first = ("stage=instruction", LORA, ENCODER, "data.train=[{reader: webvid, root: x}]")
    checkpoint = start_run(tmp_path, *first)
    for folder, resume in ((tmp_path, "auto"), (tmp_path / "b", checkpoint)):
        with pytest.raises(ValueError, match=message) as error:
            resume_checkpoint(config(folder, *first, override, resume=resume))
        assert "\n" not in str(error.value)


def test_all_differences_are_listed_at_once(tmp_path):
    checkpoint = start_run(tmp_path, LORA)
    overrides = ("seed=3", "optimizer.learning_rate=0.5", "reasoner.lora.rank=8", "device=cpu")
    with pytest.raises(ValueError, match=r"seed: 0 -> 3; reasoner.lora.rank: 4 -> 8; optim") as e:
        resume_checkpoint(config(tmp_path / "b", LORA, *overrides, resume=checkpoint))
    assert "device" not in str(e.value)


def test_adding_or_dropping_a_part_is_another_experiment(tmp_path):
    start_run(tmp_path, LORA)
    with pytest.raises(ValueError, match=r"reasoner.lora: {'rank': 4.*} -> None"):
        resume_checkpoint(config(tmp_path))


def test_another_stage_is_said_alone(tmp_path):
    checkpoint = start_run(tmp_path)
    second = config(tmp_path / "b", "stage=instruction", LORA, "seed=4", resume=checkpoint)
    with pytest.raises(ValueError, match=r"to start stage 2 from it, set initial_ch") as error:
        resume_checkpoint(second)
    assert "seed" not in str(error.value)


@pytest.mark.parametrize(
    "override",
    [
        "data.num_workers=3",
        "data.batch_size=2",
        "data.max_unreadable_fraction=0.5",
        "data.decode_timeout_seconds=7",
        "data.num_epochs=4",
        "data.train=[{reader: webvid, root: elsewhere}]",
        "data.validation=[{reader: webvid, root: x}]",
        "reasoner.language_model.gradient_checkpointing=true",
        "reasoner.language_model.name_or_path=elsewhere",
        "reasoner.language_model.revision=main",
        "perceiver.video_encoder.weights=elsewhere.safetensors",
        "perceiver.video_encoder.seed=4",
        "trainer.devices=2",
        "trainer.stop_after_steps=2",
        "trainer.validate_every_n_steps=2",
        "trainer.log_every_n_steps=1",
        "trainer.keep_best=2",
        "guard.max_skipped=3",
        "store.path=elsewhere",
        "decoding.max_new_tokens=3",
    ],
)
def test_what_cannot_alter_the_result_may_change(tmp_path, override):
    first = (ENCODER, "data.train=[{reader: webvid, root: x}]")
    checkpoint = start_run(tmp_path, *first)
    for folder, resume in ((tmp_path, "auto"), (tmp_path / "b", checkpoint)):
        assert resume_checkpoint(config(folder, *first, override, resume=resume)) == checkpoint


def test_where_a_part_has_no_hash_its_place_counts(tmp_path):
    start_run(tmp_path, ENCODER, frozen=())
    with pytest.raises(ValueError, match=r"video_encoder.weights: 'encoder.safe.*-> 'other"):
        resume_checkpoint(config(tmp_path, "perceiver.video_encoder.weights=other"))


def test_what_validations_decide_must_stay(tmp_path):
    first = ("stage=instruction", LORA, THAW, "data.validation=[{reader: webvid, root: x}]")
    start_run(tmp_path, *first)
    for override in (
        "data.validation=[{reader: webvid, root: y}]",
        "trainer.validate_every_n_steps=3",
    ):
        with pytest.raises(ValueError, match=r"cannot be continued"):
            resume_checkpoint(config(tmp_path, *first, override))


def test_settings_that_nothing_reads_do_not_count(tmp_path):
    first = ("perceiver.use_objects=false", "reasoner.fusion.kind=mean_pool")
    checkpoint = start_run(tmp_path, *first)
    unread = ("perceiver.segmenter.points_per_side=3", "reasoner.fusion.num_queries=3")
    assert resume_checkpoint(config(tmp_path, *first, *unread)) == checkpoint


def test_a_field_that_is_newer_than_the_checkpoint_has_its_default_there(tmp_path):
    checkpoint = start_run(tmp_path, drop=[("optimizer", "epsilon"), ("trainer", "compile")])
    assert resume_checkpoint(config(tmp_path)) == checkpoint
    with pytest.raises(ValueError, match=r"optimizer.epsilon: 1e-08 -> 0.001"):
        resume_checkpoint(config(tmp_path, "optimizer.epsilon=0.001"))


def test_what_was_taken_away_is_another_configuration(tmp_path):
    start_run(tmp_path, "data.drop={clips: 0.5, objects: 0.1}")
    with pytest.raises(
        ValueError, match=r"data\.drop\.clips: 0\.5 -> 'absent'; .*objects: 0\.1 -> "
    ):
        resume_checkpoint(config(tmp_path, "data.drop="))


INSTRUCTION = ("stage=instruction", LORA, "data.global_batch_size=9", "optimizer.learning_rate=0.5")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("reasoner.fusion.num_heads=4", r"reasoner.fusion.num_heads: 12 -> 4"),
        ("reasoner.fusion.token_positions=none", r"fusion.token_positions: 'full' -> 'none'"),
        ("reasoner.fusion.width=24", r"reasoner.fusion.width: 768 -> 24"),
        ("reasoner.fusion.warm_start=b.pth", r"reasoner.fusion.warm_start: 'a.pth' -> 'b.pth'"),
        ("perceiver.video_encoder.name=viclip-l14", r"perceiver.video_encoder.name"),
    ],
)
def test_stage_2_does_not_take_over_another_network(tmp_path, override, message):
    checkpoint = start_run(tmp_path, "reasoner.fusion.warm_start=a.pth")
    second = (tmp_path / "b", *INSTRUCTION)
    check_initial_checkpoint(config(*second, initial=checkpoint))
    other_tokens = ("perceiver.sampling.num_clips=8", ENCODER)
    check_initial_checkpoint(config(*second, *other_tokens, initial=checkpoint))
    with pytest.raises(ValueError, match=message) as error:
        check_initial_checkpoint(config(*second, override, initial=checkpoint))
    assert "\n" not in str(error.value)


def test_stage_2_does_not_start_from_what_is_damaged(tmp_path):
    path = start_run(tmp_path)
    with open(path, "r+b") as file:
        file.seek(-300, 2)
        file.write(bytes(100))
    with pytest.raises(ValueError, match=r"cannot be read"):
        check_initial_checkpoint(config(tmp_path, *INSTRUCTION, initial=path))
    foreign = tmp_path / "foreign.ckpt"
    torch.save({"state_dict": {}}, foreign)
    with pytest.raises(ValueError, match=r"not one of experiments\.fit"):
        check_initial_checkpoint(config(tmp_path, *INSTRUCTION, initial=str(foreign)))


def test_every_field_has_one_rule_and_every_rule_a_field():
    fields = [key for key, _ in field_defaults(ExperimentConfig)]
    assert "data.train.root" in fields
    assert "reasoner.lora.alpha" in fields
    without = [key for key in fields if rule_of(key) is None]
    assert not without, (
        f"say in experiments/fit/resume_rules.py what a resume may change: {without}"
    )
    unused = [name for name in RULES if not any(f"{key}.".startswith(f"{name}.") for key in fields)]
    assert not unused, f"no such fields: {unused}"


def test_changes_of_nested_values():
    former = {"a": {"b": [1, 2], "c": [{"d": 1}, {"d": 2}], "e": None}, "gone": 1}
    present = {"a": {"b": (1, 2), "c": [{"d": 1}, {"d": 3}], "e": {"f": 1}}}
    assert [str(change) for change in changes(former, present)] == [
        "a.c.1.d: 2 -> 3",
        "a.e: None -> {'f': 1}",
    ]
