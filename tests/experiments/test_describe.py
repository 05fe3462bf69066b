"""Every key can be looked up, and a wrong one leads to the right one."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.config.__main__ import main
from experiments.config.describe import (
    PROGRAM_SCHEMAS,
    config_keys,
    describe,
    json_schema,
    reference,
)
from experiments.experiment_config import ExperimentConfig
from vidreason.field_texts import field_texts
from vidreason.key_paths import key_paths, similar_keys
from vidreason.other_trainers import OWN_KEYS, own_key

ROOT = Path(__file__).parents[2]


def test_a_key_is_described_by_its_own_text(capsys):
    assert main(["--describe", "optimizer.learning_rate"]) == 0
    assert capsys.readouterr().out == (
        "optimizer.learning_rate (float, default 0.0001)\n"
        "    At the end of the warm-up.\n"
        "    Read by fit; declared in vidreason.training.config.\n"
    )


def test_a_section_is_described_with_all_that_it_holds(capsys):
    assert main(["--describe", "trainer"]) == 0
    lines = capsys.readouterr().out.splitlines()
    described = {line.partition(" ")[0] for line in lines if line.startswith("trainer")}
    fields = {field.name for field in dataclasses.fields(ExperimentConfig().trainer)}
    assert described == {"trainer", *(f"trainer.{name}" for name in fields)}


@pytest.mark.parametrize("wanted", ["data.train.0.root", "data.train[2].root", "data.train.root"])
def test_a_key_of_a_lists_entry(wanted):
    assert describe(wanted).startswith("data.train[].root (str)\n")


def test_all_keys_that_contain_a_word(capsys):
    assert main(["--describe", "warmup"]) == 0
    assert capsys.readouterr().out.startswith("optimizer.warmup_steps (")


def test_without_a_key_all_are_listed_with_their_defaults():
    lines = describe("").splitlines()
    assert len(lines) == len(list(config_keys()))
    assert "optimizer.learning_rate = 0.0001" in lines
    assert "store.path = ''" in lines


def test_an_unknown_key_names_similar_ones(capsys):
    assert main(["--describe", "optimizer.lerning_rate"]) == 2
    error = capsys.readouterr().err
    assert "there is no key 'optimizer.lerning_rate'" in error
    assert "similar are optimizer.learning_rate" in error


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("learning_rate", "optimizer.learning_rate"),
        ("lora_rank", "reasoner.lora.rank"),
        ("num_epoch", "data.num_epochs"),
        ("trainer.devises", "trainer.devices"),
    ],
)
def test_what_other_tools_call_a_setting_leads_to_its_key(wrong, right, capsys):
    assert similar_keys(ExperimentConfig, wrong)[0] == right
    assert main([f"{wrong}=1"]) == 2
    assert f"Did you mean {right}" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([f"--{wrong}", "1"])
    assert f"as key.sub=value: {right}=" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("trainer.report_to=wandb", "Did you mean trainer.loggers? It is a list: 'trainer.loggers"),
        ("trainer.eval_steps=5", "Did you mean trainer.validate_every_n_steps? It is for data.val"),
        ("trainer.save_steps=5", "Did you mean trainer.checkpoint_every_n_steps?"),
        ("resume_from_checkpoint=x", "Did you mean resume? The same command continues"),
        ("gradient_accumulation_steps=2", "Did you mean data.global_batch_size? It counts"),
        ("wandb.project=mine", "Did you mean trainer.loggers?"),
    ],
)
def test_what_other_trainers_call_a_setting_is_no_guess(wrong, message, capsys):
    assert main([wrong]) == 2
    assert message in capsys.readouterr().err


def test_an_option_of_other_trainers_names_the_key(capsys):
    for option, key in (
        ("--save-steps", "trainer.checkpoint_every_n_steps"),
        ("--bf16", "trainer"),
    ):
        with pytest.raises(SystemExit):
            main([option, "5"])
        assert f"without dashes, as key.sub=value: {key}" in capsys.readouterr().err


@pytest.mark.parametrize("wanted", ["wandb", "trainer.report_to", "max_steps"])
def test_a_name_of_other_trainers_is_described_as_the_key_here(wanted, capsys):
    assert main(["--describe", wanted]) == 0
    told, _, described = capsys.readouterr().out.partition("\n\n")
    key = OWN_KEYS[wanted.rpartition(".")[2]].key
    assert told.startswith(f"{wanted}, as other trainers call it, is {key} here. ")
    assert described.startswith(f"{key} (")


def test_the_page_of_training_has_the_names_of_other_trainers_that_messages_know():
    page = (ROOT / "docs" / "training.md").read_text()
    table = page.partition("| elsewhere | here |")[2].partition("\n\n")[0]
    listed: dict[str, str] = {}
    for row in table.splitlines()[2:]:
        _, elsewhere, here, _ = row.split("|")
        listed |= {name: here for name in re.findall(r"`(\w+)[^`]*`", elsewhere)}
    assert listed.keys() == OWN_KEYS.keys()
    for name, meant in OWN_KEYS.items():
        assert re.search(rf"[`']{re.escape(meant.key)}\b", listed[name]), name
        assert own_key(ExperimentConfig, name) == meant  # the key exists
    assert own_key(ExperimentConfig, "data.train") is None


def test_nearly_every_key_has_a_text():
    silent = [key.path for key in config_keys() if not key.text]
    assert len(silent) <= 6, silent


def test_the_page_of_all_keys_is_the_codes():
    """Written anew by ``python -m experiments.config --reference > docs/configuration.md``."""
    assert (ROOT / "docs" / "configuration.md").read_text() == reference()


def test_the_schema_takes_the_shipped_configurations_and_no_wrong_ones(capsys):
    assert main(["--schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema == json_schema()
    shipped = sorted((ROOT / "experiments" / "configs").glob("stage*.yaml"))
    assert len(shipped) > 2
    for path in shipped:
        assert not list(mistakes(yaml.safe_load(path.read_text()), schema))
    assert list(mistakes({"optimizer": {"lr": 1}, "seed": "x"}, schema)) == ["optimizer.lr", "seed"]


def mistakes(value: Any, schema: dict[str, Any], path: str = "") -> list[str]:
    """Paths of what a JSON Schema of these few words forbids."""
    if "anyOf" in schema:
        choices = [mistakes(value, one, path) for one in schema["anyOf"]]
        return min(choices, key=len)
    if "enum" in schema:
        return [] if value in schema["enum"] else [path]
    kinds = {
        **{"string": str, "integer": int, "number": int | float, "boolean": bool},
        **{"array": list, "object": dict, "null": type(None)},
    }
    if "type" in schema and not isinstance(value, kinds[schema["type"]]):
        return [path]
    wrong = []
    if isinstance(value, dict):
        for key, one in value.items():
            below = f"{path}.{key}" if path else key
            inner = schema.get("properties", {}).get(key, schema.get("additionalProperties", True))
            wrong += [below] if inner is False else mistakes(one, inner, below)
    if isinstance(value, list):
        for one in value:
            wrong += mistakes(one, schema["items"], path)
    return wrong


def test_texts_of_fields_are_those_below_them():
    @dataclasses.dataclass
    class Part:
        first: int = 1
        """A number,
        on two lines."""
        second: int = 2

        third: str = ""
        # A comment is none.
        fourth: str = ""
        """Last."""

    assert field_texts(Part) == {"first": "A number, on two lines.", "fourth": "Last."}
    assert list(key_paths(Part)) == ["first", "second", "third", "fourth"]


def test_keys_of_programs_with_a_configuration_of_their_own_are_described():
    text = describe("gate.max_steps")
    assert text.startswith("gate.max_steps (int, default 12)")
    assert "Read by make_instructions" in text
    assert "data_check.hash_videos (int, default 200)" in describe("data_check")
    # An experiment's key comes first, and a program's own is not listed beside it.
    assert "Read by fit" in describe("optimizer.learning_rate")
    programs = (ROOT / "experiments").glob("*/__main__.py")
    schemas = {name for path in programs for name in re.findall(r"schema=(\w+),", path.read_text())}
    declared = {target.partition(":")[2] for target in PROGRAM_SCHEMAS.values()}
    assert schemas - {"DemoConfig"} == declared
