"""Promptable segmentation models of transformers, for a grid of points.

Their own forward passes are used. SAM's official weights go through
:mod:`~vidreason.perception.sam` instead, which is faster.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidreason.perception.config import SegmenterConfig
from vidreason.perception.mask_generation import PointMasks
from vidreason.perception.model_folder import (
    check_model_folder,
    foreign_errors,
    load_pretrained,
)
from vidreason.perception.weights import local_folder

_CLASSES = {
    "sam": ("SamModel", ("sam",)),
    "sam-hq": ("SamHQModel", ("sam_hq",)),
    "sam2": ("Sam2Model", ("sam2", "sam2_video")),
    "sam3-tracker": ("Sam3TrackerModel", ("sam3_tracker", "sam3_tracker_video", "sam3_video")),
}
"""Class of transformers, and values of ``model_type`` in ``config.json`` of a folder: files for
video hold the weights for images, too."""


class PromptedTransformersModel(nn.Module):
    """A model of transformers as a :class:`~vidreason.perception.mask_generation.PromptableModel`.

    Args:
        model: The model, frozen.
        name: Its configured name.
        mean: Of the three colours, for pixels in [0, 1].
        std: The same.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: Any, name: str, mean: list[float], std: list[float]) -> None:  # noqa: ANN401 - no common class has these methods
        super().__init__()
        self.model = model
        self.image_size: int = model.config.prompt_encoder_config.image_size
        self.keeps_aspect = name in ("sam", "sam-hq")
        self.has_intermediate_levels = name == "sam-hq"
        # A value for each channel, for every pixel: (3,) -> (3, 1, 1)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def encode(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """The image embedding, or all levels of it that the mask decoder reads."""
        height, width = pixels.shape[-2:]
        inputs = (pixels.to(self.mean.device) / 255 - self.mean) / self.std
        # Padding follows normalisation, as in SAM: it is of the mean colour.
        inputs = functional.pad(inputs, (0, self.image_size - width, 0, self.image_size - height))
        embeddings = self.model.get_image_embeddings(inputs)
        if isinstance(embeddings, Tensor):
            return (embeddings,)
        if self.has_intermediate_levels:
            return (embeddings[0], *embeddings[1])
        return tuple(embeddings)

    def decode(self, levels: tuple[Tensor, ...], points: Tensor, min_quality: float) -> PointMasks:
        """Masks of the three granularities that a point may mean."""
        # Each point is a prompt of its own, on every frame: (P, 2) -> (n, P, 1, 2)
        points = points.to(self.mean)[None, :, None].expand(len(levels[0]), -1, -1, -1)
        embeddings: dict[str, Any] = {"image_embeddings": levels if len(levels) > 1 else levels[0]}
        if self.has_intermediate_levels:
            embeddings = {
                "image_embeddings": levels[0],
                "intermediate_embeddings": list(levels[1:]),
            }
        answered = self.model(**embeddings, input_points=points, multimask_output=True)
        # Scores are (n, P, 3) and masks (n, P, 3, a, b): what is good enough, frames outermost.
        frames, points_of_masks, masks = (answered.iou_scores > min_quality).nonzero(as_tuple=True)
        return PointMasks(
            frames=frames,
            qualities=answered.iou_scores[frames, points_of_masks, masks],
            logits=answered.pred_masks[frames, points_of_masks, masks],
        )


def build_transformers_segmenter(
    config: SegmenterConfig, device: torch.device | str = "cpu"
) -> PromptedTransformersModel:
    """Load the model of a folder in the Hugging Face layout, or of a repository of the Hub.

    Raises:
        ValueError: ``weights`` is empty, holds another model, or weights are missing.
    """
    import transformers

    device = torch.device(device)
    if not config.weights:
        raise ValueError(
            f"perceiver.segmenter.weights: empty; {config.name} needs a folder in the Hugging Face "
            "layout or a repository of the Hub"
        )
    folder = local_folder(config.weights)
    check_model_folder(folder)
    where = f"perceiver.segmenter.weights: {config.weights!r}"
    with foreign_errors(where):
        settings, _ = transformers.PretrainedConfig.get_config_dict(folder)
    class_name, model_types = _CLASSES[config.name]
    if settings.get("model_type") not in model_types:
        raise ValueError(
            f"{where} holds a model of type {settings.get('model_type')!r}, {config.name} needs "
            f"one of {', '.join(model_types)}; change segmenter.name"
        )
    model_class = getattr(transformers, class_name)
    with foreign_errors(where):
        structure = model_class.config_class.from_pretrained(folder)
    model = load_pretrained(
        model_class,
        structure,
        folder,
        where,
        device=device,
        dtype=torch.float32,
        dropped_prefixes=("",),  # what a file for video has besides
    )
    with foreign_errors(where):
        processor = transformers.AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            folder, trust_remote_code=False
        )
    segmenter = PromptedTransformersModel(
        model, config.name, processor.image_mean, processor.image_std
    )
    return segmenter.to(device).requires_grad_(False).eval()
