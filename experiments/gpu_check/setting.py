"""Device and sizes of a check, and the configurations that follow from them.

On a GPU the sizes are the real ones. A rehearsal runs the same code on the CPU at the sizes of
``tiny.yaml``, so that minutes on a GPU are not spent on mistakes that a CPU shows.
"""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from transformers import LlamaConfig

from experiments.experiment_config import ExperimentConfig
from experiments.gpu_check.results import Recorder, Skipped, read_results
from vidreason.config import merge_config
from vidreason.microworld import parts

Stage = Literal["alignment", "instruction"]

GIB = 2**30
GPU_MEMORY = "GPU memory"
"""Name under which the check of the machine records it, in GiB."""
CONFIGS = Path(__file__).resolve().parents[1] / "configs"
_STAGE_FILES = {"alignment": "stage1_alignment.yaml", "instruction": "stage2_instruction.yaml"}
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
BatchSizes = tuple[tuple[int, int], ...]
BATCH_SIZES: dict[Stage, BatchSizes] = {
    "alignment": ((23, 8), (20, 2)),
    "instruction": ((60, 8), (40, 4), (30, 2), (25, 1)),
}
"""GiB of a GPU, and the micro-batch with which Llama-3-8B is estimated to fit it, by stage."""

LLAMA_3_8B = LlamaConfig(
    vocab_size=128256,
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    max_position_embeddings=8192,
    rms_norm_eps=1e-5,
    tie_word_embeddings=False,
)
"""The sizes of meta-llama/Meta-Llama-3-8B-Instruct."""
LLAMA_1B = LlamaConfig(
    vocab_size=128256,
    hidden_size=2048,
    intermediate_size=8192,
    num_hidden_layers=16,
    num_attention_heads=32,
    num_key_value_heads=8,
    max_position_embeddings=8192,
    rms_norm_eps=1e-5,
    tie_word_embeddings=True,
)
"""The sizes of meta-llama/Llama-3.2-1B-Instruct."""
LLAMA_TINY = LlamaConfig(
    vocab_size=1024,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=2048,
    tie_word_embeddings=False,
)
"""Instead of either in a rehearsal."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Settings of a check."""

    rehearsal: bool
    """Small sizes on the CPU."""
    record: Recorder
    output: Path
    """Folder of the results."""
    scratch: Path
    """A folder that is removed afterwards."""

    @property
    def device(self) -> torch.device:
        """Device of the check."""
        return torch.device("cpu" if self.rehearsal else "cuda")

    def llama(self, sizes: LlamaConfig) -> str:
        """Write a folder with a language model's sizes and a tokenizer, and without weights.

        The tokenizer is the microworld's, which is at hand: its ids are words of any larger model.
        """
        folder = self.scratch / "language_model"
        folder.mkdir(exist_ok=True)
        (LLAMA_TINY if self.rehearsal else sizes).save_pretrained(folder)
        for name in _TOKENIZER_FILES:
            shutil.copy(parts.LANGUAGE_MODEL_FOLDER / name, folder / name)
        return str(folder)

    def config(self, stage: Stage, language_model: str, *overrides: str) -> ExperimentConfig:
        """Return the configuration of a stage at the paper's sizes, with random weights."""
        # The shipped files as a user names them; the last one wins.
        files = [_STAGE_FILES[stage], "one_gpu_80gb.yaml"]
        if self.rehearsal:
            files.append("tiny.yaml")
            overrides = ("data.max_text_tokens=96", *overrides)
        return merge_config(
            ExperimentConfig,
            [str(CONFIGS / name) for name in files],
            [
                f"run_dir={self.scratch / 'run'}",
                # Nothing is read that a download or stage 1 would have left, and nothing is kept.
                "initial_checkpoint=''",
                *("perceiver.video_encoder.weights=''", "perceiver.segmenter.weights=''"),
                "perceiver.video_encoder.allow_random_weights=true",
                "perceiver.segmenter.allow_random_weights=true",
                *("store.path=''", "sample_generations.every_n_steps=0"),
                f"reasoner.language_model.name_or_path={language_model}",
                # In a rehearsal, too: number types are a part of what is rehearsed.
                *("reasoner.language_model.dtype=bfloat16", "trainer.precision=bf16-mixed"),
                f"trainer.accelerator={'cpu' if self.rehearsal else 'gpu'}",
                *overrides,
            ],
        )

    def reasoning_config(
        self, stage: Stage, batch_sizes: BatchSizes | None = None
    ) -> ExperimentConfig:
        """Return the configuration of a stage with Llama-3-8B, in micro-batches that fit the GPU.

        Args:
            stage: Which.
            batch_sizes: GiB of a GPU and the micro-batch that fits it, the largest first; None
                for those of training.

        Raises:
            Skipped: No micro-batch does.
        """
        config = self.config(stage, self.llama(LLAMA_3_8B))
        if self.rehearsal:
            return config
        size, sizes = self.gpu_memory(), batch_sizes or BATCH_SIZES[stage]
        for least, batch_size in sizes:
            if size >= least:
                return replace(config, data=replace(config.data, batch_size=batch_size))
        raise Skipped(f"Llama-3-8B in bf16 takes {sizes[-1][0]} GiB here, the GPU has {size:.0f}")

    def gpu_memory(self) -> float:
        """GiB of the GPU, or of the one that the results are of, on a machine without one.

        Raises:
            ValueError: The results do not say it.
        """
        # Estimates may be made on another machine, from the results that a GPU left.
        if torch.cuda.is_available():
            return float(torch.cuda.get_device_properties(0).total_memory) / GIB
        for measured in read_results(self.output).measurements:
            if measured.name == GPU_MEMORY:
                return float(measured.value)
        raise ValueError(
            f"{str(self.output)!r} does not say how much memory the GPU has: run the check "
            "'machine' on it first"
        )
