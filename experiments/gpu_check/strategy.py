"""Training under the strategies that one GPU can run, and on weights of 4 bits: time and memory."""

from pathlib import Path

import torch
from torch import distributed

from experiments.experiment_config import ExperimentConfig
from experiments.gpu_check.random_parts import random_language_model, random_reasoner
from experiments.gpu_check.setting import LLAMA_1B, Setting
from experiments.gpu_check.training import record_peak, record_training, reset_peak, train
from vidreason.model import build_reasoner
from vidreason.perception.models import video_encoder_sizes
from vidreason.training.sharding import compile_blocks


def strategy_config(setting: Setting, *overrides: str) -> ExperimentConfig:
    """Return the configuration of stage 2 with a Llama of 1 billion parameters."""
    sizes = ("data.batch_size=4", "data.global_batch_size=8", "data.max_text_tokens=512")
    return setting.config(
        "instruction", setting.llama(LLAMA_1B), *(() if setting.rehearsal else sizes), *overrides
    )


def train_compiled(setting: Setting) -> None:
    """Train the same steps with compiled blocks."""
    train_under(setting, "auto", compiled=True)


def train_under(setting: Setting, strategy: str, *, compiled: bool = False) -> None:
    """Train a few steps under a strategy, a value of ``trainer.strategy``."""
    config = strategy_config(setting, f"trainer.strategy={strategy}")
    # The same weights under each strategy, so that their losses can be compared.
    torch.manual_seed(0)
    reasoner = random_reasoner(config, setting.device)
    if compiled:
        compile_blocks(reasoner)
    reset_peak(setting.device)
    record_training(setting.record, train(config, reasoner))
    record_peak(setting.record, setting.device)
    if distributed.is_initialized():
        # torch warns at the end of a process that leaves its group behind.
        distributed.destroy_process_group()


def train_in_four_bits(setting: Setting) -> None:
    """Train a few steps on nf4 weights, which are quantised while they are read from a file."""
    config = nf4_config(setting)
    model = config.reasoner.language_model
    plain = strategy_config(setting).reasoner.language_model
    # The folder that both configurations name: weights join its sizes and tokenizer.
    random_language_model(plain, setting.device).save_pretrained(Path(model.name_or_path))
    torch.manual_seed(0)
    # Not random_reasoner: weights become 4-bit ones as they are read from the file.
    width = video_encoder_sizes(config.perceiver.video_encoder).width
    reasoner = build_reasoner(config.reasoner, width, setting.device)
    reset_peak(setting.device)
    record_training(setting.record, train(config, reasoner))
    record_peak(setting.record, setting.device)


def nf4_config(setting: Setting) -> ExperimentConfig:
    """Return the same configuration with weights of 4 bits."""
    return strategy_config(setting, "reasoner.language_model.quantization=nf4")
