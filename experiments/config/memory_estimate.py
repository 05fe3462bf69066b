"""Memory of a configuration on a device, estimated by running its code without values.

Batches are the longest that the configuration allows: every sample has all visual tokens and
``data.max_text_tokens`` tokens, each of them a target. What a rehearsal cannot see is the CUDA
context, the allocator's fragmentation, and scratch memory inside of single kernels.

Shapes: B batch, V visual tokens, T text tokens, D width.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from data_modules.global_order import accumulation
from experiments.devices import num_processes
from experiments.experiment_config import ExperimentConfig
from experiments.fit.largest_batch import longest_batch
from experiments.fit.strategies import SHARD_STATES, SHARD_WEIGHTS
from vidreason.model import VideoReasoner
from vidreason.perception.config import PerceiverConfig
from vidreason.perception.mask_generation import GridSegmenter
from vidreason.perception.models import build_segmenter, build_video_encoder, segmenter_network
from vidreason.reasoning.decoding import left_pad
from vidreason.reasoning.key_value_cache import cache_argument, cache_in
from vidreason.reasoning.language_model import causal_lm
from vidreason.training.loss import next_token_loss
from vidreason.training.optimizer import build_optimizer
from vidreason.training.rehearsal import Rehearsal
from vidreason.training.sharding import shard_units
from vidreason.training.trainable import set_trainable, trainable_names

FRAME_SIZE = (720, 1280)
"""Height and width in pixels of the videos whose perception is rehearsed."""

_NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes of a weight: 4 bits, a scale of 8 bits for 64 of them, and one of 32 bits for 256
scales."""

_MASKS_PER_POINT, _MASK_STRIDE = 3, 4
"""Promptable segmenters answer a point with three masks, of a quarter of the input's side."""

_AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """Bytes on one device."""

    weights: int
    """Parameters and buffers."""
    optimizer: int = 0
    """AdamW's two means, and its steps."""
    gradients: int = 0
    """Bytes of the gradients, with the copies that the processes of DDP exchange."""
    working: int
    """The rest of the peak: activations, logits, caches, temporary values."""

    @property
    def total(self) -> int:
        """The peak."""
        return self.weights + self.optimizer + self.gradients + self.working


def estimate_fit(config: ExperimentConfig, reasoner: VideoReasoner) -> MemoryEstimate:
    """Memory of ``fit`` on each device, without perception.

    Two optimizer steps are rehearsed, because the first has no optimizer state yet; in the second
    the gradients of an earlier micro-batch are there if micro-batches accumulate.

    What a strategy shards is divided by the number of processes. Where it shards weights, the two
    largest units that are gathered at once (:mod:`vidreason.training.sharding`) count as working
    memory besides: the one that is computed with, and the next, which is gathered meanwhile.

    Args:
        config: Of the run; all parts that train at some time of it are taken to train together.
        reasoner: Built of it on the meta device. It is of no use afterwards.
    """
    processes = num_processes(config)
    micro_batches = accumulation(config.data.global_batch_size, config.data.batch_size, processes)
    thawed = [thaw.part for thaw in config.freeze_schedule]
    names = trainable_names(reasoner, config.stage, thawed)
    set_trainable(reasoner, names)
    reasoner.train()
    precision = config.trainer.precision
    autocast = _AUTOCAST.get(precision)
    saving, unpacked = _quantization_saving(reasoner)
    peak = 0
    with Rehearsal() as rehearsal:
        rehearsal.give_shapes(reasoner)
        weights = rehearsal.live_bytes
        optimizer = build_optimizer(reasoner, names, config.optimizer)
        for step in range(2):
            rehearsal.reset_peak()
            for _ in range(min(micro_batches, 1 + step)):
                batch = longest_batch(config, reasoner, config.data.batch_size)
                with torch.autocast("cpu", autocast, enabled=autocast is not None):
                    loss, _ = next_token_loss(reasoner(*batch))
                # What is held on to here would count into the peak of the backward pass.
                del batch
                loss.backward()  # type: ignore[no-untyped-call]
                del loss
            optimizer.step()
            peak = max(peak, rehearsal.peak_bytes)
            optimizer.zero_grad()
        states = rehearsal.live_bytes - weights
    trained = {n: p for n, p in reasoner.named_parameters() if n in names}
    gradients = sum(p.numel() * p.element_size() for p in trained.values())
    if config.weight_average.kind != "none":
        # The average is a float32 copy of what trains.
        states += 4 * sum(p.numel() for p in trained.values())
    working = max(peak - weights - states - gradients, 0) + unpacked
    # Divide what the strategy shards; DDP holds copies of the gradients in buckets.
    strategy = config.trainer.strategy
    if strategy in SHARD_STATES:
        states, gradients = states // processes, gradients // processes
    elif processes > 1:
        gradients *= 2  # DDP's buckets
    weights -= saving
    if strategy in SHARD_WEIGHTS and processes > 1:
        weights //= processes
        working += _largest_units(reasoner)
    return MemoryEstimate(weights=weights, optimizer=states, gradients=gradients, working=working)


def estimate_generate(
    config: ExperimentConfig, reasoner: VideoReasoner, batch_size: int
) -> MemoryEstimate:
    """Memory of answering ``batch_size`` of the longest prompts, without perception.

    Rehearsed are the reading of the prompts, and the last of ``decoding.max_new_tokens`` tokens.

    Args:
        config: Of the run.
        reasoner: Built of it on the meta device, without adapters. It is of no use afterwards.
        batch_size: Prompts answered together.
    """
    model = causal_lm(reasoner.language_model)
    decoding = config.decoding
    beams = decoding.num_beams if decoding.strategy == "beam" else 1
    saving, unpacked = _quantization_saving(reasoner)
    reasoner.eval()
    with Rehearsal() as rehearsal, torch.no_grad():
        rehearsal.give_shapes(reasoner)
        weights = rehearsal.live_bytes
        visual, _ = longest_batch(config, reasoner, batch_size)
        ids = torch.empty(batch_size, config.data.max_text_tokens, dtype=torch.int64)
        text = model.get_input_embeddings()(ids)
        video = reasoner.fusion(visual).to(text.dtype)
        # (B, Q, D) and (B, T, D) -> (B, Q + T, D), then a row for each beam
        embeddings, attention_mask = left_pad(video, text, (ids != 0).sum(1))
        embeddings = embeddings.repeat_interleave(beams, 0)
        attention_mask = attention_mask.repeat_interleave(beams, 0)
        del video, text
        output = model(
            inputs_embeds=embeddings,
            attention_mask=attention_mask,
            use_cache=True,
            logits_to_keep=1,
        )
        # The cache as it is before the last token: keys and values of all answered tokens.
        cache: Any = cache_in(output)  # its layers have keys and values of any kind
        answered = decoding.max_new_tokens - 1
        for number, layer in enumerate(cache.layers):
            shape = (*layer.keys.shape[:2], answered, layer.keys.shape[3])
            new_values = torch.empty((*shape[:3], layer.values.shape[3]), dtype=layer.values.dtype)
            cache.update(torch.empty(shape, dtype=layer.keys.dtype), new_values, number)
        # (B * beams, Q + T + answered + 1): all positions before the last token, and its own
        mask = torch.empty(len(attention_mask), attention_mask.shape[1] + answered + 1).long()
        model(
            input_ids=torch.empty(len(mask), 1).long(),
            attention_mask=mask,
            use_cache=True,
            logits_to_keep=1,
            **cache_argument(model, cache),
        )
        peak = rehearsal.peak_bytes
    return MemoryEstimate(weights=weights - saving, working=peak - weights + unpacked)


def estimate_perception(perceiver: PerceiverConfig) -> MemoryEstimate:
    """Memory of perceiving one video of :data:`FRAME_SIZE`: its clips, then its key frames.

    Of a segmenter from outside of this project the weights alone are counted.

    Raises:
        ValueError: A part takes its sizes from a folder that is not there.
    """
    encoder = build_video_encoder(perceiver.video_encoder, "meta")
    segmenter = build_segmenter(perceiver.segmenter, "meta") if perceiver.use_objects else None
    sampling = perceiver.sampling
    # The decoder is rehearsed up to the masks; those are added below.
    with Rehearsal(all_nonzero=False) as rehearsal, torch.no_grad():
        rehearsal.give_shapes(encoder)
        if segmenter is not None:
            rehearsal.give_shapes(segmenter_network(segmenter))
        weights = rehearsal.live_bytes
        # (N * F, 3, H, W) uint8 -> (1, N, F, 3, S, S)
        frames = torch.empty(sampling.num_clips * sampling.frames_per_clip, 3, *FRAME_SIZE).byte()
        inputs = encoder.transform.apply(frames)
        encoder(inputs.view(1, sampling.num_clips, sampling.frames_per_clip, *inputs.shape[1:]))
        del frames, inputs
        peak = rehearsal.peak_bytes
        if isinstance(segmenter, GridSegmenter):
            config, side = perceiver.segmenter, segmenter.model.image_size
            rehearsal.reset_peak()
            levels = segmenter.model.encode(torch.empty(config.frames_per_batch, 3, side, side))
            points = torch.empty(config.points_per_batch, 2, dtype=torch.float64)
            segmenter.model.decode(tuple(level[:1] for level in levels), points, 0.0)
            masks = config.points_per_batch * _MASKS_PER_POINT * (side // _MASK_STRIDE) ** 2
            peak = max(peak, rehearsal.peak_bytes + masks * 4)  # float32 logits
    return MemoryEstimate(weights=weights, working=peak - weights)


def _largest_units(reasoner: VideoReasoner) -> int:
    """Bytes of the two largest units that are gathered at once."""
    units = shard_units(reasoner)
    sizes = [sum(p.numel() * p.element_size() for p in unit.parameters()) for unit in units]
    return sum(sorted(sizes)[-2:])


def _quantization_saving(reasoner: VideoReasoner) -> tuple[int, int]:
    """Bytes that 4-bit weights save, and that the largest takes while it is multiplied with.

    A rehearsal runs the unquantised model, whose activations are the same.
    """
    if reasoner.config.language_model.quantization == "none":
        return 0, 0
    model = causal_lm(reasoner.language_model)
    output_layer = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    weights = [
        module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not output_layer and ".lora_" not in name
    ]
    saving = sum(weight.numel() * (weight.element_size() - _NF4_BYTES) for weight in weights)
    return int(saving), max(weight.numel() * weight.element_size() for weight in weights)
