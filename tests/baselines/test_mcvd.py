"""MCVD against the official code's values, its files and their damage, and its sampling."""

import json

import pytest
import torch
import yaml
from baseline_weights import golden_array, golden_state, golden_values

from vidreason.baselines.mcvd import diffusion
from vidreason.baselines.mcvd.checkpoint import (
    convert_official,
    load_folder,
    load_official,
    read_folder,
    read_official_config,
    save_folder,
)
from vidreason.baselines.mcvd.config import DiffusionConfig, microworld_config
from vidreason.baselines.mcvd.diffusion import VideoDiffusion

TINY = {
    **{"image_size": 8, "channels": 1, "num_frames": 2, "num_past_frames": 3, "width": 4},
    **{"multipliers": [1, 2], "num_blocks": 1, "attention_sides": [4], "head_channels": 4},
    **{"num_steps": 20, "sampling_steps": 4, "num_predicted": 5},
}


def tiny(**changes):
    torch.manual_seed(0)
    model = VideoDiffusion(DiffusionConfig(**TINY | changes)).eval()
    # As drawn, the last layer gives nothing.
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def distance(value, expected):
    return (torch.as_tensor(value).double() - torch.as_tensor(expected).double()).abs().max().item()


def golden_model(**sizes):
    model = VideoDiffusion(DiffusionConfig(**sizes)).eval()
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    model.load_state_dict(golden_state(shapes))
    return model, shapes


@pytest.mark.parametrize(
    ("name", "changes"),
    [("concat", {}), ("spade", {"spatial_norm": True, "spatial_norm_width": 8})],
)
def test_noise_and_samples_equal_the_official_code(name, changes):
    golden = golden_values("mcvd")[name]
    model, shapes = golden_model(
        **{"image_size": 16, "width": 16, "multipliers": [1, 2, 2], "num_blocks": 1},
        **{"attention_sides": [8], "head_channels": 16},
        **{"num_frames": golden["nf"], "num_past_frames": golden["nc"]},
        **changes,
    )
    assert shapes == {key: tuple(shape) for key, shape in golden["keys"].items()}
    frames = golden_array("x", (1, 3 * golden["nf"], 16, 16))
    condition = golden_array("cond", (1, 3 * golden["nc"], 16, 16))
    with torch.no_grad():
        noise = model(frames, torch.tensor([400]), condition)
    # Measured: 6e-7, a sum of 1,555 by 7e-5, samples 1e-5.
    assert distance(noise[0, 0, 0], golden["y_first"]) < 2e-6
    assert distance(noise[0, -1, -1], golden["y_last"]) < 2e-6
    assert distance(noise.double().abs().sum(), golden["y_abssum"]) < 5e-4
    sample = model.sample(condition, frames, sampler="ddim", steps=5)
    assert distance(sample[0, 0, 0], golden["ddim_first"]) < 1.4e-5


@pytest.mark.parametrize("name", ["grey_future_concat", "deep_spade"])
def test_other_sizes_and_both_samplers_equal_the_official_code(name, monkeypatch):
    golden = golden_values("mcvd_more")[name]
    sizes = golden["sizes"]
    model, shapes = golden_model(
        **{"image_size": sizes["size"], "channels": sizes["channels"], "width": sizes["ngf"]},
        **{"num_frames": sizes["frames"], "num_past_frames": sizes["cond"]},
        **{"num_future_frames": sizes["future"], "multipliers": sizes["mult"]},
        **{"num_blocks": sizes["res"], "attention_sides": sizes["attn"]},
        **{"head_channels": None if sizes["head"] == -1 else sizes["head"]},
        **{"spatial_norm": sizes["spade"], "spatial_norm_width": sizes["sdim"]},
        **{"num_steps": sizes["T"], "sampling_steps": 1},
    )
    assert len(shapes) == golden["num_keys"]
    side, channels = sizes["size"], sizes["channels"]
    frames = golden_array("x", (1, sizes["frames"] * channels, side, side))
    condition = golden_array("cond", (1, model.config.num_condition_frames * channels, side, side))
    with torch.no_grad():
        noise = model(frames, torch.tensor([golden["level"]]), condition)
    assert distance(noise[0, 0, 0], golden["y_first"]) < 2e-6
    assert distance(noise[0, -1, -1], golden["y_last"]) < 2e-6
    for run, values in golden["samples"].items():
        sampler, steps, clip, denoise = run.split(":")
        model.config.clip, model.config.denoise = clip == "1", denoise == "1"
        drawn = iter(range(1, 1000))
        monkeypatch.setattr(
            diffusion,
            "_noise",
            lambda like, _: golden_array(f"noise{next(drawn)}", like.shape, 3**0.5),  # noqa: B023
        )
        sample = model.sample(condition, frames, sampler=sampler, steps=int(steps))
        # Measured: 1.4e-6 of the largest value, of 2e-5 for the clipped ones.
        largest = max(map(abs, values["first"] + values["last"]))
        assert distance(sample[0, 0, 0], values["first"]) < 3e-5 * max(largest, 1.0), run
        assert distance(sample[0, -1, -1], values["last"]) < 3e-5 * max(largest, 1.0), run


BIG = {"num_past_frames": 2, "num_frames": 5, "width": 96, "head_channels": 96}
CITYSCAPES = {
    **{"image_size": 128, "num_past_frames": 2, "num_frames": 5, "multipliers": [1, 1, 2, 3, 4]},
    **{"width": 128, "head_channels": 128},
}


@pytest.mark.parametrize(
    ("sizes", "millions"),
    [
        pytest.param(BIG, 62.8, id="bair_big"),
        pytest.param(BIG | {"channels": 1, "num_past_frames": 10}, 62.8, id="kth64_big"),
        pytest.param(CITYSCAPES, 116.6, id="cityscapes_big"),
        pytest.param(
            CITYSCAPES
            | {"width": 192, "head_channels": 192, "spatial_norm": True, "spatial_norm_width": 256},
            432,
            id="cityscapes_big_spade",
        ),
        pytest.param({}, 251.2, id="ucf101"),
        pytest.param(
            {
                "channels": 1,
                "num_past_frames": 5,
                "num_frames": 5,
                "width": 64,
                "head_channels": 64,
            },
            27.9,
            id="smmnist_DDPM_big5",
        ),
    ],
)
def test_the_released_sizes_have_as_many_parameters(sizes, millions):
    with torch.device("meta"):
        model = VideoDiffusion(DiffusionConfig(**sizes))
    count = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert count == pytest.approx(millions, abs=0.5 if millions == 432 else 0.05)


def test_the_microworlds_model_is_small():
    with torch.device("meta"):
        model = VideoDiffusion(microworld_config())
    assert sum(parameter.numel() for parameter in model.parameters()) <= 3_000_000


def test_wrong_sizes_are_named():
    cases = {
        "channels is 2": {"channels": 2},
        "multipliers is []": {"multipliers": []},
        "image_size is 30": {"image_size": 30, "multipliers": [1, 2, 3]},
        "width is 3": {"width": 3},
        "head_channels is 3": {"head_channels": 3},
        "sampling_steps is 21": {"sampling_steps": 21},
        "num_past_frames is 0": {"num_past_frames": 0},
        "num_future_frames is 0": {"mask_future": 0.5},
        "first_beta is 1": {"first_beta": 1.0},
        "num_frames is 0": {"num_frames": 0},
    }
    for message, changes in cases.items():
        with pytest.raises(ValueError, match="mcvd\\.") as error:
            DiffusionConfig(**TINY | changes)
        assert message in str(error.value)


def test_frames_of_another_shape_are_refused():
    model = tiny()
    frames, condition = torch.zeros(1, 2, 8, 8), torch.zeros(1, 3, 8, 8)
    with pytest.raises(ValueError, match=r"condition: expected shape .* found"):
        model(frames, torch.zeros(1), condition[:, :2])
    with pytest.raises(ValueError, match="frames: expected shape"):
        model(frames[..., :4], torch.zeros(1), condition)
    with pytest.raises(ValueError, match="steps is 21"):
        model.sample(condition, frames, steps=21)
    with pytest.raises(ValueError, match="past: expected shape"):
        model.predict(condition[None], 2)
    with pytest.raises(ValueError, match="num_frames is 0"):
        model.predict(condition[:, :, None], 0)


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_ddim_follows_from_its_start_alone_and_ddpm_from_the_seed():
    model = tiny()
    start, condition = torch.randn(1, 2, 8, 8), torch.randn(1, 3, 8, 8).clamp(-1, 1)
    first, second = (
        model.sample(condition, start, sampler="ddim", generators=generators(seed))
        for seed in (1, 2)
    )
    assert torch.equal(first, second)
    first, again, other = (
        model.sample(condition, start, sampler="ddpm", generators=generators(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert distance(first, other) > 1e-3


def test_blocks_follow_each_other_and_samples_do_not_depend_on_their_batch():
    model = tiny()
    past = torch.rand(2, 3, 1, 8, 8)
    predicted = model.predict(past, 5, generators=generators(3, 4))
    assert predicted.shape == (2, 5, 1, 8, 8)
    assert predicted.min() >= 0
    assert predicted.max() <= 1
    alone = model.predict(past[1:], 5, generators=generators(4))
    assert distance(predicted[1:], alone) < 1e-5
    # The second block sees the last past frame and the first block.
    generator = generators(4)
    known = past[1:] * 2 - 1
    for number in range(3):
        start = torch.randn(1, 2, 8, 8, generator=generator[0])
        block = model.sample(model.condition(known, None), start, generators=generator)[:, :, None]
        expected = ((block + 1) / 2).clamp(0, 1)[:, : 5 - 2 * number]
        assert distance(alone[:, 2 * number : 2 * number + 2], expected) < 1e-4
        known = torch.cat([known[:, 2:], block], dim=1)


def test_masked_frames_are_grey():
    model = tiny(num_future_frames=1, mask_future=0.5)
    past = torch.rand(1, 3, 1, 8, 8)
    condition = model.condition(past, None)
    assert torch.equal(condition[:, :3], past[:, :, 0])
    assert not condition[:, 3].any()
    assert not model.condition(None, past[:, :1])[:, :3].any()


def test_half_precision_weights_keep_the_noise_in_full_precision(tmp_path):
    model = tiny()
    save_folder(model, tmp_path / "m", name="tiny")
    half = load_folder(tmp_path / "m", dtype=torch.bfloat16)
    past = torch.rand(1, 3, 1, 8, 8)
    exact = model.predict(past, 2, sampler="ddim", generators=generators(0))
    rounded = half.predict(past, 2, sampler="ddim", generators=generators(0))
    assert rounded.dtype == torch.float32
    assert half.alphas.dtype == torch.float32
    assert 0 < distance(exact, rounded) < 0.3


OFFICIAL = {
    "data": {
        **{"dataset": "UCF101", "image_size": 8, "channels": 1, "rescaled": True},
        **{"num_frames": 2, "num_frames_cond": 3, "num_frames_future": 0},
        **{"prob_mask_cond": 0.5, "prob_mask_future": 0.0, "logit_transform": False},
    },
    "model": {
        **{"version": "DDPM", "arch": "unetmore", "gamma": False, "ema": True, "ngf": 4},
        **{"ch_mult": [1, 2], "num_res_blocks": 1, "attn_resolutions": [4], "n_head_channels": -1},
        **{"sigma_dist": "linear", "sigma_begin": 0.02, "sigma_end": 0.0001, "num_classes": 20},
        **{"spade": False, "spade_dim": 128, "dropout": 0.1, "cond_emb": False},
    },
    "sampling": {"subsample": 100, "clip_before": True, "denoise": True, "num_frames_pred": 28},
    "optim": {"lr": 0.0001, "eps": 1e-8},
}


def write_config(path, **changes):
    content = {section: dict(values) for section, values in OFFICIAL.items()}
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if value is None:
            del content[section][name]
        else:
            content[section][name] = value
    path.write_text(yaml.dump(content, default_flow_style=False))
    return path


def write_checkpoint(path, **parts):
    """A list as the authors' program saves it, with another moving average than parameters."""
    model = tiny(head_channels=None)
    average = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    parameters = {f"module.{key}": tensor + 1 for key, tensor in average.items()}
    parameters |= {
        **{"module.betas": model.betas, "module.alphas": model.alphas},
        **{"module.unet.sigmas": model.betas, "module.alphas_prev": model.alphas},
    }
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}
    entries = {
        **{"parameters": parameters, "optimizer": optimizer, "epoch": 1, "step": 1000},
        "average": average,
    } | parts
    torch.save([value for value in entries.values() if value is not None], path)
    return average


def test_an_official_checkpoint_gives_its_moving_average(tmp_path):
    average = write_checkpoint(tmp_path / "checkpoint_1000.pt")
    config_file = write_config(tmp_path / "config.yml")
    config = read_official_config(config_file)
    assert config.head_channels is None
    assert (config.sampler, config.sampling_steps, config.mask_past) == ("ddpm", 20, 0.5)
    assert (config.num_past_frames, config.num_frames, config.multipliers) == (3, 2, [1, 2])
    model = load_official(tmp_path / "checkpoint_1000.pt", config)
    assert all(torch.equal(model.state_dict()[key], average[key]) for key in average)
    # Through our folder and back.
    convert_official(
        tmp_path / "checkpoint_1000.pt",
        config_file,
        tmp_path / "ours",
        name="UCF-101",
        trained_on=("UCF-101",),
    )
    ours = load_folder(tmp_path / "ours")
    content = read_folder(tmp_path / "ours")
    assert (content.name, content.origin, content.trained_on) == (
        "UCF-101",
        "official",
        ["UCF-101"],
    )
    assert content.model == config == ours.config
    past = torch.rand(1, 3, 1, 8, 8)
    predicted = [each.predict(past, 3, generators=generators(1)) for each in (ours, model)]
    assert distance(*predicted) < 1e-4


def test_keys_that_are_left_out_have_the_official_defaults(tmp_path):
    left_out = ("data__num_frames_future", "data__prob_mask_cond", "model__dropout", "model__spade")
    left_out += ("model__version", "sampling__subsample", "sampling__clip_before")
    config = read_official_config(write_config(tmp_path / "c.yml", **dict.fromkeys(left_out)))
    assert (config.num_future_frames, config.mask_past, config.dropout) == (0, 0.0, 0.0)
    assert (config.spatial_norm, config.sampler, config.clip) == (False, "ddpm", True)
    assert config.sampling_steps == config.num_steps == 20


def test_a_configuration_that_is_not_readable_is_named(tmp_path):
    path = tmp_path / "config.yml"
    cases = {
        "model.gamma is True": {"model__gamma": True},
        "model.arch is 'unetmore3d'": {"model__arch": "unetmore3d"},
        "model.sigma_dist is 'cosine'": {"model__sigma_dist": "cosine"},
        "model.cond_emb is True": {"model__cond_emb": True},
        "data.rescaled is False": {"data__rescaled": False},
        "model.ngf is missing": {"model__ngf": None},
        "data.image_size is missing": {"data__image_size": None},
        "sampler": {"model__version": "FPNDM"},
        "multipliers": {"model__ch_mult": "wide"},
        "num_steps": {"model__num_classes": "many"},
        "image_size": {"data__image_size": 7},
        "sampling.one_frame_at_a_time is True": {"sampling__one_frame_at_a_time": True},
        "sampling.init_prev_t is 0.5": {"sampling__init_prev_t": 0.5},
    }
    for message, changes in cases.items():
        write_config(path, **changes)
        with pytest.raises(ValueError, match=r"config\.yml|mcvd") as error:
            read_official_config(path)
        assert message in str(error.value), str(error.value)
    for text in ("", "- 1\n", "data: 3\n", "model: !!python/object:os.system {}\n", "a: [\n"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"config\.yml"):
            read_official_config(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="no text"):
        read_official_config(path)
    with pytest.raises(ValueError, match="there is no file"):
        read_official_config(tmp_path / "other.yml")


def test_damage_of_an_official_checkpoint_is_named(tmp_path):
    path = tmp_path / "checkpoint.pt"
    config = read_official_config(write_config(tmp_path / "config.yml"))
    average = write_checkpoint(path)
    first, *_ = average

    def without(key):
        return {name: tensor for name, tensor in average.items() if name != key}

    cases = {
        f"missing {first}": {"average": without(first)},
        "unexpected unet.all_modules.99.b": {
            "average": average | {"unet.all_modules.99.b": torch.ones(1)}
        },
        f"{first} has shape (2, 2) instead": {"average": average | {first: torch.ones(2, 2)}},
        f"{first} holds numbers of type int64": {
            "average": average | {first: average[first].long()}
        },
        f"{first} hold values that are infinite": {
            "average": average | {first: average[first] / 0}
        },
        "'note' is not the name of a tensor": {"average": average | {"note": "text"}},
        "found list of 4": {"average": None},
        "noise levels from 0.01": {"parameters": {"module.betas": torch.linspace(0.01, 1e-4, 20)}},
        "trained on 9 noise levels": {"parameters": {"betas": torch.linspace(0.02, 1e-4, 9)}},
        "found list of 5": {"average": [1.0]},
    }
    for message, parts in cases.items():
        write_checkpoint(path, **parts)
        with pytest.raises(ValueError, match="weights") as error:
            load_official(path, config)
        assert message in str(error.value), str(error.value)
    torch.save(average, path)
    with pytest.raises(ValueError, match="found dict"):
        load_official(path, config)
    write_checkpoint(path)
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"text", content[:4000] + b"\0" * 64):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"checkpoint\.pt"):
            load_official(path, config)
    with pytest.raises(ValueError, match="there is no file"):
        load_official(tmp_path / "other.pt", config)


class _Attack:
    def __reduce__(self):
        return print, ("run",)


def test_nothing_in_a_checkpoint_is_run(tmp_path, capsys):
    write_checkpoint(tmp_path / "c.pt", optimizer=_Attack())
    with pytest.raises(ValueError, match=r"asks to run __builtin__\.print"):
        load_official(tmp_path / "c.pt", DiffusionConfig(**TINY | {"head_channels": None}))
    assert capsys.readouterr().out == ""


def test_damage_of_a_folder_is_named(tmp_path):
    folder = tmp_path / "m"
    save_folder(tiny(), folder, name="tiny", trained_on=("microworld",))
    config, weights = folder / "config.json", folder / "model.safetensors"
    assert sorted(path.name for path in folder.iterdir()) == [config.name, weights.name]
    good = json.loads(config.read_text())
    for message, change in {
        "format is 'other'": {"format": "other"},
        "mcvd.width is 0": {"model": good["model"] | {"width": 0}},
        "depth": {"model": good["model"] | {"depth": 3}},
        "do not fit": {"model": good["model"] | {"width": 8}},
        "is not the file": {"weights_sha256": "0" * 64},
    }.items():
        config.write_text(json.dumps(good | change))
        with pytest.raises(ValueError, match=message):
            load_folder(folder)
    config.write_text(json.dumps(good))
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ValueError, match="is not the file"):
        load_folder(folder)
    weights.unlink()
    with pytest.raises(ValueError, match="is incomplete"):
        load_folder(folder)
    with pytest.raises(ValueError, match="no MCVD folder"):
        load_folder(tmp_path)


def test_a_model_that_diverged_is_not_saved(tmp_path):
    model = tiny()
    with torch.no_grad():
        next(iter(model.parameters())).fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        save_folder(model, tmp_path / "m", name="tiny")
    assert not (tmp_path / "m").exists()
