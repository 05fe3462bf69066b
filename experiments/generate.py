"""Answer prompts about video files.

``python -m experiments.generate model=FOLDER video=a.mp4 prompt="Why did ...?"``:
``video=`` and ``prompt=`` may be given several times; every prompt is answered for every video.
"""

import dataclasses
import sys
from collections.abc import Sequence

from experiments.experiment_config import ExperimentConfig
from experiments.program import run_program
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT


def generate(config: ExperimentConfig) -> int:
    """Print each answer; return 0, or 1 if a video could not be read (the others are answered).

    Raises:
        ValueError: No video, or nothing to ask.
    """
    # Here and not above: these import torch, and mistakes on the command line are told before.
    from experiments.start_checks.checks import check_start
    from experiments.trained_model import answer_prompts, load_trained_model
    from vidreason.reasoning.forecast_text import prediction_text
    from vidreason.video.reader import VideoReadError

    prompts = [*config.prompt, *([FUTURE_PREDICTION_PROMPT] if config.predict else [])]
    if not config.video:
        raise ValueError("name at least one video file: video=PATH")
    if not prompts:
        raise ValueError("say what to ask, prompt='...', or set predict=true")
    check_start(config, "generate")
    reasoner, source = load_trained_model(config)
    status = 0
    for video in config.video:
        try:
            tokens = source(video, None, None)
        except VideoReadError as error:
            print(f"generate: {error}", file=sys.stderr)
            status = 1
            continue
        answers = answer_prompts(reasoner, tokens, prompts, config.decoding)
        for prompt, answer in zip(prompts, answers, strict=True):
            if prompt == FUTURE_PREDICTION_PROMPT:
                forecasts = reasoner.forecast(tokens, config.decoding.futures)
                answer = prediction_text(answer, forecasts)
            print(f"{video}\n> {prompt}\n{answer}\n")
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """Take ``video=`` and ``prompt=`` literally, since a question is not YAML; load the rest."""
    # Questions hold colons, quotes and commas, which YAML would read as its own.
    given: dict[str, list[str]] = {"video": [], "prompt": []}
    others = []
    for argument in sys.argv[1:] if argv is None else argv:
        key, _, value = argument.partition("=")
        if key in given and not value.startswith("["):  # [a, b] is a list for the configuration
            given[key].append(value)
        else:
            others.append(argument)

    def run(config: ExperimentConfig) -> int:
        return generate(
            dataclasses.replace(
                config,
                video=[*config.video, *given["video"]],
                prompt=[*config.prompt, *given["prompt"]],
            )
        )

    return run_program(
        run, program="generate", description="Answer prompts about video files.", argv=others
    )


if __name__ == "__main__":
    sys.exit(main())
