"""``ExperimentConfig``: the one schema of all programs, composed of what the parts declare."""

import difflib
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any, Literal

from data_modules.corpora import DataConfig
from vidreason.added_parts import check_part
from vidreason.baselines.config import BaselineConfig
from vidreason.evaluation.config import Control, EvaluationConfig
from vidreason.perception.config import PerceiverConfig
from vidreason.ranges import check_ranges
from vidreason.reasoning.reasoner_config import DecodingConfig, ReasonerConfig
from vidreason.store.config import StoreConfig
from vidreason.training.config import OptimizerConfig, StepGuardConfig, Thaw, WeightAverageConfig

READERS_OF_SECTIONS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("video", "prompt", "predict"), ("generate",)),
    **dict.fromkeys(("model", "frozen_parts"), ("evaluate", "generate")),
    "controls": ("fit", "evaluate"),
    "baselines": ("evaluate",),
    **dict.fromkeys(("perceive",), ("perceive",)),
    **dict.fromkeys(("resume", "initial_checkpoint", "optimizer", "freeze_schedule"), ("fit",)),
    **dict.fromkeys(("weight_average", "guard", "sample_generations"), ("fit",)),
    **dict.fromkeys(("trainer", "evaluation"), ("fit", "evaluate")),
    **dict.fromkeys(("decoding",), ("fit", "evaluate", "generate")),
}
"""Programs that read a section. Programs and sections that are not listed are not checked."""

CALLBACK_GROUP = "vidreason.callbacks"
"""Group of the entry points by which installed packages add callbacks."""
STRATEGIES = (
    *("auto", "ddp", "ddp_find_unused_parameters_true"),
    *("fsdp2", "deepspeed_zero2", "deepspeed_zero3"),
)


@dataclass(kw_only=True)
class TrainerConfig:
    """Devices, logs and checkpoints of training. Steps are optimizer steps."""

    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"] = "auto"
    """Lightning's accelerator."""
    devices: int | str = "auto"
    """Devices a node, or ``auto`` for all of them."""
    num_nodes: int = 1
    strategy: str = "auto"
    """How the processes share the work. ``auto``: one process, or ``ddp``, in which each holds
    everything; ``ddp_find_unused_parameters_true``: the same, if some get no gradient. ``fsdp2``
    and ``deepspeed_zero3`` cut weights, gradients and optimizer over the processes;
    ``deepspeed_zero2`` gradients and optimizer. ``experiments/slurm/README.md`` says what was
    tried of each."""
    sharded_checkpoints: bool = False
    """Under ``fsdp2``, each process writes its part, into a folder; else rank 0 writes one file."""
    precision: Literal["32-true", "bf16-mixed", "bf16-true", "16-mixed"] = "32-true"
    """Precision of the computation. Trained weights and the optimizer are float32; mixed precisions
    compute in 16 bits. ``fit`` refuses ``bf16-true``: what trains would be bfloat16, in which small
    steps are lost."""
    compile: bool = False
    """Compile the blocks of the fusion core and of the language model by ``torch.compile``."""
    stop_after_steps: int | None = None
    """Stop early, for a trial; the schedule stays that of the whole run."""
    log_every_n_steps: int = 10
    validate_every_n_steps: int | None = None
    """None validates after each epoch."""
    checkpoint_every_n_steps: int = 500
    keep_checkpoints: int = 2
    """How many of the newest checkpoints stay on the disk."""
    keep_best: int = 0
    """How many checkpoints stay besides, of the validations that gave ``monitor`` its best values.
    If any, every validated step is saved. ``best.ckpt`` is a link to the best."""
    monitor: str = "val/loss"
    """The metric of ``keep_best`` and ``early_stopping_patience``, as validation logs it. The
    accuracy on a test split is ``test/<corpus>_accuracy``; who chooses by it has to write that."""
    monitor_mode: Literal["min", "max"] = "min"
    """Best values of it: the lowest, or the highest."""
    early_stopping_patience: int | None = None
    """Stop after this many validations in a row without a new best value of ``monitor``; None for
    never."""
    early_stopping_min_delta: float = 0.0
    """Improvements of at most this much do not count for ``early_stopping_patience``."""
    record_samples: bool = False
    """Append the ids of each consumed batch to ``samples-rank<r>.jsonl`` in the run folder."""
    loggers: list[Literal["tensorboard", "wandb", "mlflow"]] = field(
        default_factory=lambda: ["tensorboard"]
    )
    """Where metrics go besides ``metrics.csv``. W&B and MLflow are set up by their own environment
    variables, such as ``WANDB_MODE=offline`` or ``MLFLOW_TRACKING_URI``."""
    callbacks: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Further Lightning callbacks with the arguments that each is made with: entry points of the
    group ``vidreason.callbacks`` that an installed package declares, or ``package.module:object``,
    such as ``{gradient_norms: {every_n_steps: 10}}``."""
    save_reasoner: bool = True
    """Write the trained reasoner, with LoRA merged, to ``<run_dir>/reasoner`` at the end."""
    deterministic: bool = False
    """Use only kernels that give the same bits each time, and fail where there is none. Slower."""
    profile_steps: int = 0
    """Number of steps to profile, after the first two, into ``<run_dir>/profile``; 0 for none."""
    rehearse_largest_batch: bool | None = None
    """Before step 1, run a batch of the largest shape forward and backward, so that too little
    memory shows at once. None: on GPUs."""

    def __post_init__(self) -> None:
        if self.strategy == "fsdp":
            raise ValueError(
                "trainer.strategy is fsdp, under which a checkpoint of what trains would silently "
                "hold a part of it: set trainer.strategy=fsdp2, which shards the same parameters"
            )
        if self.strategy not in STRATEGIES:
            nearest = difflib.get_close_matches(self.strategy, STRATEGIES, 1, cutoff=0.0)[0]
            raise ValueError(
                f"trainer.strategy is {self.strategy!r}; did you mean {nearest}? It is one of "
                f"{', '.join(STRATEGIES)}"
            )
        if self.sharded_checkpoints and self.strategy != "fsdp2":
            raise ValueError(
                f"trainer.sharded_checkpoints is for trainer.strategy=fsdp2, found {self.strategy}"
                ": leave it out"
            )
        counts = (
            *("num_nodes", "log_every_n_steps", "checkpoint_every_n_steps", "keep_checkpoints"),
            *("stop_after_steps", "validate_every_n_steps", "early_stopping_patience"),
        )
        ranges = dict.fromkeys(counts, (1, inf))
        ranges |= dict.fromkeys(
            ("keep_best", "early_stopping_min_delta", "profile_steps"), (0, inf)
        )
        check_ranges("trainer", self, **ranges)
        for name in self.callbacks:
            try:
                check_part("trainer.callbacks", name, CALLBACK_GROUP, ())
            except ValueError as error:
                raise ValueError(
                    f"{error}. What this project itself does during training is set by keys such "
                    "as trainer.early_stopping_patience, trainer.keep_best and guard.max_skipped"
                ) from error


@dataclass(kw_only=True)
class SampleGenerationsConfig:
    """Answers to the first validation examples, shown in TensorBoard during training."""

    every_n_steps: int = 0
    """Optimizer steps between two looks; 0 for never."""
    num_examples: int = 4
    """How many examples; they are spread evenly over the validation corpora."""


@dataclass(kw_only=True)
class PerceiveConfig:
    """Processes and shares of ``experiments.perceive``."""

    num_workers: int | None = 0
    """Processes, each with a perceiver of its own; None for one per free core. 0 perceives in the
    program's own process, which a crash of a library would end."""
    max_crashes: int = 20
    """Worker crashes tolerated before the run stops. A video that crashes two workers counts as
    unreadable."""
    shard_index: int | None = None
    """Which of ``num_shards`` parts of the videos this run perceives, from 0. None: the task number
    of a SLURM array."""
    num_shards: int | None = None
    """Into how many parts the videos are split. None: the number of tasks of the SLURM array, or 1
    outside of one."""

    def __post_init__(self) -> None:
        ranges = {"num_workers": (0, inf), "max_crashes": (0, inf), "num_shards": (1, inf)}
        check_ranges("perceive", self, **ranges)


@dataclass(kw_only=True)
class ExperimentConfig:
    """Everything that the programs of ``experiments`` read; see :data:`READERS_OF_SECTIONS`."""

    stage: Literal["alignment", "instruction"] = "alignment"
    """Stage 1 trains the fusion core on captions; stage 2 trains it and LoRA on instructions."""
    run_dir: str = "runs/experiment"
    """Folder of checkpoints, logs, the run record and results."""
    debug: str = ""
    """Name of a run for debugging: ``<run_dir>/debug/<name>`` is then its ``run_dir``, emptied at
    each start of ``fit``. Empty for a run that counts."""
    seed: int = 0
    """Seed of new weights, dropout, the order of the samples and what ``data.drop`` leaves out."""
    resume: str = "auto"
    """``auto`` continues from the newest checkpoint of ``run_dir``, ``never`` refuses to; or the
    path of a checkpoint."""
    device: str = "auto"
    """Device of ``perceive``, ``evaluate``, ``generate``; ``auto`` is CUDA where there is one."""
    model: str = ""
    """Reasoner folder, or repository on the Hugging Face Hub, that ``evaluate`` and ``generate``
    load; empty for ``<run_dir>/reasoner``. ``none`` evaluates ``baselines`` alone."""
    frozen_parts: dict[str, str] = field(default_factory=dict)
    """Where the frozen parts of that reasoner lie, if not where it says: paths by
    ``language_model``, ``video_encoder`` or ``segmenter``."""
    initial_checkpoint: str = ""
    """Stage 1's checkpoint that stage 2 starts from."""
    perceiver: PerceiverConfig = field(default_factory=PerceiverConfig)
    reasoner: ReasonerConfig = field(default_factory=ReasonerConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    freeze_schedule: list[Thaw] = field(default_factory=list)
    """Parts that begin to train later than step 0, or that the stage would not train."""
    weight_average: WeightAverageConfig = field(default_factory=WeightAverageConfig)
    guard: StepGuardConfig = field(default_factory=StepGuardConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    controls: list[Control] = field(
        default_factory=lambda: [
            *("none", "half_frames", "single_frame", "blind", "shuffled_frames", "shuffled")
        ]
    )
    """Views that ``evaluate`` shows the model, a row of its table each; ``none`` is the video
    itself, and ``random`` can be had besides; during ``fit``, the first alone. See
    :func:`vidreason.evaluation.controls.controlled_source`."""
    baselines: dict[str, BaselineConfig] = field(default_factory=dict)
    """Other systems that ``evaluate`` asks the same questions, by names of your own; each gets a
    row for each of ``controls``. See ``experiments/configs/baselines``."""
    sample_generations: SampleGenerationsConfig = field(default_factory=SampleGenerationsConfig)
    perceive: PerceiveConfig = field(default_factory=PerceiveConfig)
    video: list[str] = field(default_factory=list)
    """Video files that ``generate`` answers about."""
    prompt: list[str] = field(default_factory=list)
    """Questions of ``generate`` about each video."""
    predict: bool = False
    """True to let ``generate`` ask for the three most likely next events (section 3.3.1)."""

    def __post_init__(self) -> None:
        if not self.run_dir:
            raise ValueError("run_dir is empty; name the folder for checkpoints and results")
        # The bounds of numpy's seeds: Lightning seeds numpy as well, and would refuse another.
        check_ranges("", self, seed=(0, 2**32 - 1))
        if not self.resume:
            raise ValueError("resume is empty; it is 'auto', 'never' or the path of a checkpoint")
        if self.initial_checkpoint and self.stage == "alignment":
            raise ValueError(
                f"initial_checkpoint is {self.initial_checkpoint!r}, but stage 1 starts from a new "
                "fusion core; to continue a stage-1 run from a checkpoint, set resume to its path"
            )
        waiting = ["freeze_schedule" for thaw in self.freeze_schedule if thaw.when_metric]
        if self.trainer.early_stopping_patience is not None:
            waiting.append("trainer.early_stopping_patience")
        if waiting and not self.data.validation:
            raise ValueError(
                f"{waiting[0]} waits for validations, and there are none: list corpora in "
                "data.validation"
            )
        self._score_named_benchmarks()
        if self.debug and not self.debug.replace("_", "").isalnum():
            raise ValueError(
                f"debug is {self.debug!r}; it names a folder: use letters, digits and _"
            )
        folder = ("debug", self.debug)
        if (
            self.debug and Path(self.run_dir).parts[-2:] != folder
        ):  # a recorded configuration has it
            self.run_dir = str(Path(self.run_dir, *folder))

    def _score_named_benchmarks(self) -> None:
        """Score a benchmark that has a name of its own as its reader's is scored."""
        named = [corpus for corpus in self.data.benchmark if corpus.corpus != corpus.reader]
        if not named:
            return
        from vidreason.evaluation.protocols import PROTOCOLS  # slow to import

        for corpus in named:
            if corpus.reader in PROTOCOLS:
                # What a user has set for this name stays.
                self.evaluation.protocols.setdefault(corpus.corpus, corpus.reader)
