"""The paper's models at their sizes: ViCLIP-B/16, SAM ViT-H and Llama-3-8B, of random weights."""

from dataclasses import replace

import torch

from experiments.benchmark.videos import VideoPlan, write_benchmark_video
from experiments.config.memory_estimate import FRAME_SIZE
from experiments.experiment_config import ExperimentConfig
from experiments.fit.largest_batch import longest_batch
from experiments.gpu_check.random_parts import random_reasoner
from experiments.gpu_check.results import Failed
from experiments.gpu_check.setting import Setting, Stage
from experiments.gpu_check.training import (
    now,
    record_peak,
    record_training,
    reset_peak,
    train,
)
from vidreason.model import VideoReasoner
from vidreason.perception.perceiver import Perceiver, build_perceiver

NEW_TOKENS = 64
"""Tokens of an answer."""
_NUM_FRAMES = 48  # of the video


def perceive(setting: Setting) -> None:
    """Perceive a video of 720p with an encoder and a segmenter of random weights.

    Such a segmenter is sure of no mask: what is measured first, and held to the estimate, is the
    network. Then every mask is kept, which is more than any real video has.

    Raises:
        Failed: There are no object tokens, or some are not finite.
    """
    height, width = FRAME_SIZE
    video = setting.scratch / "video.mp4"
    plan = VideoPlan(width=width, height=height, rate=12, group=48, b_frames=0, preset="veryfast")
    write_benchmark_video(video, plan, _NUM_FRAMES)
    config = setting.config("alignment", "unused").perceiver
    perceiver = build_perceiver(config, setting.device)
    # From here on, so that what the models took while they were built does not count.
    reset_peak(setting.device)
    record = setting.record
    record("video", _perceive(setting, perceiver, str(video)), "s")
    record_peak(record, setting.device)
    segmenter = config.segmenter
    # The perceiver holds this very configuration, and reads its thresholds at each call: below all
    # scores, without suppression of overlaps, and up to the whole frame.
    segmenter.pred_iou_threshold, segmenter.stability_threshold = -1e9, -1.0
    segmenter.box_nms_threshold, config.max_object_share = 1.0, 1.0
    record("video, every mask kept", _perceive(setting, perceiver, str(video)), "s")
    record("key frames", config.sampling.num_key_frames)
    record("points a key frame", segmenter.points_per_side**2)
    tokens = perceiver.perceive(str(video))
    record("visual tokens", len(tokens.features))
    if len(tokens.features) <= config.sampling.num_clips:
        raise Failed("every mask was kept, and no object became a token")
    if not tokens.features.isfinite().all():
        raise Failed("some visual tokens are not finite")


def train_stage(setting: Setting, stage: Stage) -> None:
    """Train a few steps of a stage on its longest batch."""
    config = setting.reasoning_config(stage)
    reasoner = _reasoner(setting, config)
    record_training(setting.record, train(config, reasoner))
    record_peak(setting.record, setting.device)


def generate(setting: Setting) -> None:
    """Answer the longest prompt of stage 2, as after training: without adapters."""
    config = answering_config(setting)
    reasoner = _reasoner(setting, config)
    visual, *_ = longest_batch(config, reasoner, 1)
    prompt = _long_prompt(reasoner, config.data.max_text_tokens)
    # To be warm: libraries choose their kernels at the first call.
    reasoner.generate_ids(visual, ["short"], replace(config.decoding, max_new_tokens=2))
    reset_peak(setting.device)
    started = now(setting.device)
    (answer,) = reasoner.generate_ids(visual, [prompt], config.decoding)
    seconds = now(setting.device) - started
    record = setting.record
    record("answer", seconds, "s")
    record("new tokens a second", len(answer) / seconds, "1/s")
    record("new tokens", len(answer))
    record("prompt", len(reasoner.encode_prompt(prompt)), "tokens")
    record_peak(record, setting.device)


def answering_config(setting: Setting) -> ExperimentConfig:
    """Return the configuration of stage 2 as it answers."""
    # One answer at a time from 17 GiB on: there are no gradients and no optimizer.
    config = setting.reasoning_config("instruction", ((17, 1),))
    return replace(
        config,
        reasoner=replace(config.reasoner, lora=None),
        decoding=replace(config.decoding, max_new_tokens=NEW_TOKENS),
    )


def _perceive(setting: Setting, perceiver: Perceiver, video: str) -> float:
    """Seconds of the second time."""
    perceiver.perceive(video)
    started = now(setting.device)
    perceiver.perceive(video)
    return now(setting.device) - started


def _reasoner(setting: Setting, config: ExperimentConfig) -> VideoReasoner:
    torch.manual_seed(0)
    started = now(setting.device)
    reasoner = random_reasoner(config, setting.device)
    reset_peak(setting.device)
    print(f"built in {now(setting.device) - started:.1f} s", flush=True)
    return reasoner


def _long_prompt(reasoner: VideoReasoner, num_tokens: int) -> str:
    """Words that make a prompt of about ``num_tokens``, with the chat markup around them."""
    # Markup and a word, and with another word: the difference is what a further word takes.
    one, two = (len(reasoner.encode_prompt(" ".join(["ball"] * count))) for count in (1, 2))
    return " ".join(["ball"] * max((num_tokens - one) // (two - one) + 1, 1))
