"""Print the resolved configuration, checked, as YAML that every program reads back."""

import sys

from omegaconf import OmegaConf

from experiments.experiment_config import ExperimentConfig
from experiments.program import run_program


def print_config(config: ExperimentConfig) -> None:
    """Print ``config`` with all its defaults."""
    print(OmegaConf.to_yaml(OmegaConf.structured(config)), end="")


if __name__ == "__main__":
    sys.exit(
        run_program(
            print_config, program="config", description="Print the resolved configuration as YAML."
        )
    )
