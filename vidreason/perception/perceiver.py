"""File to visual tokens: the frozen half of the model (3.1, ``Z_vision = [Z_global; Z_obj]``).

Notable choices:

* Frames are chosen by time, not by number: variable frame rates need no further care.
* All clips go through the encoder in one batch; key frames are among the encoder's frames, so their
  patch tokens are there already.
* Each object is the mean of the patch tokens under its mask (eq. 2), as one matrix product. Masks
  follow a frame through the encoder's geometric transform; nothing is resampled.
* Objects of different key frames get one track id where they are alike.
* The fingerprint covers configuration, weights by content, and the version of this code, so no
  store serves what another perceiver saw.

Shapes: N clips, F frames, K objects of a key frame, V visual tokens, h x w the patch grid, D width,
S image side.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidreason.perception.added_models import added_identity, segmented
from vidreason.perception.config import (
    PerceiverConfig,
)
from vidreason.perception.models import build_segmenter, build_video_encoder
from vidreason.perception.object_tokens import pool_patches, select_objects, visible_objects
from vidreason.perception.object_tracks import KeyFrameObjects, track_objects
from vidreason.perception.patch_grid import cell_numbers
from vidreason.perception.segmenter import ObjectMask, Segmenter
from vidreason.perception.video_encoder import VideoEncoder
from vidreason.perception.visual_tokens import CLIP_TOKEN, OBJECT_TOKEN, MaskRuns, VisualTokens
from vidreason.perception.weights import hash_weights
from vidreason.video.limits import LARGE_SIDE
from vidreason.video.reader import GUARDED, VideoReader
from vidreason.video.sampling import (
    clip_frame_indices,
    clip_spans,
    key_frame_positions,
)

_ALGORITHM = "perception-3"
"""Part of every fingerprint: to be changed with any change of the numbers that the same
configuration gives. 3: pixels that are not square, times on the file's clock, scaled decoding."""

_DECODED_A_PIXEL = 4
"""Pixels of a frame, along its longer side, for each that the encoder sees of it."""


class Perceiver:
    """A frozen video encoder and a frozen segmenter; made by :func:`build_perceiver`."""

    def __init__(
        self,
        config: PerceiverConfig,
        encoder: VideoEncoder,
        segmenter: Segmenter | None,
        device: torch.device,
        reader: VideoReader = GUARDED,
    ) -> None:
        self.config = config
        self.encoder = encoder
        self.segmenter = segmenter
        self.device = device
        self.reader = reader

    @property
    def fingerprint(self) -> str:
        """See :func:`perceiver_fingerprint`."""
        return perceiver_fingerprint(self.config)

    @property
    def decoded_side(self) -> int:
        """The longer side, in pixels, that larger frames are scaled to as they are decoded."""
        segmented = self.config.segmenter.max_frame_side if self.segmenter is not None else 0
        return max(LARGE_SIDE, segmented, _DECODED_A_PIXEL * self.encoder.transform.size)

    def perceive(
        self, path: str, start_seconds: float | None = None, end_seconds: float | None = None
    ) -> VisualTokens:
        """Look at a video, or at the span of it from ``start_seconds`` to ``end_seconds``.

        Args:
            path: The video file.
            start_seconds: Start of the span; None for the start of the video.
            end_seconds: End of the span; None for the end of the video.

        Returns:
            The visual tokens on CPU, features in float32: N clip tokens, then the object tokens of
            each key frame in turn, at most ``objects_per_key_frame`` each and possibly none. Fit
            for autograd as constants.

        Raises:
            VideoReadError: The file cannot be read or decoded, or ends before the span.
            ValueError: The span is empty, or starts before the video.
        """
        # Which frames: (N, F) indices into the video.
        index = self.reader.index(path)
        start, end = index.span(start_seconds, end_seconds)
        frame_indices = clip_frame_indices(
            index.timestamps, index.duration_seconds, self.config.sampling, start, end
        )
        # Times of tokens count from the start of the caller's span, also where the picture begins
        # later.
        zero = start_seconds or 0.0

        # Frames of a short video repeat; each is decoded once. rows: (N, F) -> row of frames.
        unique_indices, rows = np.unique(frame_indices, return_inverse=True)
        rows = rows.reshape(frame_indices.shape)
        frames = self.reader.read_frames(index, unique_indices, max_side=self.decoded_side)

        with torch.inference_mode():
            # Clip tokens, and the patch tokens that objects are pooled from.
            clip_tokens, patch_tokens = self._encode(frames, torch.from_numpy(rows))
            parts = [_clip_part(clip_tokens, start - zero, end - zero)]
            if self.segmenter is not None:
                # Object tokens of each key frame; its patches are those of its tube of frames.
                clips, positions = np.array(key_frame_positions(self.config.sampling)).T
                shown_at = index.timestamps[frame_indices[clips, positions]] - zero
                parts += self._object_parts(
                    self.segmenter,
                    frames,
                    rows[clips, positions],
                    patch_tokens[clips, positions // self.encoder.tubelet_size],
                    times=np.clip(shown_at, start - zero, end - zero).tolist(),
                    duration_seconds=end - zero,
                )
        # Outside inference mode, so that the result may enter autograd graphs.
        return VisualTokens.concatenate(parts)

    def _encode(self, frames: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """All clips in one batch, on the encoder's device: ``(N, D)``, ``(N, F', h, w, D)``."""
        inputs = self.encoder.transform.apply(frames.to(self.device))  # (n, 3, S, S)
        encoded = self.encoder(inputs[rows.to(self.device)][None])  # (1, N, F, 3, S, S)
        return encoded.clip_tokens[0].float(), encoded.patch_tokens[0].float()

    def _object_parts(
        self,
        segmenter: Segmenter,
        frames: Tensor,
        key_rows: NDArray[np.int64],
        patches: Tensor,
        *,
        times: list[float],
        duration_seconds: float,
    ) -> list[VisualTokens]:
        """The object tokens of each key frame.

        Args:
            segmenter: Finds the objects of all key frames in one call.
            frames: ``(n, 3, H, W)`` on CPU.
            key_rows: The row of ``frames`` that each key frame is; several may be the same.
            patches: ``(key frames, h, w, D)`` patch tokens.
            times: Of the key frames, in seconds.
            duration_seconds: Of the span.
        """
        # Each different frame is segmented once.
        different, repeats = np.unique(key_rows, return_inverse=True)
        objects_by_frame = segmented(segmenter, frames[different])

        # Patch edges in pixels of the masks, which have fewer pixels than a large frame but cover
        # the same rectangle.
        height, width = frames.shape[2:]
        edges = self.encoder.transform.patch_edges(height, width, self.encoder.patch_size)
        shapes = (each.mask.shape for objects in objects_by_frame for each in objects)
        mask_size = next(shapes, (height, width))
        rows, columns = edges[0] * mask_size[0] / height, edges[1] * mask_size[1] / width

        # The objects that become tokens, pooled by eq. 2 and linked over the key frames.
        chosen = [
            select_objects(
                visible_objects(objects, rows, columns),
                self.config.objects_per_key_frame,
                min_share=self.config.min_object_share,
                max_share=self.config.max_object_share,
            )
            for objects in objects_by_frame
        ]
        key_frames = []
        for frame, frame_patches in zip(repeats, patches, strict=True):
            masks = _stack_masks(chosen[frame], mask_size, patches.device)
            tokens = pool_patches(masks, frame_patches, rows, columns)
            key_frames.append(KeyFrameObjects(masks=masks, tokens=tokens))
        if self.config.segmenter.name == "patches":
            track_ids = [cell_numbers(each.masks) for each in key_frames]
        else:
            track_ids = track_objects(key_frames, self.config.tracks)
        return [
            _object_part(chosen[frame], seen, ids, time, duration_seconds)
            for frame, seen, ids, time in zip(repeats, key_frames, track_ids, times, strict=True)
        ]


def build_perceiver(
    config: PerceiverConfig,
    device: torch.device | str = "cpu",
    reader: VideoReader = GUARDED,
) -> Perceiver:
    """Load encoder and segmenter.

    Args:
        config: What is to be seen, and by which models.
        device: Where they run.
        reader: Reads the videos.

    Raises:
        ValueError: Weights are missing or do not fit; the message names the field or the first
            keys.
    """
    device = torch.device(device)
    encoder = build_video_encoder(config.video_encoder, device)
    segmenter = build_segmenter(config.segmenter, device) if config.use_objects else None
    return Perceiver(config, encoder, segmenter, device, reader)


def perceiver_fingerprint(
    config: PerceiverConfig, hash_weights: Callable[[str], str] = hash_weights
) -> str:
    """A name for what a perceiver sees: sha256 over configuration and weights, as hex digits.

    Weights enter by the content of their files: moving a file changes nothing, replacing it does.
    Parts from outside of this project enter with their version, for which they are imported.

    Args:
        config: The perceiver's configuration; no model is built.
        hash_weights: Map the location of weights to their content hash; a table of hashes may
            replace the default.

    Raises:
        ValueError: A weights file or folder is missing, or a part cannot be imported.
    """
    described: dict[str, Any] = asdict(config) | {"algorithm": _ALGORITHM}
    del described["kept_objects"]  # what is seen does not depend on it
    models = ["video_encoder", "segmenter"]
    if not config.use_objects:
        for unused in (
            "segmenter",
            "objects_per_key_frame",
            "min_object_share",
            "max_object_share",
            "tracks",
        ):
            del described[unused]
        models.remove("segmenter")
    for model in models:
        described[model] |= added_identity(model, described[model]["name"])
        weights = described[model]["weights"]
        if weights:
            try:
                described[model]["weights"] = hash_weights(weights)
            except ValueError as error:
                raise ValueError(f"perceiver.{model}.{error}") from error
            del described[model]["seed"], described[model]["allow_random_weights"]
    canonical = json.dumps(described, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def shown_tokens(tokens: VisualTokens, config: PerceiverConfig) -> VisualTokens:
    """Return the tokens that the reasoner is shown, by ``config.kept_objects``."""
    return tokens if config.kept_objects is None else tokens.with_objects(config.kept_objects)


def mask_runs(masks: Tensor) -> list[MaskRuns]:
    """Run lengths of ``(K, H, W)`` masks; ``segment_anything.utils.amg.rle_to_mask`` undoes it."""
    from segment_anything.utils.amg import mask_to_rle_pytorch

    return [
        MaskRuns(size=runs["size"], counts=runs["counts"]) for runs in mask_to_rle_pytorch(masks)
    ]


def _clip_part(clip_tokens: Tensor, start_seconds: float, duration_seconds: float) -> VisualTokens:
    # A clip is everywhere in the frame, on no track and without a mask.
    num_clips = len(clip_tokens)
    spans = start_seconds + clip_spans(duration_seconds - start_seconds, num_clips)
    return VisualTokens(
        features=clip_tokens.cpu(),
        kinds=torch.full((num_clips,), CLIP_TOKEN),
        spans=torch.from_numpy(np.asarray(spans, dtype=np.float32)),
        boxes=torch.tensor([0.0, 0.0, 1.0, 1.0]).repeat(num_clips, 1),
        areas=torch.ones(num_clips),
        track_ids=torch.full((num_clips,), -1),
        masks=(None,) * num_clips,
        duration_seconds=duration_seconds,
    )


def _object_part(
    objects: list[ObjectMask],
    seen: KeyFrameObjects,
    track_ids: list[int],
    time_seconds: float,
    duration_seconds: float,
) -> VisualTokens:
    masks = seen.masks.cpu()
    height, width = masks.shape[1:]
    # Four columns also without objects, where there is nothing to stack: (objects, 4)
    boxes = torch.tensor([each.box for each in objects], dtype=torch.float32).view(-1, 4)
    areas = torch.tensor([each.area for each in objects], dtype=torch.float32)
    return VisualTokens(
        features=seen.tokens.cpu(),
        kinds=torch.full((len(objects),), OBJECT_TOKEN),
        spans=torch.full((len(objects), 2), time_seconds),
        boxes=boxes / torch.tensor([width, height, width, height]),
        areas=areas / (height * width),
        track_ids=torch.tensor(track_ids, dtype=torch.int64),
        masks=tuple(mask_runs(masks)),
        duration_seconds=duration_seconds,
    )


def _stack_masks(objects: list[ObjectMask], size: Sequence[int], device: torch.device) -> Tensor:
    """``(K, h, w)`` on ``device``."""
    masks = torch.empty(len(objects), *size, dtype=torch.bool, device=device)
    for row, each in enumerate(objects):
        masks[row] = each.mask
    return masks
