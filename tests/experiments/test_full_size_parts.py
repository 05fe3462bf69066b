"""Algorithm 1 on a real video with parts of their real size: B/16, SAM ViT-B, a 100 M Llama.

The weights are random, so nothing is asserted about meaning: only that every part runs at its size,
that both stages train through it, and that the folder at the end answers as the trained model did.
"""

from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from experiments.experiment_config import ExperimentConfig
from experiments.fit.run import fit
from experiments.generate import generate
from vidreason.config import merge_config
from vidreason.model import VideoReasoner

VIDEO = Path(__file__).parents[1] / "assets" / "videos" / "h265_video.mp4"
CAPTION = "a ball rolls to the left and stops"


@pytest.fixture(scope="module")
def language_model(
    tmp_path_factory: pytest.TempPathFactory, tiny_language_model_folder: str
) -> str:
    folder = tmp_path_factory.mktemp("llama_100m")
    tokenizer = AutoTokenizer.from_pretrained(tiny_language_model_folder)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=max(len(tokenizer), 512),
            hidden_size=768,
            intermediate_size=3072,
            num_hidden_layers=12,
            num_attention_heads=12,
            num_key_value_heads=4,
        )
    )
    assert sum(parameter.numel() for parameter in model.parameters()) > 100_000_000
    model.to(torch.bfloat16).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def config_file(tmp_path_factory: pytest.TempPathFactory, language_model: str) -> str:
    folder = tmp_path_factory.mktemp("full_size")
    videos = folder / "webvid" / "videos" / "page"
    videos.mkdir(parents=True)
    rows = ["videoid,name,page_idx,page_dir,duration,contentUrl"]
    for number in range(2):  # one video, looked up twice: perceived once
        (videos / f"{number}.mp4").symlink_to(VIDEO)
        rows.append(f"{number},{CAPTION},0,page,PT00H00M10S,")
    (folder / "webvid" / "train.csv").write_text("\n".join(rows) + "\n")
    config = {
        "run_dir": str(folder / "stage1"),
        "device": "cpu",
        "perceiver": {
            "sampling": {"num_clips": 2, "frames_per_clip": 8, "num_key_frames": 2},
            "video_encoder": {"name": "viclip-b16", "allow_random_weights": True},
            "segmenter": {
                "name": "sam-vit-b",
                "allow_random_weights": True,
                # Random weights find no good masks; a small grid, because each point costs as much.
                "points_per_side": 3,
                "pred_iou_threshold": -10.0,
                "stability_threshold": 0.0,
                "box_nms_threshold": 0.99,
            },
            "max_object_share": 1.0,
        },
        "store": {"path": str(folder / "store"), "dtype": "float32"},
        "reasoner": {"language_model": {"name_or_path": language_model}},
        "data": {
            "train": [
                {
                    **{"reader": "webvid", "root": str(folder / "webvid"), "split": "train"},
                    "media_dir": str(Path(VIDEO).resolve().parent),
                }
            ],
            "batch_size": 2,
            "global_batch_size": 2,
            "num_epochs": 2,
            "max_text_tokens": 256,
        },
        "optimizer": {"warmup_steps": 1, "learning_rate": 1.0e-3},
        "trainer": {
            "accelerator": "cpu",
            "devices": 1,
            "log_every_n_steps": 1,
            "checkpoint_every_n_steps": 1,
        },
        "decoding": {"max_new_tokens": 8},
    }
    path = folder / "full_size.yaml"
    path.write_text(yaml.safe_dump(config))
    return str(path)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # a minute or two, if nothing else runs
def test_algorithm_1_runs_end_to_end_at_full_size(
    config_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stage1 = merge_config(ExperimentConfig, [config_file])
    fit(stage1)
    run_dir = Path(stage1.run_dir)
    stage2 = merge_config(
        ExperimentConfig,
        [config_file],
        [
            "stage=instruction",
            f"run_dir={run_dir.with_name('stage2')}",
            f"initial_checkpoint={run_dir / 'checkpoints' / 'last.ckpt'}",
            "reasoner.lora.rank=64",
            "reasoner.lora.alpha=128",
            f"video=[{VIDEO}]",
            "prompt=[why did the ball stop]",
        ],
    )
    fit(stage2)
    assert generate(stage2) == 0
    assert "why did the ball stop" in capsys.readouterr().out

    reasoner = VideoReasoner.from_pretrained(str(Path(stage2.run_dir) / "reasoner"))
    assert reasoner.fusion.num_embeddings == 32
