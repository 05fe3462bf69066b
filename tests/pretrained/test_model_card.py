"""The model card: names out of data and of other people's folders stay text."""

import re

import yaml

from vidreason.fusion.fusion_core import FusionConfig
from vidreason.perception.perceiver import PerceiverConfig
from vidreason.pretrained.frozen_parts import FrozenPart
from vidreason.pretrained.model_card import Provenance, model_card
from vidreason.reasoning.reasoner_config import ReasonerConfig

HOSTILE = "a|b\n## c <img src=x onerror=alert(1)> `d` [e](http://f)\n---\nlicense: mit"


def test_names_stay_text() -> None:
    row = {
        "corpus": HOSTILE, "group": HOSTILE, "num_questions": 3, "num_videos": 2,
        "accuracy": 0.5, "low": None, "high": None,
    }  # fmt: skip
    text = model_card(
        ReasonerConfig(fusion=FusionConfig(warm_start=HOSTILE)),
        PerceiverConfig(),
        {"language_model": FrozenPart(source=HOSTILE, sha256="0" * 64)},
        Provenance(
            stage=HOSTILE,
            training_data=[HOSTILE],
            checkpoint=HOSTILE,
            metrics={"runs": {HOSTILE: [row]}},
        ),
        base_model=HOSTILE,
    )
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["license"] == "other"
    lines = text.splitlines()
    assert "license: mit" not in lines
    assert not any(line.startswith("## c") for line in lines)
    outside_code = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", text.split("---\n", 2)[2])
    assert "<img" not in outside_code
    assert "](" not in outside_code.replace("\\](", "")
    tables = [line.replace("\\|", "") for line in lines if line.startswith("|")]
    assert {line.count("|") for line in tables} == {5, 7}
