import pytest

from callbacks.run_record import write_run_record
from callbacks.step_checkpoint import AtomicCheckpointIO
from experiments.experiment_config import ExperimentConfig
from experiments.resume import checkpoint_folder, resume_checkpoint
from vidreason.config import merge_config


def config(run_dir, *overrides):
    return merge_config(ExperimentConfig, [], [f"run_dir={run_dir}", *overrides])


def start_run(run_dir, *overrides):
    """What a run leaves behind when it is killed after step 4."""
    write_run_record(config(run_dir, *overrides), run_dir)
    path = checkpoint_folder(str(run_dir)) / "step-00000004.ckpt"
    AtomicCheckpointIO().save_checkpoint({}, path)
    return str(path)


@pytest.mark.parametrize("resume", ["auto", "never"])
def test_a_new_run_starts_at_step_0(tmp_path, resume):
    assert resume_checkpoint(config(tmp_path, f"resume={resume}")) is None


def test_auto_takes_the_newest_checkpoint(tmp_path):
    checkpoint = start_run(tmp_path)
    assert resume_checkpoint(config(tmp_path)) == checkpoint


def test_never_does_not_overwrite_a_run(tmp_path):
    start_run(tmp_path)
    with pytest.raises(ValueError, match=r"holds checkpoints .*choose another run_dir"):
        resume_checkpoint(config(tmp_path, "resume=never"))


def test_a_given_checkpoint_of_another_run(tmp_path):
    checkpoint = start_run(tmp_path / "first", "seed=1")
    assert resume_checkpoint(config(tmp_path / "second", f"resume={checkpoint}")) == checkpoint
    with pytest.raises(ValueError, match=r"there is no checkpoint 'absent\.ckpt'"):
        resume_checkpoint(config(tmp_path, "resume=absent.ckpt"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.learning_rate=0.5", r"optimizer.learning_rate: 0.0001 -> 0.5"),
        ("data.global_batch_size=7", r"data.global_batch_size"),
        ("seed=3", r"seed: 0 -> 3"),
        ("reasoner.lora.rank=8", r"reasoner.lora"),
        ("trainer.precision=bf16-mixed", r"trainer.precision"),
    ],
)
def test_a_run_does_not_continue_as_another_experiment(tmp_path, override, message):
    start_run(tmp_path, "reasoner.lora={rank: 4}")
    with pytest.raises(ValueError, match=message) as error:
        resume_checkpoint(config(tmp_path, "reasoner.lora={rank: 4}", override))
    assert "\n" not in str(error.value)


def test_adding_or_dropping_a_part_is_another_experiment(tmp_path):
    start_run(tmp_path, "reasoner.lora={rank: 4}")
    with pytest.raises(ValueError, match=r"reasoner.lora"):
        resume_checkpoint(config(tmp_path))


@pytest.mark.parametrize(
    "override",
    [
        "data.num_workers=3",
        "data.batch_size=2",
        "trainer.devices=2",
        "trainer.log_every_n_steps=1",
        "guard.max_skipped=3",
        "store.path=elsewhere",
        "decoding.max_new_tokens=3",
    ],
)
def test_where_and_how_closely_watched_a_run_is_may_change(tmp_path, override):
    checkpoint = start_run(tmp_path)
    assert resume_checkpoint(config(tmp_path, override)) == checkpoint
