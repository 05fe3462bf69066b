"""Train the microworld's three foundation models and write them where the wheel carries them.

``python -m experiments.pretrain_microworld encoder`` (or ``segmenter``, or ``language_model``)

Two further parts are for the baseline of program synthesis and are not shipped: ``look_head``, and
``programs``, the language model that writes programs for the questions of ``--world``.
"""

import hashlib
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from experiments.program import exit_status
from vidreason.command_line import CommandLineParser
from vidreason.microworld import parts

if TYPE_CHECKING:
    from torch import nn
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

Model = TypeVar("Model", bound="nn.Module")

STEPS = {
    **{"encoder": 2000, "segmenter": 2500, "language_model": 6650},
    **{"look_head": 1000, "programs": 3000},
}
"""Steps that the shipped parts were trained for, from random weights: the segmenter and the
language model on today's world, the encoder on the former one, whose videos ended anywhere. The
language model went through several cycles, three of them cut short (2500 of 4000 steps, 300, 1500
of 2000, 500 of 1200, 400, 600, of 32 documents each), of which the fourth and later ones had
stories that tell what comes next as they do now, and the last but one four times as many of them.
Then it got two more layers and read texts of all forms: 500 of 5,000 steps of 32, and 1,000 of
3,200, 1,400 and 1,100 of 64, as a step has now."""
LEARNING_RATES = {
    **{"encoder": 1e-3, "segmenter": 1e-3, "language_model": 2e-3},
    **{"look_head": 3e-3, "programs": 3e-3},
}
_QUESTION_CORPORA = (
    *("nextqa", "activitynet_qa", "nextgqa", "clevrer", "vcr", "test_of_time"),
    "causal_vid_instruct",
)
_LOOK_ROLLOUTS = 500  # of the training split; three pictures of each


def pretrain(
    part: str,
    steps: int,
    out: Path,
    *,
    width: int = parts.WIDTH,
    num_layers: int = parts.NUM_LAYERS,
    start: Path | None = None,
    learning_rate: float = 1e-3,
    seed: int = 0,
    num_processes: int = 1,
) -> None:
    """Train one part and write it below ``out``.

    Args:
        part: Its name in ``STEPS``.
        steps: Optimizer steps.
        out: Folder of the parts.
        width: Of the language model.
        num_layers: Of the language model; more than it starts from adds layers to it.
        start: Folder of parts to go on from, as this function writes it; None for random weights.
        learning_rate: The highest.
        seed: Of what is drawn to learn from, and of random weights.
        num_processes: That train the language model together.
    """
    out.mkdir(parents=True, exist_ok=True)
    if part == "language_model":
        settings = _Reading(steps, width, num_layers, start, learning_rate, seed)
        _pretrain_language_model(settings, num_processes, out)
        return
    from vidreason.microworld.encoder_pretraining import pretrain_encoder
    from vidreason.microworld.segmenter_pretraining import pretrain_segmenter

    config = parts.perceiver_config()
    config.video_encoder.seed = config.segmenter.seed = seed
    # The configuration names what to start from; an empty name means random weights.
    if start is not None:
        config.video_encoder.weights = str(start / parts.ENCODER_WEIGHTS.name)
        config.segmenter.weights = str(start / parts.SEGMENTER_WEIGHTS.name)
    if part == "encoder":
        encoder = _report(
            pretrain_encoder(
                config.video_encoder,
                config.sampling,
                steps=steps,
                learning_rate=learning_rate,
                seed=seed,
            )
        )
        _save(encoder, out / parts.ENCODER_WEIGHTS.name)
    else:
        _save(
            _report(
                pretrain_segmenter(
                    config.segmenter, steps=steps, learning_rate=learning_rate, seed=seed
                )
            ),
            out / parts.SEGMENTER_WEIGHTS.name,
        )


class _Reading(NamedTuple):
    """Settings of the language model's training."""

    steps: int
    width: int
    num_layers: int
    start: Path | None
    learning_rate: float
    seed: int


def _pretrain_language_model(settings: _Reading, num_processes: int, out: Path) -> None:
    """Train the language model; an interrupted call with the same settings is gone on with."""
    from torch import nn

    from vidreason.microworld.pretraining import BATCHES_PER_STEP
    from vidreason.microworld.training_processes import processes_of, training_processes

    digest = hashlib.sha256(repr(settings).encode()).hexdigest()
    progress = out / f"progress-{digest[:8]}.pt"
    number = processes_of(BATCHES_PER_STEP, num_processes)
    tokenizer, run = _reading(settings, progress)
    with training_processes(number, _read_too, settings, progress):
        model = _report(run)
    folder = out / parts.LANGUAGE_MODEL_FOLDER.name
    nn.Module.half(model).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    progress.unlink()


def _read_too(settings: _Reading, progress: Path) -> None:
    """Train the same language model in another process."""
    for _ in _reading(settings, progress)[1]:
        pass


def _reading(
    settings: _Reading, progress: Path
) -> tuple["PreTrainedTokenizerFast", "Iterator[tuple[int, dict[str, float], LlamaForCausalLM]]"]:
    """Return the tokenizer, and the training of the model."""
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    from vidreason.microworld.language_pretraining import pretrain_language_model, train_tokenizer

    model: LlamaForCausalLM | None = None
    if settings.start is None:
        tokenizer = train_tokenizer(parts.VOCAB_SIZE, settings.seed)
    else:
        folder = settings.start / parts.LANGUAGE_MODEL_FOLDER.name
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return tokenizer, pretrain_language_model(
        tokenizer,
        steps=settings.steps,
        width=settings.width,
        num_layers=settings.num_layers,
        start=model,
        learning_rate=settings.learning_rate,
        seed=settings.seed,
        progress=progress,
    )


def pretrain_look_head(steps: int, out: Path, *, learning_rate: float, seed: int = 0) -> None:
    """Train the head that names looks on the training split's pictures and write it below ``out``.

    Args:
        steps: Optimizer steps.
        out: Folder of the parts.
        learning_rate: The highest.
        seed: Of pictures, weights and batches.
    """
    from vidreason.microworld.look_head import train_look_head
    from vidreason.microworld.scenes import draw_rollouts
    from vidreason.perception.models import build_segmenter

    out.mkdir(parents=True, exist_ok=True)
    segmenter = parts.perceiver_config().segmenter
    segmenter.weights = str(parts.SEGMENTER_WEIGHTS)
    rollouts = [rollout for _, rollout in draw_rollouts("train", _LOOK_ROLLOUTS)]
    run = train_look_head(
        build_segmenter(segmenter), rollouts, steps=steps, learning_rate=learning_rate, seed=seed
    )
    _save(_report(run), out / "look_head.safetensors")


def pretrain_programs(
    world: Path, steps: int, out: Path, *, learning_rate: float, seed: int = 0
) -> None:
    """Train the language model of programs on a world's training questions; write it below ``out``.

    Args:
        world: Folder of the world's corpora, as the demo writes it.
        steps: Optimizer steps.
        out: Folder of the parts.
        learning_rate: The highest.
        seed: Of weights and batches.

    Raises:
        ValueError: The world is not there, or has no question of its training split.
    """
    from torch import nn

    from data_modules.corpora import CorpusConfig
    from data_modules.readers import read_corpus
    from vidreason.baselines.questions import bare_question
    from vidreason.microworld.program_language_model import (
        program_pairs,
        program_tokenizer,
        train_program_model,
    )

    corpora = (
        CorpusConfig(reader=name, root=str(world / name), split="train")
        for name in _QUESTION_CORPORA
    )
    pairs = program_pairs(
        bare_question(example) for corpus in corpora for example in read_corpus(corpus)
    )
    tokenizer = program_tokenizer(pairs)
    print(f"{len(pairs):,} pairs, {len(tokenizer):,} tokens", flush=True)
    model = _report(
        train_program_model(tokenizer, pairs, steps=steps, learning_rate=learning_rate, seed=seed)
    )
    nn.Module.half(model).save_pretrained(out / "programs")
    tokenizer.save_pretrained(out / "programs")


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
    parser = CommandLineParser(
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
    parser.add_argument(
        "--world", type=Path, metavar="DIR", help="the world whose questions `programs` learns"
    )
    parser.add_argument(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help="that train the language model together, at most 2 (default: %(default)s)",
    )
    parser.add_argument("--learning-rate", type=float, help="(default: the shipped part's)")
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of what is drawn to learn from, and of random weights (default: %(default)s, the "
        "shipped parts')",
    )
    arguments = parser.parse_args(argv)
    if arguments.steps is not None and arguments.steps < 1:
        parser.error(f"--steps is {arguments.steps}; it must be at least 1")
    part = arguments.part
    if (part == "programs") != (arguments.world is not None):
        parser.error("--world DIR is for `programs`, which needs it: runs/demo/world of the demo")

    def run() -> None:
        import torch

        torch.manual_seed(arguments.seed)
        steps = arguments.steps or STEPS[part]
        learning_rate = arguments.learning_rate or LEARNING_RATES[part]
        if part == "look_head":
            pretrain_look_head(
                steps, arguments.out, learning_rate=learning_rate, seed=arguments.seed
            )
            return
        if part == "programs":
            pretrain_programs(
                arguments.world,
                steps,
                arguments.out,
                learning_rate=learning_rate,
                seed=arguments.seed,
            )
            return
        pretrain(
            part,
            steps,
            arguments.out,
            width=arguments.width,
            num_layers=arguments.layers,
            start=arguments.start,
            learning_rate=learning_rate,
            seed=arguments.seed,
            num_processes=arguments.processes,
        )

    return exit_status("pretrain_microworld", run)


if __name__ == "__main__":
    sys.exit(main())
