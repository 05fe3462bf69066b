"""Checks of the parts that a run is made of, from their configurations alone."""

import importlib.util
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from data_modules.readers import reader_named
from experiments.start_checks.start import Start, raised
from vidreason.fusion.config import MAX_PATCH_FRAMES
from vidreason.perception.added_models import build_added_segmenter, check_added_encoder
from vidreason.perception.config import SEGMENTERS, VIDEO_ENCODERS
from vidreason.reasoning.language_model import load_tokenizer, num_word_embeddings
from vidreason.reasoning.tokenization import check_texts, check_turns

_NAME = re.compile(r"\w+", re.ASCII)
_TOKENIZER_FILE = "tokenizer_config.json"


def baselines(start: Start) -> Iterator[str]:
    """Baselines have names of their own, and weights that their kinds know."""
    from experiments.kept_runs import NO_REASONER, PRIORS, ROW_NAMES, VALIDATION
    from vidreason.baselines.build import baseline_problems

    config = start.config
    taken = {*ROW_NAMES, *PRIORS, VALIDATION}
    for name, baseline in config.baselines.items():
        # Names are parts of file names, where a hyphen parts them from the control.
        if not _NAME.fullmatch(name) or name in taken:
            yield (
                f"baselines: {name!r} is no name of a baseline: use letters, digits and _, and "
                f"none of {', '.join(sorted(taken))}"
            )
        yield from baseline_problems(name, baseline, config.baselines, config.decoding)
    if config.model == NO_REASONER and not config.baselines:
        yield "model is none, so baselines alone would be evaluated, and there are none: add one"
    if config.baselines and not config.controls:
        yield "controls is empty: none shows the baselines the video itself"


def added_models(start: Start) -> Iterator[str]:
    """Encoders and segmenters from outside of this project do what perception needs of them."""
    perceiver = start.config.perceiver
    if perceiver.video_encoder.name not in VIDEO_ENCODERS:
        yield from raised(lambda: check_added_encoder(perceiver.video_encoder))
    if perceiver.use_objects and perceiver.segmenter.name not in SEGMENTERS:
        # On meta it is built without weights, which may not be here yet.
        yield from raised(lambda: build_added_segmenter(perceiver.segmenter, torch.device("meta")))


def callbacks(start: Start) -> Iterator[str]:
    """Callbacks from outside of this project can be made."""
    from experiments.fit.added_callbacks import check_callbacks

    yield from raised(lambda: check_callbacks(start.config.trainer.callbacks))


def loggers(start: Start) -> Iterator[str]:
    """The packages of the loggers are installed."""
    from experiments.fit.loggers import check_loggers

    yield from raised(lambda: check_loggers(start.config.trainer.loggers))


def readers(start: Start) -> Iterator[str]:
    """Readers from outside of this project can be imported."""
    data = start.config.data
    for corpus in (*data.train, *data.validation, *data.benchmark):
        yield from raised(partial(reader_named, corpus.reader))


def reasoner_builds(start: Start) -> Iterator[str]:
    """The parts fit together: LoRA finds its layers, the fusion core its widths."""
    yield from start.why_no_reasoner


def trained(start: Start) -> Iterator[str]:
    """There are adapters where they are to be trained."""
    from vidreason.training.trainable import trained_parts

    config = start.config
    thawed = [thaw.part for thaw in config.freeze_schedule]
    has_adapters = config.reasoner.lora is not None
    yield from raised(lambda: trained_parts(config.stage, thawed, has_adapters=has_adapters))


def patches(start: Start) -> Iterator[str]:
    """A rival's architecture gets the patches that it is made for."""
    fusion, perceiver = start.config.reasoner.fusion, start.config.perceiver
    if fusion.kind not in ("temporal_spatial_pool", "frame_qformer", "key_frame_qformer"):
        return
    # side**2 patches of each frame
    frames, side = perceiver.sampling.num_key_frames, perceiver.segmenter.points_per_side
    if not perceiver.use_objects or perceiver.segmenter.name != "patches":
        yield (
            f"reasoner.fusion.kind={fusion.kind} takes the patches of frames; set "
            "perceiver.use_objects=true and perceiver.segmenter.name=patches"
        )
    # A token for each frame, and one for each patch over all frames.
    elif fusion.kind == "temporal_spatial_pool" and fusion.num_queries < frames + side**2:
        yield (
            f"reasoner.fusion.num_queries={fusion.num_queries} is too few for {frames} key frames "
            f"of {side**2} patches: {fusion.kind} needs at least {frames + side**2}"
        )
    elif fusion.kind == "frame_qformer" and frames > MAX_PATCH_FRAMES:
        yield (
            f"perceiver.sampling.num_key_frames={frames} is too many: {fusion.kind} takes "
            f"{MAX_PATCH_FRAMES}"
        )


def quantization(start: Start) -> Iterator[str]:
    """The package for 4-bit weights is installed."""
    kind = start.config.reasoner.language_model.quantization
    if kind != "none" and importlib.util.find_spec("bitsandbytes") is None:
        yield (
            f"reasoner.language_model.quantization={kind} needs the package bitsandbytes: pip "
            "install 'vidreason[quantize]'"
        )


def chat_template(start: Start) -> Iterator[str]:
    """The chat template takes the system prompt, and ends an answer with a token to be learnt."""
    model = start.language_model
    if model is None or not Path(model.name_or_path, _TOKENIZER_FILE).is_file():
        return  # to be downloaded
    built = start.reasoner
    if built is not None:
        known, system_prompt = num_word_embeddings(built.language_model), built.config.system_prompt
        tokenizer = load_tokenizer(model)
        yield from raised(lambda: check_texts(tokenizer, known, system_prompt))
        # Corpora with conversations are checked when they are opened.
        if start.config.data.loss_on == "all":
            yield from raised(lambda: check_turns(tokenizer, system_prompt, are_targets=True))
