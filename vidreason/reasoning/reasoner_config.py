"""``ReasonerConfig``: what a reasoner is built from."""

from dataclasses import dataclass, field

from vidreason.fusion.fusion_core import FusionConfig
from vidreason.reasoning.language_model import LanguageModelConfig, LoraSettings


@dataclass(kw_only=True)
class ReasonerConfig:
    """The half of the system behind the visual tokens."""

    fusion: FusionConfig = field(default_factory=FusionConfig)
    language_model: LanguageModelConfig = field(default_factory=LanguageModelConfig)
    lora: LoraSettings | None = None
    """Adapters on the language model: stage 2 trains them, stage 1 goes without."""
    system_prompt: str | None = None
    """What the system message says, in training and use. None is what the model's chat template
    says of itself, often nothing; an empty text is an empty message. A template that writes today's
    date writes 26 July 2024 here, always (:data:`vidreason.reasoning.chat_markup.TEMPLATE_DATE`).
    """
