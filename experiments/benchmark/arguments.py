"""Command lines of the benchmarks. Nothing that is measured is imported for them."""

import argparse

LANGUAGE_MODELS = ("llama-46m", "llama-3-8b", "microworld")
"""Names of the sizes that :mod:`experiments.benchmark.reasoners` knows."""
SIZES = {"360p": (640, 360, 25), "720p": (1280, 720, 30)}
"""Width, height, frames a second."""
AXES = {
    "batch_size": (16, 64, 128),
    "median_tokens": (32, 128),
    "clips": (4, 16),
    "objects": (0, 64, 256),
}
"""Options of ``benchmark step`` and their values in the table."""


def decode(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``benchmark decode``."""
    parser.add_argument("--frames", type=int, default=16, help="sampled of each video")
    parser.add_argument("--seconds", type=int, default=15, help="length of the short videos")
    parser.add_argument("--long-seconds", type=int, default=3600, help="length of the long ones")
    parser.add_argument("--rounds", type=int, default=4, help="of all ways (default: 4)")
    parser.add_argument("--sizes", nargs="*", choices=list(SIZES), default=list(SIZES))


def masks(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``benchmark masks``."""
    parser.add_argument("video", help="its frames are segmented")
    parser.add_argument(
        "--segmenter",
        default="sam-vit-b",
        choices=["microworld", "sam-vit-b", "sam-vit-l", "sam-vit-h"],
    )
    parser.add_argument("--weights", default="", help="of the segmenter; random ones without it")
    parser.add_argument("--frames", type=int, default=1, help="how many, evenly spaced")
    parser.add_argument(
        "--points-per-side", type=int, help="of the grid (default: 8, or the microworld's)"
    )
    parser.add_argument(
        "--kept-share",
        type=float,
        default=0.3,
        help="of masks that pass each filter, where weights are random (default: 0.3)",
    )
    parser.add_argument("--rounds", type=int, default=2, help="of both paths (default: 2)")


def step(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``benchmark step``."""
    add_model_arguments(parser)
    parser.add_argument("--stage", choices=["alignment", "instruction"], default="alignment")
    parser.add_argument("--lora-rank", type=int, default=64, help="of stage instruction")
    parser.add_argument("--batch-size", type=int, default=16, help="samples a step")
    parser.add_argument("--prompt-tokens", type=int, default=16, help="of each sample")
    add_length_arguments(parser, "a response", median=32, sigma=0.95, longest=512)
    parser.add_argument("--rounds", type=int, default=6, help="of all ways (default: 6)")
    parser.add_argument("--steps", type=int, default=1, help="in a round, of each way")
    add_table_arguments(parser)


def options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``benchmark options``."""
    add_model_arguments(parser)
    parser.add_argument("--batch-size", type=int, default=8, help="questions at a time")
    parser.add_argument("--questions-a-video", type=int, default=1)
    parser.add_argument("--options", type=int, default=5, help="of a question")
    parser.add_argument("--option-tokens", type=int, default=4, help="of an option, about")
    add_length_arguments(parser, "a question", median=80, sigma=0.3, longest=512)
    parser.add_argument("--rounds", type=int, default=4, help="of all ways (default: 4)")


def generate(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``benchmark generate``."""
    add_model_arguments(parser)
    parser.add_argument("--batch-size", type=int, default=8, help="questions at a time")
    parser.add_argument("--questions", type=int, default=16, help="in all")
    parser.add_argument("--questions-a-video", type=int, default=1)
    parser.add_argument("--beams", type=int, default=1, help="of a search; 1 is greedy decoding")
    parser.add_argument("--new-tokens", type=int, default=32, help="longest answer")
    add_length_arguments(parser, "a question", median=48, sigma=0.7, longest=512)
    parser.add_argument("--rounds", type=int, default=4, help="of all ways (default: 4)")


def index(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``benchmark index``."""
    parser.add_argument("num_rows", type=int)
    parser.add_argument("--folder", required=True, help="for the index, which is deleted again")
    parser.add_argument("--synthesis", choices=("examples", "batches"), default="examples")


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options that choose and size the reasoner."""
    parser.add_argument(
        "--language-model",
        default="llama-46m",
        help=f"{', '.join(LANGUAGE_MODELS)}, or a folder or repository on the Hugging Face Hub "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--random-weights",
        action="store_true",
        help="do not read the folder's weights; the Llamas of the list have no others",
    )
    parser.add_argument(
        "--dtype",
        choices=["float32", "bfloat16"],
        help="of the frozen weights; bfloat16 computes in it (default: float32, on a GPU bfloat16)",
    )
    parser.add_argument("--quantization", choices=["none", "nf4"], default="none")
    parser.add_argument("--num-queries", type=int, default=32, help="video embeddings of a video")
    parser.add_argument("--seed", type=int, default=0, help="of weights and inputs")
    parser.add_argument("--gpu", action="store_true", help="measure on the first CUDA device")


def add_length_arguments(
    parser: argparse.ArgumentParser, what: str, median: int, sigma: float, longest: int
) -> None:
    """Declare the options of log-normal lengths and of the visual tokens of a video."""
    parser.add_argument(
        "--median-tokens", type=int, default=median, help=f"of {what} (default: %(default)s)"
    )
    parser.add_argument(
        "--sigma",
        type=float,
        default=sigma,
        help="standard deviation of the logarithm of the length (default: %(default)s)",
    )
    parser.add_argument(
        "--longest", type=int, default=longest, help=f"tokens of {what} (default: %(default)s)"
    )
    parser.add_argument("--clips", type=int, default=4, help="clip tokens a video")
    parser.add_argument("--objects", type=int, default=64, help="object tokens a video")


def add_table_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the axes of the table that ``--gpu`` adds."""
    for name, values in AXES.items():
        parser.add_argument(
            f"--table-{name.replace('_', '-')}",
            type=int,
            nargs="*",
            default=list(values),
            help=f"with --gpu: rows of its table that change --{name.replace('_', '-')} alone "
            f"(default: {' '.join(map(str, values))})",
        )
