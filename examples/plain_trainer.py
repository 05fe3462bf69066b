"""A stage's module and data in a plain Trainer: ``python plain_trainer.py CONFIG [key=value ...]``.

What ``experiments.fit`` adds are checkpoints by step with exact resume, the run record, preemption,
and everything that its configuration switches on.
"""

import sys

from lightning import Trainer

from callbacks.step_checkpoint import AtomicCheckpointIO
from experiments.experiment_config import ExperimentConfig
from experiments.fit.run import build_data, build_module, new_reasoner, token_source
from vidreason.config import merge_config
from vidreason.training.stage import StageModule

config = merge_config(ExperimentConfig, sys.argv[1:2], sys.argv[2:])
source = token_source(config)
reasoner = new_reasoner(config, resumed=False)
data = build_data(config, source, reasoner)
module = build_module(config, data, source, reasoner, resumed=False)
trainer = Trainer(
    max_epochs=config.data.num_epochs,
    accumulate_grad_batches=config.data.global_batch_size // config.data.batch_size,
    use_distributed_sampler=False,  # the data module gives each rank its part of one order
    plugins=[AtomicCheckpointIO()],  # a checkpoint is whole and its damage noticed
    default_root_dir=config.run_dir,
    log_every_n_steps=config.trainer.log_every_n_steps,
    devices=1,
)
trainer.fit(module, datamodule=data)
path = trainer.checkpoint_callback.best_model_path
trainer.test(StageModule.load_from_checkpoint(path), datamodule=data)
