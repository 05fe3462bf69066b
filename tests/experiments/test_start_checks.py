"""Start checks: what the end would refuse is refused at the start, at once, by one list."""

import ast
import shutil
from pathlib import Path

import pytest
import torch

from experiments.config import __main__ as config_program
from experiments.experiment_config import ExperimentConfig
from experiments.program import exit_status
from experiments.start_checks.checks import CHECKS, check_start, find_problems
from experiments.start_checks.start import Start
from vidreason.config import ConfigurationError, merge_config
from vidreason.microworld.parts import LANGUAGE_MODEL_FOLDER

CHECKOUT = Path(__file__).parents[2]
TINY = str(CHECKOUT / "experiments" / "configs" / "tiny.yaml")
GPU = torch.cuda.is_available()
without_gpu = pytest.mark.skipif(GPU, reason="a GPU is here")


def configured(folder: Path, *overrides: str) -> ExperimentConfig:
    return merge_config(
        ExperimentConfig,
        [TINY],
        [
            f"run_dir={folder / 'run'}",
            "data.train=[{reader: webvid, root: nowhere}]",
            "data.benchmark=[{reader: nextqa, root: nowhere}]",
            f"store.path={folder / 'store'}",
            f"reasoner.language_model.name_or_path={CHECKOUT}/vidreason/microworld/parts/language_model",
            *overrides,
        ],
    )


@pytest.mark.parametrize(
    "use", ["fit", "perceive", "evaluate", "generate", "data check", "explain"]
)
def test_nothing_is_wrong_with_a_configuration_that_works(tmp_path, use):
    assert find_problems(configured(tmp_path), use) == []
    assert list(tmp_path.iterdir()) == []  # a check writes nothing


def test_a_template_that_rewrites_earlier_answers_is_refused_for_the_loss_on_all(tmp_path):
    folder = tmp_path / "language_model"
    shutil.copytree(LANGUAGE_MODEL_FOLDER, folder)
    overrides = (f"reasoner.language_model.name_or_path={folder}", "data.loss_on=all")
    assert find_problems(configured(tmp_path, *overrides), "explain") == []
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m.role }}: "
        "{{ '<think>' if loop.last and m.role == 'assistant' }}{{ m.content }}{{ eos_token }}"
        "{% endfor %}{% if add_generation_prompt %}assistant: <think>{% endif %}"
    )
    (problem,) = find_problems(configured(tmp_path, *overrides), "explain")
    assert problem.startswith("data.loss_on is 'all', but an earlier answer cannot be learnt")
    assert "set data.loss_on=last" in problem
    assert find_problems(configured(tmp_path, overrides[0]), "explain") == []


PROBLEMS = {
    "devices": ("fit", ["trainer.devices=0"], "trainer.devices is 0; give the number"),
    "devices negative": ("fit", ["trainer.devices=-3"], "trainer.devices is -3; give the number"),
    "devices words": ("explain", ["trainer.devices=two"], "trainer.devices is 'two'"),
    "devices list": ("fit", ["trainer.devices='0,1'"], "no GPUs to choose from"),
    "nodes": ("fit", ["trainer.num_nodes=2", "data.global_batch_size=8"], "start it by srun or"),
    "precision": ("fit", ["trainer.precision=16-mixed"], "set trainer.precision=bf16-mixed"),
    "batch": ("fit", ["data.global_batch_size=3"], "global_batch_size"),
    "strategy": (
        "fit",
        ["trainer.strategy=fsdp2", "evaluation.every_n_steps=0"],
        "does not go with evaluation.every_n_steps",
    ),
    "device": ("generate", ["device=gpu"], "device is 'gpu', which PyTorch does not know"),
    "device number": ("evaluate", ["device=cuda:99"], "device is 'cuda:99', but PyTorch finds"),
    "no corpus": ("fit", ["data.train=[]"], "data.train is empty"),
    "no benchmark": ("evaluate", ["data.benchmark=[]"], "data.benchmark is empty"),
    "nothing": (
        "data check",
        ["data.train=[]", "data.benchmark=[]"],
        "data.train, data.validation",
    ),
    "no store": ("perceive", ["store.path=''"], "store.path is empty"),
    "checkpoint": (
        "fit",
        ["stage=instruction", "reasoner.lora={rank: 4}", "initial_checkpoint=none.ckpt"],
        "initial_checkpoint: there is no checkpoint 'none.ckpt'",
    ),
    "resume": ("fit", ["resume=none.ckpt"], "resume: there is no checkpoint 'none.ckpt'"),
    "warm start": ("fit", ["reasoner.fusion.warm_start=no.pth"], "there is no file 'no.pth'"),
    "bertscore": ("evaluate", ["evaluation.bertscore_model=no"], "there is no folder 'no'"),
    "bertscore in training": (
        "fit",
        ["evaluation.bertscore_model=no", "evaluation.every_n_steps=0"],
        "there is no folder 'no'",
    ),
    "adapters": (
        "fit",
        ["stage=instruction", "reasoner.lora=null"],
        "no LoRA adapters to train: set reasoner.lora",
    ),
    "adapters explained": (
        "explain",
        ["reasoner.lora=null", "freeze_schedule=[{part: lora}]"],
        "no LoRA adapters to train: set reasoner.lora",
    ),
    "lora": (
        "fit",
        ["stage=instruction", "reasoner.lora={target_modules: query}"],
        "'query', for which peft finds no layer.*q_proj",
    ),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_what_is_wrong_is_one_line_that_names_the_field(tmp_path, monkeypatch, name):
    use, overrides, message = PROBLEMS[name]
    if name != "lora":  # which alone looks at the parts
        monkeypatch.setattr(Start, "language_model", None)
    if GPU and name == "devices list":
        pytest.skip("a GPU is here")
    with pytest.raises(ConfigurationError, match=message) as caught:
        check_start(configured(tmp_path, *overrides), use)
    assert len(caught.value.problems) == 1
    assert "\n" not in caught.value.problems[0]


@pytest.mark.parametrize(("use", "count"), [("fit", 1), ("explain", 0)])  # elsewhere, perhaps
def test_a_loggers_missing_package_is_one_line_at_the_start(tmp_path, monkeypatch, use, count):
    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", False)
    monkeypatch.setattr(Start, "language_model", None)
    problems = find_problems(configured(tmp_path, "trainer.loggers=[wandb]"), use)
    assert (
        problems
        == [
            "trainer.loggers names 'wandb', whose package is not installed: pip install "
            "'vidreason[wandb]', or take it off the list"
        ]
        * count
    )


@pytest.mark.parametrize("use", ["fit", "explain"])
def test_full_fine_tuning_without_adapters_can_start(tmp_path, monkeypatch, use):
    monkeypatch.setattr(Start, "language_model", None)
    full = ["stage=instruction", "reasoner.lora=null", "freeze_schedule=[{part: language_model}]"]
    assert find_problems(configured(tmp_path, *full), use) == []


@without_gpu
def test_a_gpu_that_is_not_here_is_missed_by_fit_and_not_by_explain(tmp_path):
    config = configured(tmp_path, "trainer.accelerator=gpu")
    (problem,) = find_problems(config, "fit")
    assert problem.startswith("trainer.accelerator is 'gpu', but PyTorch finds no GPU here")
    assert find_problems(config, "explain") == []


def test_more_devices_than_there_are(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    overrides = ["trainer.accelerator=gpu", "data.global_batch_size=12"]
    config = configured(tmp_path, *overrides, "trainer.devices=3")
    assert find_problems(config, "fit") == [
        "trainer.devices is 3, but PyTorch finds 2 here; set trainer.devices=2, or look at "
        "CUDA_VISIBLE_DEVICES"
    ]
    config = configured(tmp_path, *overrides, "trainer.devices='0,2'")
    assert "numbered from 0 to 1" in find_problems(config, "fit")[0]


def test_a_launcher_that_started_other_processes_is_named(tmp_path, monkeypatch):
    for name, value in {"RANK": 0, "GROUP_RANK": 0, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 4}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    config = configured(tmp_path, "trainer.devices=2", "trainer.strategy=ddp")
    (problem,) = find_problems(config, "fit")
    assert "trainer.devices is 2" in problem
    assert "the launcher has started other processes" in problem


def test_folders_that_cannot_be_written_to_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name, cause in {
        "file/run": "is no folder",
        "dangling/run": "is a link to nothing",
        "a" * 300: "cannot be a folder",
    }.items():
        config = configured(tmp_path, f"run_dir={tmp_path / name}")
        (problem,) = find_problems(config, "fit")
        assert problem.startswith("run_dir is ")
        assert cause in problem
    (tmp_path / "run" / "reasoner").mkdir(parents=True)
    (tmp_path / "run" / "reasoner" / "notes.txt").write_text("mine")
    assert "no reasoner folder" in find_problems(configured(tmp_path), "fit")[0]


def test_all_that_is_wrong_is_said_at_once_and_the_status_is_2(tmp_path, capsys):
    config = configured(tmp_path, "trainer.devices=0", "data.train=[]", "resume=none.ckpt")

    def program() -> None:
        check_start(config, "fit")

    assert exit_status("fit", program) == 2
    first, *others = capsys.readouterr().err.splitlines()
    assert first == "fit: 3 things are wrong:"
    assert [line.split()[0] for line in others] == ["trainer.devices", "data.train", "resume:"]


@pytest.mark.slow
def test_explain_shows_the_tables_and_what_fit_would_refuse(tmp_path, capsys):
    arguments = ["--explain", "--config", TINY, "trainer.precision=16-mixed"]
    model = CHECKOUT / "vidreason/microworld/parts/language_model"
    assert config_program.main([*arguments, f"reasoner.language_model.name_or_path={model}"]) == 2
    captured = capsys.readouterr()
    assert "positions of a sample" in captured.out
    assert captured.err.startswith("config: trainer.precision is 16-mixed")


def test_every_program_with_an_experiment_asks_the_list():
    """A check that nobody asks is none."""
    programs_checked = set()
    for path in (CHECKOUT / "experiments").rglob("*.py"):
        tree = ast.parse(path.read_text())
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        programs_checked |= {
            call.args[1].value
            for call in calls
            if isinstance(call.func, ast.Name)
            and call.func.id in ("check_start", "find_problems")
            and isinstance(call.args[1], ast.Constant)
        }
    assert programs_checked == {use for uses, _ in CHECKS for use in uses}
