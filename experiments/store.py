"""Keep a feature store in order: ``python -m experiments.store verify --config FILE.yaml``.

``verify`` reads every entry and compares the index with the shards; ``repair=true`` sets damaged
files aside and keeps what is sound. ``stats`` counts what is there. ``gc`` lists what no configured
perceiver wants, and what killed writers and repairs have left; ``delete=true`` removes it.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from experiments.experiment_config import ExperimentConfig
from experiments.program import exit_status
from vidreason.config import load_config
from vidreason.perception.perceiver import perceiver_fingerprint
from vidreason.store.feature_store import FeatureStore
from vidreason.store.maintenance import find_garbage, repair, store_stats, verify


@dataclass(kw_only=True)
class StoreCommandConfig(ExperimentConfig):
    """An experiment's configuration, and what is to be done to its store."""

    repair: bool = False
    """``verify`` also sets damaged files aside, after copying what is sound in them."""
    delete: bool = False
    """``gc`` removes what it lists."""
    keep: list[str] = field(default_factory=list)
    """Beginnings of the fingerprints, as ``stats`` prints them, of perceivers whose entries ``gc``
    spares; those of the configuration's own ``perceiver`` always stay."""
    unfinished_hours: float = 48.0
    """``gc`` spares unfinished and superseded files that were in use less long ago."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.store.path:
            raise ValueError("store.path is empty; name the folder of the store")
        if self.unfinished_hours < 0:
            raise ValueError(f"unfinished_hours: expected 0 or more, found {self.unfinished_hours}")


def verify_store(config: StoreCommandConfig) -> int:
    """Print what is wrong with the store; return 1 if anything is (still)."""
    folder = _folder(config)
    verdict = verify(folder)
    print(f"{verdict.num_shards} shards, {verdict.num_entries} sound entries")
    for path in verdict.unfinished:
        print(f"unfinished: {path}")
    for line in verdict.damage:
        print(f"damaged: {line}")
    if config.repair and not verdict.is_clean:
        num_kept = repair(folder, verdict)
        print(f"set the damaged files aside, kept {num_kept} sound entries of them")
        verdict = verify(folder)
        FeatureStore(config.store).index.cover(0)
    print("the store is clean" if verdict.is_clean else "the store is damaged")
    return 0 if verdict.is_clean else 1


def print_stats(config: StoreCommandConfig) -> None:
    """Print how much of what is in the store."""
    folder = _folder(config)
    own = _fingerprint(config)
    print("  fingerprint   type      shards    entries      bytes  tokens/entry  perceiver")
    for row in store_stats(folder):
        mark = "*" if row.fingerprint == own else " "
        print(
            f"{mark} {row.fingerprint[:12]}  {row.dtype:8} {row.num_shards:7} {row.num_entries:10} "
            f"{_size(row.num_bytes):>10}  {row.num_tokens / row.num_entries:12.1f}  "
            f"{row.description}"
        )
    print(f"content hashes of media: {FeatureStore(config.store).media.num_records}")
    print("* the configured perceiver")


def collect_garbage(config: StoreCommandConfig) -> None:
    """List what can go; remove it if ``config`` says so, and index again what stays."""
    own = _fingerprint(config)
    garbage = find_garbage(
        _folder(config), {own, *config.keep}, older_than_seconds=3600 * config.unfinished_hours
    )
    for found in garbage:
        print(f"{_size(found.num_bytes):>10}  {found.why}: {found.path}")
    total = _size(sum(found.num_bytes for found in garbage))
    if not config.delete:
        print(f"{len(garbage)} files of {total} can go; delete=true removes them")
        return
    for found in garbage:
        found.path.unlink(missing_ok=True)
    store = FeatureStore(config.store)
    store.index.cover(0)
    store.media.cover(0)
    print(f"removed {len(garbage)} files of {total}")


COMMANDS: dict[str, Callable[[StoreCommandConfig], int | None]] = {
    "verify": verify_store,
    "stats": print_stats,
    "gc": collect_garbage,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of ``COMMANDS``; the exit status is 1 for a damaged store, 2 for a wrong command."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    wants_help = bool(arguments) and arguments[0] in ("-h", "--help")
    command = "" if wants_help or not arguments else arguments.pop(0)
    program = f"python -m experiments.store {{{','.join(COMMANDS)}}}"

    def run() -> int | None:
        if not wants_help and command not in COMMANDS:
            raise ValueError(
                f"the first argument must be one of {', '.join(COMMANDS)}; found {command!r}"
            )
        config = load_config(
            StoreCommandConfig,
            arguments,
            program=program,
            description="Check a feature store, count what is in it, or remove what is not wanted.",
        )
        return COMMANDS[command](config)

    return exit_status("store", run)


def _fingerprint(config: StoreCommandConfig) -> str:
    """The configured perceiver's, whose weights need not be there."""
    return perceiver_fingerprint(config.perceiver, FeatureStore(config.store).weights.content_hash)


def _folder(config: StoreCommandConfig) -> Path:
    folder = Path(config.store.path)
    if not folder.is_dir():
        raise ValueError(f"store.path: there is no folder {config.store.path!r}")
    return folder


def _size(num_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.4g} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.4g} TiB"


if __name__ == "__main__":
    sys.exit(main())
