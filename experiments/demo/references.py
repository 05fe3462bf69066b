"""The rows that say what could be reached: predictions of the simulator and of a ruler."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

from data_modules.corpus_index import open_corpora
from experiments.experiment_config import ExperimentConfig
from experiments.kept_runs import evaluation_folder
from experiments.trained_model import trained_token_source
from vidreason.evaluation.answerer import Answerer
from vidreason.evaluation.benchmark import evaluate_examples
from vidreason.evaluation.predictions.row_files import write_predictions
from vidreason.example import Example
from vidreason.microworld.answerers import ExtrapolationAnswerer, OracleAnswerer
from vidreason.microworld.corpora import rollout_of_video
from vidreason.microworld.perceived_state import StateProbe
from vidreason.reasoning.prompts import FUTURE_PREDICTION_PROMPT

ORACLE = "oracle (simulator's state)"
EXTRAPOLATION = "extrapolation (perceived tracks)"
_FILES = {ORACLE: "oracle.jsonl", EXTRAPOLATION: "extrapolation.jsonl"}
_NUM_PROBED_VIDEOS = 400
"""Training videos that the extrapolation's probes are fitted on."""


def references_files(config: ExperimentConfig) -> dict[str, Path]:
    """Files of the reference rows by name."""
    return {name: evaluation_folder(config) / file for name, file in _FILES.items()}


def write_references(config: ExperimentConfig, world_seed: int) -> None:
    """Answer the benchmark's questions about the future, if it has any, without the model.

    Args:
        config: The experiment whose benchmark it is.
        world_seed: The seed that the videos were drawn with.
    """
    examples = [
        example
        for example in open_corpora(config.data.benchmark, config.data.max_malformed_fraction)
        # Both predict next events, and answer nothing else.
        if example.corpus == "causal_vid_instruct"
    ]
    if not examples:
        # Nothing is predicted: both rows are n/a.
        for path in references_files(config).values():
            write_predictions(path, [])
        return
    source = trained_token_source(config)
    answerers: dict[str, Answerer] = {
        # One knows what the simulator will do; the other has what the model has, visual tokens.
        ORACLE: OracleAnswerer(lambda video_id: rollout_of_video(video_id, world_seed)),
        EXTRAPOLATION: ExtrapolationAnswerer(
            StateProbe(
                (source(example.media, None, None), rollout_of_video(example.video_id, world_seed))
                for example in _some_training_videos(config)
            ),
            source,
        ),
    }
    for name, path in references_files(config).items():
        write_predictions(path, evaluate_examples(answerers[name], examples, config.evaluation))


def _some_training_videos(config: ExperimentConfig) -> list[Example]:
    # Those of the benchmark's world, whatever was trained on: the probes are no part of the model.
    corpora = [
        replace(corpus, split="train", limit=None)
        for corpus in config.data.benchmark
        if corpus.reader == "causal_vid_instruct"
    ]
    train = open_corpora(corpora, config.data.max_malformed_fraction)
    predictions = (example for example in train if example.prompt == FUTURE_PREDICTION_PROMPT)
    return list(islice(predictions, _NUM_PROBED_VIDEOS))
