"""Each model that a configuration can name has its source and licence in the table."""

from typing import get_args, get_type_hints

from vidreason.perception.config import SegmenterConfig, VideoEncoderConfig
from vidreason.reasoning.language_model import LanguageModelConfig
from vidreason.released_parts import RELEASED_PARTS, released_part

SIZED_BY_FIELDS = {"viclip", "internvideo-mm", "videomae", "custom"}
NO_MODELS = {"patches"}


def test_every_name_of_a_released_model_is_in_the_table():
    for config in (VideoEncoderConfig, SegmenterConfig):
        names = set(get_args(get_type_hints(config)["name"]))
        assert names - SIZED_BY_FIELDS - NO_MODELS <= RELEASED_PARTS.keys()
    assert LanguageModelConfig().name_or_path in RELEASED_PARTS


def test_what_is_not_published_is_not_in_it():
    assert released_part("runs/experiment/reasoner") is None
    assert not SIZED_BY_FIELDS & RELEASED_PARTS.keys()


def test_an_unsettled_licence_is_called_so():
    assert "unsettled" in RELEASED_PARTS["viclip-b16"].licence
    assert all(part.licence and part.source for part in RELEASED_PARTS.values())
