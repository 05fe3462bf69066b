"""Train the microworld's three foundation models and write them where the wheel carries them.

``python -m experiments.pretrain_microworld encoder`` (or ``segmenter``, or ``language_model``)
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from experiments.program import exit_status
from vidreason.microworld import parts

if TYPE_CHECKING:
    from torch import nn

Model = TypeVar("Model", bound="nn.Module")

STEPS = {"encoder": 2000, "segmenter": 2500, "language_model": 5800}
"""What the shipped parts were trained for, from random weights: the segmenter and the language
model on today's world, the encoder on the former one, whose videos ended anywhere. The language
model went through several cycles, three of them cut short (2500 of 4000 steps, 300, 1500 of 2000,
500 of 1200, 400, 600), of which the fourth and later ones had stories that tell what comes next as
they do now, and the last but one four times as many of them."""
LEARNING_RATES = {"encoder": 1e-3, "segmenter": 1e-3, "language_model": 2e-3}


def pretrain(
    part: str,
    steps: int,
    out: Path,
    *,
    width: int = parts.WIDTH,
    num_layers: int = parts.NUM_LAYERS,
    start: Path | None = None,
    learning_rate: float = 1e-3,
) -> None:
    """Train one part and write it below ``out``.

    Args:
        part: Its name in ``STEPS``.
        steps: Optimizer steps.
        out: Folder of the parts.
        width: Of the language model.
        num_layers: Of the language model.
        start: Folder of parts to go on from, as this function writes it; None for random weights.
        learning_rate: The highest.
    """
    import torch
    from torch import nn
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    from vidreason.microworld.encoder_pretraining import pretrain_encoder
    from vidreason.microworld.language_pretraining import pretrain_language_model, train_tokenizer
    from vidreason.microworld.segmenter_pretraining import pretrain_segmenter

    out.mkdir(parents=True, exist_ok=True)
    config = parts.perceiver_config()
    if start is not None:
        config.video_encoder.weights = str(start / parts.ENCODER_WEIGHTS.name)
        config.segmenter.weights = str(start / parts.SEGMENTER_WEIGHTS.name)
    if part == "encoder":
        encoder = _report(
            pretrain_encoder(
                config.video_encoder, config.sampling, steps=steps, learning_rate=learning_rate
            )
        )
        _save(encoder, out / parts.ENCODER_WEIGHTS.name)
    elif part == "segmenter":
        _save(
            _report(pretrain_segmenter(config.segmenter, steps=steps, learning_rate=learning_rate)),
            out / parts.SEGMENTER_WEIGHTS.name,
        )
    else:
        if start is None:
            tokenizer, model = train_tokenizer(parts.VOCAB_SIZE), None
        else:
            started = start / parts.LANGUAGE_MODEL_FOLDER.name
            tokenizer = PreTrainedTokenizerFast.from_pretrained(started)
            model = LlamaForCausalLM.from_pretrained(started, dtype=torch.float32)
        model = _report(
            pretrain_language_model(
                tokenizer,
                steps=steps,
                width=width,
                num_layers=num_layers,
                start=model,
                learning_rate=learning_rate,
            )
        )
        folder = out / parts.LANGUAGE_MODEL_FOLDER.name
        nn.Module.half(model).save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _report(run: Iterator[tuple[int, dict[str, float], Model]]) -> Model:
    """Print losses as they come and return the trained model."""
    started = time.monotonic()
    model: Model | None = None
    for step, losses, trained in run:
        model = trained
        shown = "  ".join(f"{name} {value:.4f}" for name, value in losses.items())
        print(f"step {step}  {shown}  ({time.monotonic() - started:.0f} s)", flush=True)
    assert model is not None
    return model


def _save(module: "nn.Module", path: Path) -> None:
    from safetensors.torch import save_file

    tensors = {key: value.half().contiguous() for key, value in module.state_dict().items()}
    save_file(tensors, str(path))


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line and train the parts it names."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.pretrain_microworld",
        description="Train one part from random weights.",
    )
    parser.add_argument("part", choices=sorted(STEPS))
    parser.add_argument("--steps", type=int, help="optimizer steps (default: the shipped part's)")
    parser.add_argument("--out", type=Path, default=parts.PARTS_FOLDER, metavar="DIR")
    parser.add_argument("--width", type=int, default=parts.WIDTH, help="of the language model")
    parser.add_argument(
        "--layers", type=int, default=parts.NUM_LAYERS, help="of the language model"
    )
    parser.add_argument(
        "--start", type=Path, metavar="DIR", help="parts to go on from (default: random weights)"
    )
    parser.add_argument("--learning-rate", type=float, help="(default: the shipped part's)")
    arguments = parser.parse_args(argv)

    def run() -> None:
        import torch

        torch.manual_seed(0)
        pretrain(
            arguments.part,
            arguments.steps or STEPS[arguments.part],
            arguments.out,
            width=arguments.width,
            num_layers=arguments.layers,
            start=arguments.start,
            learning_rate=arguments.learning_rate or LEARNING_RATES[arguments.part],
        )

    return exit_status("pretrain_microworld", run)


if __name__ == "__main__":
    sys.exit(main())
