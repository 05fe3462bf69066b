"""The models behind a program's functions, from transformers; each is loaded when first called.

Shapes: H, W picture, P pictures, S texts, T tokens.
"""

import secrets
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import nms
from torchvision.transforms.functional import to_pil_image
from transformers import PreTrainedTokenizerBase

from vidreason.baselines.config import BaselineConfig
from vidreason.baselines.viper.modules import Box, ModuleError
from vidreason.baselines.viper.pretrained_parts import PretrainedPart, load_part, part_name
from vidreason.baselines.viper.text_model import load_text_model
from vidreason.perception.model_folder import foreign_errors
from vidreason.reasoning.bounded_templates import render_template
from vidreason.reasoning.control_tokens import control_ids
from vidreason.reasoning.decoding import generation_config
from vidreason.reasoning.plain_text import own_turn
from vidreason.reasoning.reasoner_config import DecodingConfig
from vidreason.reasoning.text_model import TextModel

MAX_BOXES = 50
"""Objects of one name that are taken from a picture."""
_SAME_OBJECT = 0.7
"""IoU from which two boxes are of one object."""
_SHORT_ANSWER = DecodingConfig(max_new_tokens=32)
_BLIP2_ANSWER = DecodingConfig(strategy="beam", num_beams=5, length_penalty=-1.0, max_new_tokens=10)
"""ViperGPT's decoding for BLIP-2 (cvlab-columbia/viper@09fe346)."""
_BLIP2_PROMPT = "Question: {} Short answer:"
_QUESTION = f"~{secrets.randbelow(10**24):024}~"
"""Stands for the question while a template is rendered, so that it cannot be read as markup."""
_SMALLEST_DISPARITY = 1e-6  # what is farther away counts as a million units away
_MIN_SIDE = 16
"""Pixels; thinner parts are repeated to this, since image processors cannot take them."""


class TransformersModules:
    """Five models of transformers, by the parts of a configuration's ``weights``.

    ``detector``: Grounding DINO, OWL-ViT or OWLv2. ``matcher``: CLIP or SigLIP. ``vqa``: any model
    that answers about pictures; BLIP-2 with ViperGPT's prompt. ``depth``: Depth Anything, DPT and
    the like. ``language_model``: any causal one; the code model where none is named.

    Args:
        config: Names the parts.
        decoding: How the language model answers.
        device: Where the models go.
        code_model: Gives the model that writes programs.
    """

    def __init__(
        self,
        config: BaselineConfig,
        decoding: DecodingConfig,
        device: torch.device,
        code_model: TextModel | None = None,
    ) -> None:
        self._config = config
        self._decoding = decoding
        self._device = device
        self._code_model = code_model

    @torch.inference_mode()
    def detect(self, picture: Tensor, name: str) -> list[Box]:
        """Find the objects that ``name`` names, the surest first."""
        part = self._detector
        large = _large_enough(picture)
        plain = _plain(_tokenizer(part), name)
        is_dino = "dino" in part.kind
        # Grounding DINO reads a lower-case sentence, the others a list of texts a picture.
        text: Any = f"{plain.lower().strip('. ')}." if is_dino else [[f"a photo of a {plain}"]]
        longest = {"max_length": part.model.config.max_text_len} if is_dino else {}
        inputs = part.processor(
            images=to_pil_image(large), text=text, truncation=True, return_tensors="pt", **longest
        )
        outputs = part.model(**self._on_device(inputs, part))
        # Labels of Grounding DINO are words of the text, which it reads off the ids.
        ids = {"input_ids": inputs["input_ids"]} if is_dino else {}
        size = (large.shape[-2], large.shape[-1])
        [detected] = part.processor.post_process_grounded_object_detection(
            outputs, **ids, target_sizes=[size]
        )
        boxes, scores = detected["boxes"].float().cpu(), detected["scores"].float().cpu()
        kept = nms(boxes, scores, _SAME_OBJECT)[:MAX_BOXES]  # by falling score
        # Back to the pixels of a picture that was too thin.
        across, down = picture.shape[-1] / size[1], picture.shape[-2] / size[0]
        return [Box(*box) for box in (boxes[kept] * boxes.new_tensor([across, down] * 2)).tolist()]

    @torch.inference_mode()
    def match(self, pictures: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        """Score how well texts fit pictures: ``(P, S)`` float32, logits."""
        part = self._matcher
        plain = [_plain(_tokenizer(part), text) for text in texts]
        inputs = part.processor(
            images=[to_pil_image(_large_enough(picture)) for picture in pictures],
            text=plain,
            # SigLIP was trained with texts of one length.
            padding="max_length" if part.kind.startswith("siglip") else True,
            truncation=True,
            return_tensors="pt",
        )
        logits: Tensor = part.model(**self._on_device(inputs, part)).logits_per_image
        return logits.float().cpu()

    @torch.inference_mode()
    def ask(self, picture: Tensor, question: str) -> str:
        """Answer a question about a picture in a few words."""
        part = self._vqa
        tokenizer = _tokenizer(part)
        inputs = part.processor(
            images=to_pil_image(_large_enough(picture)),
            text=_question_text(part, _plain(tokenizer, question)),
            return_tensors="pt",
        )
        decoding = _BLIP2_ANSWER if part.kind == "blip-2" else _SHORT_ANSWER
        stops = [tokenizer.eos_token_id] if isinstance(tokenizer.eos_token_id, int) else []
        output: Tensor = part.model.generate(
            **self._on_device(inputs, part), generation_config=generation_config(decoding, stops)
        )
        # Decoder-only models give the prompt again.
        prompt, [generated] = inputs["input_ids"][0].tolist(), output.tolist()
        answer = generated[len(prompt) :] if generated[: len(prompt)] == prompt else generated
        return own_turn(str(tokenizer.decode(answer, skip_special_tokens=True))).strip()

    @torch.inference_mode()
    def depth(self, picture: Tensor) -> Tensor:
        """Estimate how far away each pixel is: ``(H, W)`` float32, larger is farther."""
        part = self._depth
        inputs = part.processor(images=to_pil_image(picture), return_tensors="pt")
        outputs = part.model(**self._on_device(inputs, part))
        size = (picture.shape[-2], picture.shape[-1])
        [estimate] = part.processor.post_process_depth_estimation(outputs, target_sizes=[size])
        predicted: Tensor = estimate["predicted_depth"].float().cpu()
        is_metric = part.kind in ("glpn", "zoedepth") or (
            getattr(part.model.config, "depth_estimation_type", "relative") == "metric"
        )
        # Relative models predict the inverse of a distance.
        return predicted if is_metric else 1 / predicted.clamp(min=_SMALLEST_DISPARITY)

    def complete(self, prompt: str) -> str:
        """Answer a text by a text."""
        return self._language_model.reply(prompt, self._decoding).text

    @cached_property
    def _detector(self) -> PretrainedPart:
        return load_part("detector", self._config, self._device)

    @cached_property
    def _matcher(self) -> PretrainedPart:
        return load_part("matcher", self._config, self._device)

    @cached_property
    def _vqa(self) -> PretrainedPart:
        return load_part("vqa", self._config, self._device)

    @cached_property
    def _depth(self) -> PretrainedPart:
        return load_part("depth", self._config, self._device)

    @cached_property
    def _language_model(self) -> TextModel:
        name = self._config.weights.get("language_model")
        # Programs are written and questions answered by one model: it is in memory once.
        if self._code_model is not None and name in (None, self._config.weights.get("code_model")):
            return self._code_model
        name = part_name("language_model", self._config)
        try:
            return load_text_model(name, self._config, self._device)
        except ValueError as error:
            raise ModuleError(f"baselines: weights.language_model: {error}") from error

    def _on_device(self, inputs: Any, part: PretrainedPart) -> Any:  # noqa: ANN401 - a BatchFeature
        """The inputs where the model is, pictures in its dtype."""
        return inputs.to(self._device, part.model.dtype)


def _question_text(part: PretrainedPart, question: str) -> str:
    """The question in the model's markup, with a token for the picture."""
    if part.kind == "blip-2":
        return _BLIP2_PROMPT.format(question)
    template = getattr(part.processor, "chat_template", None) or _tokenizer(part).chat_template
    if not isinstance(template, str):
        raise ModuleError(
            f"baselines: weights.vqa is of type {part.kind!r} and has no chat template; put the "
            "one that the model was trained with into chat_template.jinja in its folder"
        )
    content = [{"type": "image"}, {"type": "text", "text": f"{_QUESTION} Answer briefly."}]
    variables = {
        **_tokenizer(part).special_tokens_map,
        "messages": [{"role": "user", "content": content}],
        "add_generation_prompt": True,
    }
    with foreign_errors("baselines: weights.vqa: its chat template"):
        rendered = render_template(template, variables)
    if _QUESTION not in rendered:
        raise ModuleError("baselines: weights.vqa: its chat template leaves out the question")
    return rendered.replace(_QUESTION, question)


def _plain(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """The text with a blank inside of all that the tokenizer would read as a control token."""
    # A name of one character cannot be broken up.
    names = tokenizer.convert_ids_to_tokens(sorted(control_ids(tokenizer)))
    # The longest first, as a name may be a part of another.
    names = sorted((name for name in names if len(name) > 1), key=len, reverse=True)
    for name in names:
        text = text.replace(name, f"{name[0]} {name[1:]}")
    return text


def _tokenizer(part: PretrainedPart) -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = part.processor.tokenizer
    return tokenizer


def _large_enough(picture: Tensor) -> Tensor:
    """The picture, its rows or columns repeated where it has very few."""
    height, width = picture.shape[-2:]
    # Of each new row, the row that it repeats.
    rows = torch.arange(max(height, _MIN_SIDE)) * height // max(height, _MIN_SIDE)
    columns = torch.arange(max(width, _MIN_SIDE)) * width // max(width, _MIN_SIDE)
    return picture[:, rows][:, :, columns]
