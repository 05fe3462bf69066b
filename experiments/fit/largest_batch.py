"""The largest batch of a run, tried before step 1: too little memory shows at once."""

import torch

from callbacks.largest_batch import LargestBatch
from experiments.devices import num_processes, trains_on_gpu
from experiments.experiment_config import ExperimentConfig
from vidreason.model import VideoReasoner
from vidreason.perception.config import PerceiverConfig
from vidreason.perception.visual_tokens import VisualBatch
from vidreason.reasoning.text_batch import TextBatch
from vidreason.training.stage import TrainingBatch


def rehearses(config: ExperimentConfig) -> bool:
    """Tell whether ``fit`` tries the largest batch before step 1."""
    if config.trainer.strategy.startswith("deepspeed"):
        return False  # its engine counts the batches that it has seen, and gathers their gradients
    wanted = config.trainer.rehearse_largest_batch
    return trains_on_gpu(config) and torch.cuda.is_available() if wanted is None else wanted


def largest_batch(config: ExperimentConfig) -> LargestBatch:
    """Return the callback that tries the largest batch of ``config`` before step 1."""

    def make_batch(reasoner: VideoReasoner) -> TrainingBatch:
        visual, text = longest_batch(config, reasoner, config.data.batch_size)
        return TrainingBatch(visual=visual, text=text)

    return LargestBatch(make_batch, lambda: remedy(config))


def remedy(config: ExperimentConfig) -> str:
    """Say what to change so that a batch takes less memory."""
    data = config.data
    suits = [
        size
        for size in range(1, data.batch_size)
        if data.global_batch_size % (size * num_processes(config)) == 0
    ]
    # The largest of the smaller sizes that divide the global batch.
    advice = [f"data.batch_size={suits[-1]} (now {data.batch_size})"] if suits else []
    if not config.reasoner.language_model.gradient_checkpointing:
        advice.append("reasoner.language_model.gradient_checkpointing=true keeps fewer activations")
    advice.append(f"lower data.max_text_tokens, now {data.max_text_tokens}")
    return "; ".join(advice) + " (experiments.config --explain estimates what each takes)"


def max_visual_tokens(perceiver: PerceiverConfig) -> int:
    """V: the clip tokens of a video, and the most object tokens that it may have."""
    objects = perceiver.objects_per_key_frame if perceiver.use_objects else 0
    if perceiver.kept_objects is not None:
        objects = min(objects, perceiver.kept_objects)
    return perceiver.sampling.num_clips + perceiver.sampling.num_key_frames * objects


def longest_batch(
    config: ExperimentConfig, reasoner: VideoReasoner, batch_size: int
) -> tuple[VisualBatch, TextBatch]:
    """Visual tokens and texts, as ``VideoReasoner.forward`` takes them.

    All are as long as the configuration allows; each text token is a target.
    """
    # (B, V): every video has all visual tokens, clips first, then the objects of each key frame
    shape = batch_size, max_visual_tokens(config.perceiver)
    sampling = config.perceiver.sampling
    numbers = torch.arange(shape[1]) - sampling.num_clips
    num_objects = max((shape[1] - sampling.num_clips) // max(sampling.num_key_frames, 1), 1)
    is_object = numbers >= 0
    key_frames = (numbers // num_objects).clamp(min=0).float()
    visual = VisualBatch(
        features=torch.ones(*shape, reasoner.visual_dim),
        mask=torch.ones(shape, dtype=torch.bool),
        kinds=is_object.long().expand(shape),
        spans=key_frames[:, None].expand(*shape, 2),
        boxes=torch.ones(*shape, 4),
        areas=torch.ones(shape),
        track_ids=(numbers % num_objects).where(is_object, -1).expand(shape),
        durations=torch.ones(batch_size),
    )
    # (B * T,): every text token is a target; the last of a row predicts nothing
    length = config.data.max_text_tokens
    ones = torch.ones(batch_size * length, dtype=torch.int64)
    text = TextBatch(
        input_ids=ones[: batch_size * (length - 1)],
        lengths=torch.full((batch_size,), length - 1),
        longest=length - 1,
        target_ids=ones,
        target_rows=torch.arange(batch_size).repeat_interleave(length),
        target_columns=torch.arange(length).repeat(batch_size),
    )
    return visual, text
