"""A configuration of a source that makes no sense is refused with a remedy."""

from typing import Any

import pytest

from data_modules.clip_source_config import ClipSourceConfig


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "ego4d", "cut": "whole"}, "choose length"),
        ({"kind": "something_something", "cut": "scenes"}, "choose whole"),
        ({"kind": "ego4d", "reader": "ego4d"}, "remove them"),
        ({"kind": "something_something", "split": "val"}, "training videos only"),
        ({"kind": "folder", "root": "s3://bucket/videos"}, "copy it"),
        ({"kind": "folder", "root": ""}, "root is empty"),
        ({"kind": "corpus"}, "reader is ''"),
        ({"kind": "corpus", "reader": "webvi"}, "did you mean webvid"),
        ({"kind": "corpus", "reader": "ego4d"}, "use kind 'ego4d'"),
        ({"kind": "corpus", "reader": "nextqa", "split": "val"}, "training splits only"),
        ({"kind": "folder", "min_seconds": 9, "max_seconds": 4}, "at least 9"),
        ({"kind": "folder", "min_seconds": float("nan")}, "at least 0.5"),
        ({"kind": "folder", "weight": 0}, "above 0"),
        ({"kind": "folder", "weight": float("inf")}, "finite"),
        *(
            ({"kind": "folder", "name": name}, "at most 40 letters")
            for name in ("a b", "../x", ".hidden", "<b>", "\u00fc", "n" * 41, "a\n")
        ),
    ],
)
def test_what_makes_no_sense(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClipSourceConfig(**({"root": "videos"} | fields))


def test_defaults_of_each_kind() -> None:
    ego4d = ClipSourceConfig(kind="ego4d", root="x")
    assert (ego4d.name, ego4d.cut, ego4d.licence) == ("ego4d", "length", "ego4d")
    something = ClipSourceConfig(kind="something_something", root="x", name="ssv2")
    assert (something.name, something.cut) == ("ssv2", "whole")
    assert something.licence == "something-something-v2"
    assert ClipSourceConfig(kind="folder", root="x").cut == "scenes"
    corpus = ClipSourceConfig(kind="corpus", root="x", reader="webvid", split="train[:10%]")
    assert (corpus.cut, corpus.licence) == ("whole", "")
