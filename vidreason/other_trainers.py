"""Settings by the names that other trainers give them, for the messages about unknown keys.

The names are those of Lightning's Trainer, Hugging Face's, LLaMA-Factory and ms-swift. The table of
``docs/training.md`` lists the same ones.
"""

from typing import NamedTuple

from vidreason.key_paths import key_paths


class OwnKey(NamedTuple):
    """The key that sets the same here."""

    key: str
    remark: str = ""
    """A sentence on what differs; empty where the value is the same."""


_STEPS = OwnKey(
    "data.num_epochs",
    "The number of steps follows from it; trainer.stop_after_steps ends a trial earlier.",
)
_RATE = OwnKey("optimizer.learning_rate")
_BATCH = OwnKey("data.batch_size")
_ACCUMULATED = OwnKey(
    "data.global_batch_size",
    "It counts the samples of a step over all devices: what data.batch_size leaves is accumulated.",
)
_VALIDATED = OwnKey(
    "trainer.validate_every_n_steps",
    "It is for data.validation; evaluation.every_n_steps is for the scores of data.benchmark.",
)
_RESUMED = OwnKey(
    "resume",
    "The same command continues its run without it; resume=PATH takes another checkpoint.",
)
_LOGGED = OwnKey(
    "trainer.loggers",
    "It is a list: 'trainer.loggers=[tensorboard, wandb]', after pip install 'vidreason[wandb]'.",
)
_CLIPPED = OwnKey("optimizer.gradient_clip_norm")
_FULL = OwnKey(
    "freeze_schedule",
    "The whole language model trains by 'freeze_schedule=[{part: language_model}]', and adapters "
    "by reasoner.lora.",
)
_QUANTIZED = OwnKey(
    "reasoner.language_model.quantization",
    "In 4 bits it is reasoner.language_model.quantization=nf4.",
)
_PRECISION = OwnKey("trainer.precision", "It is trainer.precision=bf16-mixed.")

OWN_KEYS = {
    **dict.fromkeys(("learning_rate", "lr"), _RATE),
    "warmup_steps": OwnKey("optimizer.warmup_steps"),
    **dict.fromkeys(("max_grad_norm", "gradient_clip_val"), _CLIPPED),
    **dict.fromkeys(("num_train_epochs", "max_epochs"), OwnKey("data.num_epochs")),
    "max_steps": _STEPS,
    "per_device_train_batch_size": _BATCH,
    **dict.fromkeys(("gradient_accumulation_steps", "accumulate_grad_batches"), _ACCUMULATED),
    **dict.fromkeys(("cutoff_len", "model_max_length"), OwnKey("data.max_text_tokens")),
    **dict.fromkeys(("eval_steps", "val_check_interval"), _VALIDATED),
    "save_steps": OwnKey("trainer.checkpoint_every_n_steps"),
    "save_total_limit": OwnKey("trainer.keep_checkpoints"),
    "load_best_model_at_end": OwnKey("trainer.keep_best", "It is a number of checkpoints."),
    "logging_steps": OwnKey("trainer.log_every_n_steps"),
    "output_dir": OwnKey("run_dir"),
    **dict.fromkeys(("resume_from_checkpoint", "ckpt_path"), _RESUMED),
    **dict.fromkeys(("report_to", "wandb"), _LOGGED),
    "lora_rank": OwnKey("reasoner.lora.rank"),
    "lora_alpha": OwnKey("reasoner.lora.alpha"),
    "lora_target": OwnKey("reasoner.lora.target_modules", "It is one regular expression."),
    "finetuning_type": _FULL,
    "quantization_bit": _QUANTIZED,
    "bf16": _PRECISION,
    "deepspeed": OwnKey("trainer.strategy", "It is trainer.strategy=deepspeed_zero2."),
    "video_maxlen": OwnKey("perceiver.sampling.num_clips", "Perceive the videos anew after it."),
    "frames_upbound": OwnKey(
        "perceiver.sampling.num_key_frames", "Perceive the videos anew after it."
    ),
}
"""By the other trainers' name."""


def own_key(schema: type, wanted: str) -> OwnKey | None:
    """Return the key of ``schema`` that other trainers call by the last name of ``wanted``.

    None if they do not, or if ``schema``, a configuration dataclass, has no such key.
    """
    meant = OWN_KEYS.get(wanted.rpartition(".")[2].lower().replace("-", "_"))
    return meant if meant is not None and meant.key in key_paths(schema) else None
