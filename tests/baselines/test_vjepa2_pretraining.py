"""Pre-training of a small V-JEPA 2 without labels: masks, loss, target encoder, resuming."""

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from vidreason.baselines.vjepa2.config import (
    LookAhead,
    MaskBlocks,
    ModelSizes,
    PretrainingConfig,
)
from vidreason.baselines.vjepa2.future_latents import load_future_latents
from vidreason.baselines.vjepa2.masks import draw_masks
from vidreason.baselines.vjepa2.pretraining import (
    LatentPrediction,
    build_model,
    clip_transform,
    encode_visible,
    save_model,
)
from vidreason.training.config import OptimizerConfig

TINY = ModelSizes(
    **{"image_size": 32, "patch_size": 8, "num_frames": 4, "width": 24, "num_layers": 2},
    **{"num_heads": 2, "predictor_width": 16, "predictor_layers": 1, "predictor_heads": 2},
)
EXPECTED_WARNINGS = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*exists and is not empty",
    "ignore:You defined a `validation_step` but have no `val_dataloader`",
    "ignore:Found .* in eval mode at the start of training",
    "ignore:Be aware that when using `ckpt_path`",
)


def moving_squares(number: int, sizes: ModelSizes) -> torch.Tensor:
    """Normalised clips ``(number, F, 3, S, S)`` of a coloured square that moves steadily."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.full(
        (number, sizes.num_frames, 3, *[sizes.image_size] * 2), 60, dtype=torch.uint8
    )
    side = sizes.image_size // 4
    for clip in frames:
        color = torch.randint(256, (3, 1, 1), generator=generator).to(torch.uint8)
        start = torch.rand(2, generator=generator) * (sizes.image_size - side)
        speed = (torch.rand(2, generator=generator) - 0.5) * sizes.image_size / sizes.num_frames
        for number_of_frame, frame in enumerate(clip):
            corner = (start + number_of_frame * speed).clamp(0, sizes.image_size - side)
            top, left = (int(value) for value in corner)
            frame[:, top : top + side, left : left + side] = color
    flat = clip_transform(sizes).apply(frames.flatten(0, 1))
    return flat.unflatten(0, (number, sizes.num_frames))


def module_of(
    sizes: ModelSizes, steps: int, seed: int = 0, momentum: float = 0.9, seed_of_masks: int = 0
) -> LatentPrediction:
    config = PretrainingConfig(momentum=momentum, seed=seed_of_masks)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build_model(sizes)
    optimizer = OptimizerConfig(learning_rate=2e-3, weight_decay=0.04)
    return LatentPrediction(model, config, optimizer, steps)


def trainer_of(folder, epochs: int, callbacks=()) -> Trainer:
    return Trainer(
        **{"accelerator": "cpu", "logger": False, "enable_progress_bar": False},
        **{"enable_model_summary": False, "enable_checkpointing": bool(callbacks)},
        **{"max_epochs": epochs, "callbacks": list(callbacks), "default_root_dir": folder},
    )


def losses_of(module: LatentPrediction) -> list[float]:
    losses = []
    step = module.training_step

    def recorded(batch, batch_idx):
        loss = step(batch, batch_idx)
        losses.append(float(loss.detach()))
        return loss

    module.training_step = recorded
    return losses


def test_masks_are_blocks_over_time_and_what_is_left():
    blocks = MaskBlocks(
        num_blocks=1, spatial_scale=0.25, lowest_aspect_ratio=1, highest_aspect_ratio=1
    )
    masks = draw_masks(blocks, (3, 8, 8), 5, torch.Generator().manual_seed(0))
    assert masks.hidden.shape == (5, 3 * 4 * 4)
    assert masks.visible.shape == (5, 3 * 64 - 48)
    corners = set()
    for visible, hidden in zip(masks.visible, masks.hidden, strict=True):
        together = torch.cat([visible, hidden]).sort().values
        assert torch.equal(together, torch.arange(3 * 64))
        tubelet, row, column = hidden // 64, hidden % 64 // 8, hidden % 8
        assert tubelet.unique().tolist() == [0, 1, 2]
        for positions in (row, column):
            assert positions.max() - positions.min() == 3
        corners.add((int(row.min()), int(column.min())))
    assert len(corners) > 1
    again = draw_masks(blocks, (3, 8, 8), 5, torch.Generator().manual_seed(0))
    assert all(torch.equal(one, other) for one, other in zip(masks, again, strict=True))


def test_masks_of_overlapping_blocks_have_one_length():
    blocks = MaskBlocks(num_blocks=4, spatial_scale=0.2, temporal_scale=0.5)
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        visible, hidden = draw_masks(blocks, (4, 6, 6), 8, generator)
        for of_clip, others in zip(visible.tolist(), hidden.tolist(), strict=True):
            assert not set(of_clip) & set(others)
            assert of_clip == sorted(of_clip)
            assert others == sorted(others)
        assert 0 < visible.shape[1] < 144
    with pytest.raises(ValueError, match="hide the whole clip"):
        draw_masks(MaskBlocks(num_blocks=1, spatial_scale=1.0), (2, 3, 3), 1, torch.Generator())


def test_only_visible_tokens_are_encoded():
    module = module_of(TINY, 1)
    clips = moving_squares(2, TINY)
    encoder = module.model.encoder
    everything = torch.arange(32).expand(2, -1)
    whole = encoder(clips).last_hidden_state
    torch.testing.assert_close(encode_visible(encoder, clips, everything), whole)
    # The first tubelet alone: what the others show does not matter.
    changed = clips.clone()
    changed[:, 2:] += 1
    first = everything[:, :16]
    torch.testing.assert_close(
        encode_visible(encoder, clips, first), encode_visible(encoder, changed, first)
    )
    assert not torch.allclose(encoder(clips).last_hidden_state, encoder(changed).last_hidden_state)


@EXPECTED_WARNINGS
def test_one_step_moves_the_target_encoder_by_its_share(tmp_path):
    module = module_of(TINY, 1, momentum=0.75)
    before = [p.clone() for p in module.model.encoder.parameters()]
    trainer_of(tmp_path, 1).fit(module, DataLoader(moving_squares(4, TINY), 4))
    moved = 0
    for old, new, average in zip(
        before, module.model.encoder.parameters(), module.target_encoder.parameters(), strict=True
    ):
        torch.testing.assert_close(average, 0.75 * old + 0.25 * new)
        moved += not torch.equal(old, new)
        assert not average.requires_grad
    assert moved > len(before) / 2
    kept = module.pretrained_model().encoder.state_dict()
    assert all(torch.equal(kept[k], v) for k, v in module.target_encoder.state_dict().items())


@EXPECTED_WARNINGS
def test_a_resumed_run_equals_one_that_was_not_interrupted(tmp_path):
    clips = moving_squares(6, TINY)

    def run(epochs, callbacks=(), checkpoint=None, seed=0):
        start = 0 if checkpoint is None else 1
        module = module_of(TINY, 6, start, seed_of_masks=seed)
        losses = losses_of(module)
        trainer = trainer_of(tmp_path, epochs, callbacks)
        trainer.fit(module, DataLoader(clips, 2), ckpt_path=checkpoint, weights_only=True)
        return module, losses

    whole, losses = run(2)
    saving = ModelCheckpoint(dirpath=tmp_path, filename="first", save_top_k=-1)
    _, first = run(1, [saving])
    resumed, second = run(2, checkpoint=tmp_path / "first.ckpt")
    assert first + second == losses
    assert resumed.epoch_losses == whole.epoch_losses
    assert whole.epoch_losses == pytest.approx([sum(losses[:3]) / 3, sum(losses[3:]) / 3])
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    _, other_masks = run(1, seed=1)
    assert other_masks[0] != losses[0]
    torch.save(
        torch.load(tmp_path / "first.ckpt", weights_only=True) | {"kind": "ProbeTraining"},
        tmp_path / "other.ckpt",
    )
    with pytest.raises(ValueError, match="of 'ProbeTraining', not of 'LatentPrediction'"):
        run(2, checkpoint=tmp_path / "other.ckpt")


@EXPECTED_WARNINGS
def test_targets_that_tell_nothing_are_reported_as_collapsed(tmp_path):
    module = module_of(TINY, 1)
    same = moving_squares(1, TINY).repeat(4, 1, 1, 1, 1)
    with pytest.warns(UserWarning, match=r"pre-training collapsed: its targets differ by 0 "):
        trainer_of(tmp_path, 1).fit(module, DataLoader(same, 4))
    assert module.is_collapsed


def test_the_model_is_saved_as_a_folder_that_the_probe_reads(tmp_path):
    module = module_of(TINY, 1)
    save_model(module.pretrained_model(), tmp_path)
    look_ahead = LookAhead(num_frames=4, frames_per_second=4.0)
    latents = load_future_latents(str(tmp_path), look_ahead, device=torch.device("cpu"))
    clips = moving_squares(2, TINY)
    torch.testing.assert_close(
        latents.encode(clips), module.target_encoder(clips).last_hidden_state
    )


@EXPECTED_WARNINGS
@pytest.mark.slow
def test_the_loss_falls_on_moving_squares_without_a_collapse(tmp_path):
    sizes = ModelSizes(
        **{"image_size": 32, "patch_size": 8, "num_frames": 8, "width": 48, "num_layers": 3},
        **{"num_heads": 4, "predictor_width": 24, "predictor_layers": 2, "predictor_heads": 2},
    )
    module = module_of(sizes, 80, momentum=0.98)
    losses = losses_of(module)
    trainer_of(tmp_path, 10).fit(module, DataLoader(moving_squares(128, sizes), 16))
    first, last = sum(losses[:10]) / 10, sum(losses[-10:]) / 10
    assert last < 0.5 * first
    assert not module.is_collapsed


def test_sizes_and_settings_out_of_range_are_refused():
    for sizes, message in (
        ({"image_size": 60}, r"model\.image_size 60 is not a multiple of patch_size 8"),
        ({"num_heads": 36}, r"model\.num_heads 36 leaves each head fewer than 6"),
        ({"predictor_width": 0}, r"model\.predictor_width is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            ModelSizes(**sizes)
    for settings, message in (
        ({"momentum": 1.5}, r"pretraining\.momentum is 1\.5"),
        ({"masks": []}, r"pretraining\.masks is empty"),
    ):
        with pytest.raises(ValueError, match=message):
            PretrainingConfig(**settings)
    with pytest.raises(ValueError, match=r"masks\.spatial_scale is 0"):
        MaskBlocks(num_blocks=1, spatial_scale=0)
