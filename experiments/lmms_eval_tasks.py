r"""Write the benchmark corpora as task files for lmms-eval, into ``<run_dir>/lmms_eval``.

They hold what the corpora's readers make of the local annotation files; then, with lmms-eval::

    lmms-eval --model vidreason --model_args pretrained=<reasoner folder>,store=<store> \
      --include_path <run_dir>/lmms_eval --tasks vidreason_vcr,vidreason_clevrer
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.experiment_config import ExperimentConfig
from experiments.program import run_program


def lmms_eval_tasks(config: ExperimentConfig) -> None:
    """Write the tasks of ``data.benchmark`` and print their names.

    Raises:
        ValueError: No benchmark is configured, or one that is scored by ``evaluation.protocols``,
            of which lmms-eval would know nothing.
    """
    from data_modules.corpus_index import open_corpora
    from vidreason.evaluation.lmms_eval.tasks import write_tasks

    if not config.data.benchmark:
        raise ValueError("data.benchmark is empty; name the corpora to write")
    folder = Path(config.run_dir) / "lmms_eval"
    examples = list(open_corpora(config.data.benchmark, config.data.max_malformed_fraction))
    if scored := {example.corpus for example in examples} & config.evaluation.protocols.keys():
        raise ValueError(
            f"evaluation.protocols scores {', '.join(sorted(scored))}, and lmms-eval has no such "
            "setting: leave the corpus out, or evaluation.protocols"
        )
    names = write_tasks(examples, folder)
    print(f"{folder}: {', '.join(names)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Write the tasks; the exit status is that of :func:`experiments.program.exit_status`."""
    return run_program(
        lmms_eval_tasks,
        program="lmms_eval_tasks",
        description="Write the benchmark corpora as task files for lmms-eval.",
        argv=argv,
    )


if __name__ == "__main__":
    sys.exit(main())
