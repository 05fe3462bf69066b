"""Configurations from anywhere: literal, in bounds, and every mistake one line with its place."""

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from experiments.experiment_config import ExperimentConfig
from vidreason.config import (
    ConfigurationError,
    config_from_values,
    config_parser,
    merge_config,
    save_config,
    to_yaml,
)
from vidreason.json_object import read_json_object
from vidreason.literal_yaml import MAX_NODES


@dataclass(kw_only=True)
class Part:
    rate: float = 1.0
    count: int = 1
    kind: Literal["no", "auto", "1e3"] = "no"

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise ValueError(f"part.rate is {self.rate}; it must be above 0")


@dataclass(kw_only=True)
class Whole:
    name: str = "x"
    revision: str | None = None
    devices: int | str = "auto"
    on: bool = False
    maybe: bool | None = None
    part: Part = field(default_factory=lambda: Part(count=7))
    parts: list[Part] = field(default_factory=list)
    by_name: dict[str, Part] = field(default_factory=lambda: {"a": Part(rate=2.0)})
    anything: dict[str, list[Any]] = field(default_factory=dict)


def read(folder: Path, text: str | bytes) -> Whole:
    path = folder / "a.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return merge_config(Whole, [str(path)])


def problems(folder: Path, text: str | bytes) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        read(folder, text)
    messages = [problem.removeprefix(f"{folder}/") for problem in caught.value.problems]
    assert all("\n" not in problem for problem in messages)
    return messages


LITERAL = {
    "revision: 1e10": ("revision", "1e10"),
    "revision: 0123": ("revision", "0123"),
    "revision: 12:30:45": ("revision", "12:30:45"),
    "revision: 2026-11-28": ("revision", "2026-11-28"),
    "revision: 0x1F": ("revision", "0x1F"),
    "revision: 1_000": ("revision", "1_000"),
    "revision: .inf": ("revision", ".inf"),
    "revision: null": ("revision", None),
    "revision: 'null'": ("revision", "null"),
    "revision: ~": ("revision", None),
    "name: no": ("name", "no"),
    "name: Off": ("name", "Off"),
    "name: true": ("name", "true"),
    "name: 5": ("name", "5"),
    "name: $HOME {x} %d": ("name", "$HOME {x} %d"),
    "name: !!str 5": ("name", "5"),
    "devices: 2": ("devices", 2),
    "devices: '2'": ("devices", "2"),
    "devices: auto": ("devices", "auto"),
    "devices: '0,1'": ("devices", "0,1"),
    "on: yes": ("on", True),
    "on: OFF": ("on", False),
    "maybe:": ("maybe", None),
    "part: {rate: 1e-3}": ("part", Part(rate=0.001, count=7)),
    "part: {rate: '1e-3'}": ("part", Part(rate=0.001, count=7)),
    "part: {rate: 3}": ("part", Part(rate=3.0, count=7)),
    "part: {kind: no}": ("part", Part(kind="no", count=7)),
    "part: {kind: 1e3}": ("part", Part(kind="1e3", count=7)),
    "parts: [{count: 2}]": ("parts", [Part(count=2)]),
    "by_name: {b: {}}": ("by_name", {"a": Part(rate=2.0), "b": Part()}),
    "by_name: {a: {count: 3}}": ("by_name", {"a": Part(rate=2.0, count=3)}),
    "anything: {k.x: [1, 1e-4, no, true, null, '5', 007]}": (
        "anything",
        {"k.x": [1, 1e-4, "no", True, None, "5", 7.0]},
    ),
    "base: &b {rate: 5}": None,
    "parts: [&b {rate: 5}, *b]": ("parts", [Part(rate=5), Part(rate=5)]),
    "parts: [&b {rate: 5}, {<<: *b, count: 2}]": ("parts", [Part(rate=5), Part(rate=5, count=2)]),
}


@pytest.mark.parametrize("text", [text for text, value in LITERAL.items() if value])
def test_values_are_what_is_written(tmp_path, text):
    name, value = LITERAL[text]
    config = read(tmp_path, text)
    assert getattr(config, name) == value
    assert type(getattr(config, name)) is type(value)
    others = dataclasses.asdict(config)
    defaults = dataclasses.asdict(Whole())
    assert {k for k in others if others[k] != defaults[k]} <= {name}
    # What is written is read back, whatever it looks like.
    save_config(config, tmp_path / "saved.yaml")
    assert merge_config(Whole, [str(tmp_path / "saved.yaml")]) == config


WRONG = {
    "name: ${oc.env:HOME}": "a.yaml:1: name holds '${oc.env:HOME}'; nothing is put in",
    "name: '\\${x}'": "a.yaml:1: name holds",
    "name: x${oc.decode:${oc.env:K}}": "a.yaml:1: name holds",
    "part:\n  rate: ${name}": "a.yaml:2: part.rate holds",
    "by_name: {'${x}': {}}": "a.yaml:1: by_name.${x} holds '${x}'",
    "anything: {a: [[{b: '${x}'}]]}": "a.yaml:1: anything.a[0][0].b holds",
    "# c\nname: ???": "a.yaml:2: name is ???",
    "name: \\???": "a.yaml:1: name is \\???",
    "part:\n\trate: 1": "a.yaml:2: not YAML: a tab where YAML wants spaces; indent by spaces",
    "name: @x": "a.yaml:1: not YAML: found character",
    "name: 'x": "a.yaml:",
    "part: {rate: 2": "a.yaml:",
    "- a\n- b": "a.yaml:1: a list at the top; expected keys",
    "just words": "a.yaml:1: a value at the top; expected keys",
    "name: a\n---\nname: b": "a.yaml:2: a second document begins",
    "name: a\npart: {}\nname: b": "a.yaml:3: the key 'name' stands there twice, as at",
    "name: !!python/object/apply:os.system [id]": "a.yaml:1: the tag ",
    "part: !!python/name:os.system": "a.yaml:1: the tag ",
    "name: !env HOME": "a.yaml:1: the tag '!env'",
    "? [a, b]\n: c": "a.yaml:1: a key that is no text",
    "? {a: b}\n: c": "a.yaml:1: a key that is no text",
    "name: *a": "a.yaml:1: ",
    "part: &a {rate: *a}": "a.yaml:1: the alias *a stands for nothing complete",
    "part: {<<: 5}": "a.yaml:1: << takes sections",
    "nname: x": "a.yaml:1: nname: there is no such key. Did you mean name or ",
    "part:\n  rat: 2": "a.yaml:2: part.rat: there is no such key. Did you mean part.rate?",
    "rate: 2": "a.yaml:1: rate: there is no such key. Did you mean part.rate or parts.rate",
    "zzz: 1": "a.yaml:1: zzz: there is no such key; known are name, revision, devices",
    "part: 5": "a.yaml:1: part: expected a section, with the keys rate, count, kind; found '5'",
    "part: [1]": "a.yaml:1: part: expected a section, with the keys rate, count, kind; "
    "found a list",
    "parts: {a: 1}": "a.yaml:1: parts: expected a list; its entries have numbers, as in parts.0.a; "
    "found the key 'a'",
    "parts: one": "a.yaml:1: parts: expected a list; found 'one'; write ['one']",
    "parts: [1]": "a.yaml:1: parts[0]: expected a section, with the keys rate, count, kind; "
    "found '1'",
    "by_name: x": "a.yaml:1: by_name: expected names, each with its value, as in {NAME: ...}; "
    "found 'x'",
    "name: [q, v]": "a.yaml:1: name: Value '['q', 'v']' of type 'list' is incompatible with "
    "type hint 'str'",
    "name:": "a.yaml:1: name: field 'name' is not Optional; nothing is given",
    "on: maybe": "a.yaml:1: on: Value 'maybe' of type 'str' is incompatible with type hint 'bool'",
    "on: 1": "a.yaml:1: on: Value '1' of type 'int' is incompatible with type hint 'bool'",
    "part: {count: 1.5}": "a.yaml:1: part.count: Value '1.5' of type 'float' is incompatible "
    "with type hint 'int'",
    "part: {count: yes}": "a.yaml:1: part.count: Value 'yes' of type 'str' is incompatible "
    "with type hint 'int'",
    "part: {count: 010}": "a.yaml:1: part.count: Value '010' of type 'str' is incompatible "
    "with type hint 'int'",
    "part: {count: 1:30}": "a.yaml:1: part.count: Value '1:30' of type 'str' is incompatible with",
    "part: {count: 99999999999999999999}": "a.yaml:1: part.count: expected a whole number of "
    "at most 63 bits, found '99999999999999999999'",
    "part: {rate: .nan}": "a.yaml:1: part.rate: expected a finite number, found '.nan'",
    "part: {rate: -.INF}": "a.yaml:1: part.rate: expected a finite number",
    "part: {rate: nan}": "a.yaml:1: part.rate: expected a finite number",
    "part: {rate: 1e999}": "a.yaml:1: part.rate: expected a finite number, found '1e999'",
    "part: {rate: 1e\u20134}": "a.yaml:1: part.rate: Value '1e\u20134' of type 'str' is "
    "incompatible with type hint 'float' (it has the character U+2013 in it)",
    "part: {kind: atuo}": "a.yaml:1: part.kind: Invalid value 'atuo', expected one of ['no', "
    "'auto', '1e3']. Did you mean: 'auto'?",
    "name: a\n\npart:\n  count: 3\n  rate: -1": "a.yaml:5: part.rate is -1.0; it must be above 0",
    "by_name:\n  b: {rate: 0}": "a.yaml:2: by_name.b: part.rate is 0.0",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_one_line_with_file_line_and_field(tmp_path, text):
    (problem,) = problems(tmp_path, text)
    assert problem.startswith(WRONG[text])


def test_all_that_is_wrong_is_said_at_once(tmp_path):
    text = "nname: x\non: maybe\npart: {rate: -1, count: x}\nparts: [{rate: 0}, {kind: z}]\n"
    assert [problem.split()[0] for problem in problems(tmp_path, text)] == [
        *("a.yaml:1:", "a.yaml:2:", "a.yaml:3:", "a.yaml:4:", "a.yaml:4:")
    ]
    with pytest.raises(ConfigurationError) as caught:
        merge_config(Whole, [str(tmp_path / "none.yaml")], ["on=2", "words", "part.rate=0"])
    assert len(caught.value.problems) == 4


def test_each_part_is_checked_whatever_is_wrong_with_others(tmp_path):
    text = "parts: [1, {rate: 0}, {count: '${x}'}, {rate: -2}]\non: 3\n"
    starts = ["parts[2].count holds", "parts[0]: expected", "on: Value '3'", "parts[1]: part.rate"]
    messages = problems(tmp_path, text)
    assert len(messages) == 5
    for start, problem in zip([*starts, "parts[3]: part.rate is -2"], messages, strict=True):
        assert problem.split(": ", 1)[1].startswith(start)


@dataclass(kw_only=True)
class Required:
    size: int
    part: Part
    inner: list["Required"] = field(default_factory=list)


def test_what_has_no_default_is_asked_for_once():
    values = {"size": "x", "inner": [{"size": 1, "part": {}}, {"part": {}}]}
    with pytest.raises(ConfigurationError) as caught:
        config_from_values(Required, values, "c.json")
    assert [problem.removeprefix("c.json: ") for problem in caught.value.problems] == [
        "size: Value 'x' of type 'str' is incompatible with type hint 'int'",
        "inner[1].size is missing; it has no default",
        "part is missing; it has no default",
    ]
    right = {"size": 1, "part": {"rate": 2}, "inner": [{"size": 2, "part": {}}]}
    assert config_from_values(Required, right, "c.json") == Required(
        size=1, part=Part(rate=2.0), inner=[Required(size=2, part=Part())]
    )


def test_a_default_is_not_resolved_either(monkeypatch):
    monkeypatch.setenv("SECRET", "hunter22")
    schema = dataclasses.make_dataclass("Env", [("key", str, "${oc.env:SECRET}")])
    with pytest.raises(TypeError, match=r"a default of Env holds \$\{"):
        config_from_values(schema, {}, "c.json")


def test_aliases_that_multiply_and_depth_have_an_end(tmp_path):
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30)
    )
    (problem,) = problems(tmp_path, laughs)
    assert f"more than {MAX_NODES:,} values" in problem
    (problem,) = problems(tmp_path, "name: " + "[" * 100_000)
    assert "more than 32 levels" in problem
    (problem,) = problems(tmp_path, "anything: {a: [" + "1," * 30_000 + "]}")
    assert "more than" in problem


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: \xff", "a.yaml:1: not UTF-8 (byte 0xff); save it as UTF-8"),
        (b"a: b\nname: x\xe9", "a.yaml:2: not UTF-8"),
        (b"name: a\x00b", "a.yaml:1: not YAML: "),
        (b"\xff\xfen\x00a\x00", "a.yaml:1: not UTF-8"),
        (b"#" * (2**20 + 1), "--config: "),
    ],
)
def test_files_that_are_no_text_are_named(tmp_path, content, message):
    (problem,) = problems(tmp_path, content)
    assert problem.startswith(message)


def test_an_empty_file_and_a_byte_order_mark_change_nothing(tmp_path):
    for content in (b"", b"# nothing\n", b"---\n", b"\xef\xbb\xbf", b"{}"):
        assert read(tmp_path, content) == Whole()
    assert read(tmp_path, b"\xef\xbb\xbfname: y\r\n").name == "y"


def test_what_is_no_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, message in {
        "pipe": "is no regular file",
        "": "is a folder",
        "none.yaml": "there is no file",
        "a\0b": "there is no file",
        "x" * 5000: "there is no file",
    }.items():
        with pytest.raises(ConfigurationError, match=message):
            merge_config(Whole, [str(tmp_path / name) if name != "a\0b" else name])


OVERRIDES = {
    "name": "override 'name' is not of the form key.sub=value",
    "=5": "override '=5' is not of the form",
    "part..rate=5": "is not of the form",
    "on=": "override 'on=': on: field 'on' is not Optional; nothing is given",
    "\u2014config=x": "by_name, anything (it has the character U+2014 in it)",
    "\u2013\u2013config": "it begins with the dash U+2013",
    "name=${x}": "override 'name=${x}': name holds",
    "part.${x}=1": "part.${x} holds",
    "parts=[{rate: 1": "override 'parts=[{rate: 1': not YAML",
    "parts[0].rate=1": "override 'parts[0].rate=1': there is no entry 0 in a list of 0: parts",
    "parts.0.rate=1": "override 'parts.0.rate=1': there is no entry 0 in a list of 0: parts",
    "parts.x.rate=1": "parts: expected a list; its entries have numbers, as in parts.0.x; ",
    "name.x=1": "name: it is one value, which has no keys; found the key 'x'",
    "name==n": "override 'name==n' has two '='; write name=n",
    "mine.yaml": "is not of the form key.sub=value; a file is given as --config mine.yaml",
    # What stands below an unknown key tells more than it does.
    "prt.rate=1": "prt: there is no such key. Did you mean part.rate or parts.rate?",
    "xyz.part_rat=1": "xyz: there is no such key. Did you mean part.rate?",
    "xyz.part.rat=1": "xyz: there is no such key. Did you mean part.rate",
    "PART.RATE=1": "PART: there is no such key. Did you mean part.rate",
    "part=null": "part: field 'part' is not Optional; nothing is given",
    "part.rate=1,5": "part.rate: Value '1,5' of type 'str' is incompatible with type hint 'float'",
}


@pytest.mark.parametrize("override", OVERRIDES)
def test_overrides_that_are_wrong_are_named(override):
    with pytest.raises(ConfigurationError) as caught:
        merge_config(Whole, [], [override])
    (problem,) = caught.value.problems
    assert OVERRIDES[override] in problem


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["--part.rate", "2"], "as key.sub=value: part.rate=..."),
        (["-part.rate=2"], "as key.sub=value: part.rate=2"),
        (["--part-rate=2"], "as key.sub=value: part.rate=2"),
        (["--confg", "a.yaml"], "as key.sub=value, and a file by --config FILE"),
        (["-c", "a.yaml"], "as key.sub=value, and a file by --config FILE"),
    ],
)
def test_options_that_there_are_not_lead_to_keys(capsys, arguments, remedy):
    with pytest.raises(SystemExit):
        config_parser("x", "y", Whole).parse_intermixed_args(arguments)
    assert capsys.readouterr().err.rstrip().endswith(remedy)


def test_overrides_are_literal():
    overrides = ["name=a=b", "revision=007", "part.rate=1e-3"]
    config = merge_config(Whole, [], overrides)
    assert (config.name, config.revision, config.part.rate) == ("a=b", "007", 0.001)
    assert merge_config(Whole, [], ["name=''"]).name == ""


def test_what_is_wrong_is_told_of_who_wrote_it_last(tmp_path):
    """An override that a check refuses is not blamed on the line of the file that it replaced."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    files = [str(tmp_path / name) for name in FILES]
    for override, source in {
        "part.rate=-1": "override 'part.rate=-1': part.rate is",
        "part={rate: -1}": "override 'part={rate: -1}': part.rate is",
        "parts.0.rate=-1": "override 'parts.0.rate=-1': parts[0]: part.rate is",
        "by_name.b.rate=-1": "override 'by_name.b.rate=-1': by_name.b: part.rate is",
        # Others have written to the same section.
        "part.kind=no": f"{files[1]}:3: part.rate is -7",
    }.items():
        given = files if override == "part.kind=no" else files[:1]
        with pytest.raises(ConfigurationError) as caught:
            merge_config(Whole, given, [override])
        (problem,) = caught.value.problems
        assert problem.startswith(source), problem


FILES = {
    "a.yaml": "part:\n  count: 3\n  rate: 2\nparts:\n  - rate: 2\nby_name:\n  b: {rate: 2}\n",
    "b.yaml": "# c\npart:\n  rate: -7\n",
}


def test_an_override_without_a_value_empties(tmp_path):
    (tmp_path / "a.yaml").write_text("name: n\nrevision: r\nparts: [{}]\nby_name: {b: {}}\n")
    overrides = ["name=", "revision=", "parts=", "by_name=", "maybe="]
    config = merge_config(Whole, [str(tmp_path / "a.yaml")], overrides)
    assert (config.name, config.revision, config.parts, config.maybe) == ("", None, [], None)
    assert config.by_name == {}


def test_an_entry_of_a_list_is_overridden_by_its_number(tmp_path):
    (tmp_path / "a.yaml").write_text("parts: [{count: 1}, {count: 2, rate: 3}]\n")
    overrides = ["parts.1.count=5", "parts[0].rate=7"]
    config = merge_config(Whole, [str(tmp_path / "a.yaml")], overrides)
    assert config.parts == [Part(count=1, rate=7.0), Part(count=5, rate=3.0)]
    # The entries of a default, too.
    given = merge_config(ExperimentConfig, [], ["controls.1=single_frame"]).controls
    expected = ExperimentConfig().controls
    assert given == [expected[0], "single_frame", *expected[2:]]
    with pytest.raises(ConfigurationError, match=r"no entry 2 in a list of 2.*|parts"):
        merge_config(Whole, [str(tmp_path / "a.yaml")], ["parts.2.count=1"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "${oc.env:HOME}"}, r"^c\.json: name holds"),
        ({"name": 5}, r"^c\.json: name: Value '5' of type 'int'.* 'str'$"),
        ({"on": "true"}, r"^c\.json: on: Value 'true' of type 'str'.* 'bool'$"),
        ({"on": 1}, "on: Value '1' of type 'int'.* 'bool'$"),
        ({"part": {"count": "3"}}, r"part\.count: Value '3' of type 'str'.* 'int'$"),
        ({"part": {"count": True}}, r"part\.count: Value 'True' of type 'bool'.* 'int'$"),
        ({"part": {"count": 3.0}}, r"part\.count: Value '3\.0' of type 'float'.* 'int'$"),
        ({"part": {"rate": float("nan")}}, r"part\.rate: expected a finite number, found nan"),
        ({"part": {"rate": 10**400}}, r"part\.rate: expected a finite number, found 10000"),
        ({"part": {"rate": "2"}}, r"part\.rate: Value '2' of type 'str'.* 'float'$"),
        ({"parts": "ab"}, r"parts: expected a list; found 'ab'; write \['ab'\]"),
        ({"parts": None}, "parts: field 'parts' is not Optional; nothing is given"),
        ({"by_name": []}, "by_name: expected names, each with its value, .*; found a list"),
        ({5: 6}, "the key 5 is no text"),
        ({"name": b"x"}, "a value of type bytes"),
    ],
)
def test_values_of_json_are_of_their_own_types(values, message):
    with pytest.raises(ConfigurationError, match=message):
        config_from_values(Whole, values, "c.json")


def test_what_could_not_be_read_back_is_not_written(tmp_path):
    for config in (Whole(name="${x}"), Whole(parts=[Part()], name="???")):
        with pytest.raises(ConfigurationError, match="Whole: name "):
            save_config(config, tmp_path / "a.yaml")
    assert not (tmp_path / "a.yaml").exists()
    text = to_yaml(Whole(name="no", revision="1e5", devices="3"))
    assert yaml.safe_load(text)["name"] == "no"  # by other readers, too
    assert yaml.safe_load(text)["devices"] == "3"


JSON = {
    "[]": "it is no JSON object",
    "": "Expecting value",
    '{"a": 1, "b": {"c": 1, "c": 2}}': "the key 'c' stands there twice",
    '{"a": NaN}': "NaN, which is no number in JSON",
    '{"a": -Infinity}': "-Infinity, which is no number",
    '{"a": ' + "1" * 5000 + "}": "a number of 5,000 digits",
    '{"a": ' + "[" * 200_000: "nested too deeply",
    '{"a": ' + "[" * 65 + "]" * 65 + "}": "nested too deeply",
}


@pytest.mark.parametrize("text", JSON, ids=range(len(JSON)))
def test_json_of_unknown_origin_is_read_strictly(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=JSON[text]) as caught:
        read_json_object(path)
    assert str(caught.value).startswith(f"{path} is damaged: ")
    path.write_text(json.dumps({"a": [1, 2.5, None, "x", {"b": True}]}))
    assert read_json_object(path) == {"a": [1, 2.5, None, "x", {"b": True}]}
