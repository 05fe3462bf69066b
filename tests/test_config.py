from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from vidreason.config import config_parser, merge_config, save_config


@dataclass(kw_only=True)
class Inner:
    rate: float = 1.0
    kind: Literal["a", "b"] = "a"

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise ValueError(f"inner.rate is {self.rate}; it must be above 0")


@dataclass(kw_only=True)
class Outer:
    name: str = "x"
    sizes: list[int] = field(default_factory=lambda: [1, 2])
    inner: Inner = field(default_factory=Inner)
    extra: Inner | None = None


@dataclass(kw_only=True)
class Nested(Outer):
    more: list[Inner] = field(default_factory=list)
    named: dict[str, Inner] = field(default_factory=dict)


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_later_files_win_and_overrides_win_over_files(tmp_path: Path):
    first = write(tmp_path / "first.yaml", "name: first\ninner: {rate: 2, kind: b}\n")
    second = write(tmp_path / "second.yaml", "inner: {rate: 3}\n")
    argv = ["--config", first, "sizes=[5]", "--config", second, "name=override"]
    given = config_parser("p", "d").parse_intermixed_args(argv)
    assert merge_config(Outer, given.config, given.overrides) == Outer(
        name="override", sizes=[5], inner=Inner(rate=3.0, kind="b")
    )


def test_optional_sections_are_absent_until_named(tmp_path: Path):
    assert merge_config(Outer, []).extra is None
    file = write(tmp_path / "a.yaml", "extra: {kind: b}\n")
    assert merge_config(Outer, [file]).extra == Inner(kind="b")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("name2=y", "name2"),
        ("inner.rat=2", "rat"),
        ("inner.rate=fast", "inner.rate.*fast"),
        ("inner.kind=c", "inner.kind"),
        ("inner.rate=-1", "inner.rate is -1.0; it must be above 0"),
        ("just words", "not of the form"),
    ],
)
def test_mistakes_are_value_errors_that_name_the_field(override: str, message: str):
    with pytest.raises(ValueError, match=message):
        merge_config(Outer, [], [override])


def test_a_mistake_in_a_file_names_the_file(tmp_path: Path):
    file = write(tmp_path / "bad.yaml", "inner: {rtae: 2}\n")
    with pytest.raises(ValueError, match=r"bad\.yaml.*rtae"):
        merge_config(Outer, [file])


def test_a_secret_is_refused_before_it_is_written_anywhere(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789abcdef")
    for value in ("hf_0123456789abcdef", "https://user:hunter22@host/v"):
        with pytest.raises(ValueError, match=r"^name holds (the value of|a URL)") as caught:
            merge_config(Outer, [], [f"name={value}"])
        assert value not in str(caught.value)


def test_a_missing_file_is_named():
    with pytest.raises(ValueError, match=r"there is no file 'nowhere\.yaml'"):
        merge_config(Outer, ["nowhere.yaml"])


def test_malformed_yaml_names_the_file(tmp_path: Path):
    file = write(tmp_path / "broken.yaml", "inner: {rate: 2\n")
    with pytest.raises(ValueError, match=r"broken\.yaml"):
        merge_config(Outer, [file])


def test_what_is_saved_loads_back_equal(tmp_path: Path):
    config = Outer(name="y", sizes=[], inner=Inner(rate=0.1), extra=Inner())
    save_config(config, tmp_path / "saved.yaml")
    assert merge_config(Outer, [str(tmp_path / "saved.yaml")]) == config


def test_what_one_merge_sets_is_not_the_default_of_the_next():
    """Defaults are made once a class and copied: for the whole, for sections and for items."""
    set_everywhere = [
        *("name=y", "sizes=[9]", "inner.rate=7", "extra={rate: 7}", "more=[{rate: 7}]"),
        "named={a: {kind: b}}",
    ]
    first = merge_config(Nested, [], set_everywhere)
    assert (first.inner.rate, first.more[0].rate, first.named["a"].kind) == (7, 7, "b")
    assert merge_config(Nested, []) == Nested()
    again = merge_config(Nested, [], ["extra={}", "more=[{}, {kind: b}]", "named={b: {}}"])
    expected = Nested(extra=Inner(), more=[Inner(), Inner(kind="b")], named={"b": Inner()})
    assert again == expected
    assert again.more[0] is not merge_config(Nested, [], ["more=[{}]"]).more[0]
