"""Run real steps, and print how many bytes each took at its peak.

``python measure_memory.py fit=A.yaml generate=B.yaml`` prints a list of numbers. To be run in a
process of its own with ``MALLOC_MMAP_THRESHOLD_=65536``, so that freed memory goes back at once.
"""

import gc
import json
import re
import sys
import warnings
from pathlib import Path

import torch
from lightning import Trainer
from torch.utils.data import DataLoader

from experiments.experiment_config import ExperimentConfig
from experiments.fit.largest_batch import longest_batch
from experiments.fit.run import silence_libraries
from vidreason.config import merge_config
from vidreason.model import VideoReasoner, build_reasoner
from vidreason.reasoning.decoding import generate_ids, left_pad
from vidreason.training.stage import StageModule

VISUAL_DIM = 24


def fit(config: ExperimentConfig, reasoner: VideoReasoner, max_steps: int) -> None:
    visual, text = longest_batch(config, reasoner, config.data.batch_size)
    batch = {"visual": visual, "text": text}
    micro_batches = config.data.global_batch_size // config.data.batch_size
    module = StageModule(reasoner, config.optimizer, total_steps=100, stage=config.stage)
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        max_steps=max_steps,
        accumulate_grad_batches=micro_batches,
        limit_val_batches=0,
    )
    trainer.fit(module, DataLoader([batch] * (2 * micro_batches), batch_size=None))


@torch.no_grad()
def generate(config: ExperimentConfig, reasoner: VideoReasoner) -> None:
    reasoner.eval()
    visual, _ = longest_batch(config, reasoner, config.data.batch_size)
    ids = torch.ones(config.data.batch_size, config.data.max_text_tokens, dtype=torch.int64)
    lengths = ids.sum(1)
    lengths[-1] -= 1  # prompts without any padding would need no attention mask
    text = reasoner.language_model.get_input_embeddings()(ids)
    embeddings, mask = left_pad(reasoner.fusion(visual), text, lengths)
    del text
    generate_ids(reasoner.language_model, embeddings, mask, config.decoding, [3])


def memory(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{field}:\s+(\d+) kB", status)[1])


def main() -> None:
    silence_libraries()
    warnings.filterwarnings("ignore", "You defined a `validation_step`")
    torch.manual_seed(0)
    peaks = []
    for argument in sys.argv[1:]:
        use, _, file = argument.partition("=")
        config = merge_config(ExperimentConfig, [file])
        if not peaks:  # have everything imported
            fit(config, build_reasoner(config.reasoner, VISUAL_DIM), max_steps=1)
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = memory("VmRSS")
        reasoner = build_reasoner(config.reasoner, VISUAL_DIM)
        if use == "fit":
            fit(config, reasoner, max_steps=2)
        else:
            generate(config, reasoner)
        peaks.append(memory("VmHWM") - before)
        del reasoner
    print(json.dumps(peaks))


if __name__ == "__main__":
    main()
