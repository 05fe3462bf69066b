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
        """What it is,
        on two lines."""
        second: int = 2

        third: str = ""
        # A comment is none.
        fourth: str = ""
        """Last."""

    assert field_texts(Part) == {"first": "What it is, on two lines.", "fourth": "Last."}
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
