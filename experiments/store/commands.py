"""The commands of ``experiments.store``, by their names."""

from pathlib import Path

from experiments.store.config import StoreCommandConfig
from vidreason.perception.perceiver import perceiver_fingerprint
from vidreason.store import maintenance
from vidreason.store.feature_store import FeatureStore


def verify(config: StoreCommandConfig) -> int:
    """Print what is wrong with the store; return 1 if anything is (still)."""
    folder = _folder(config)
    verdict = maintenance.verify(folder)
    print(f"{verdict.num_shards} shards, {verdict.num_entries} sound entries")
    for path in verdict.unfinished:
        print(f"unfinished: {path}")
    for line in verdict.damage:
        print(f"damaged: {line}")
    if config.repair and not verdict.is_clean:
        num_kept = maintenance.repair(folder, verdict)
        print(f"set the damaged files aside, kept {num_kept} sound entries of them")
        # What has been copied is read again, before it is called sound.
        verdict = maintenance.verify(folder)
        # Segments that were set aside are made up for: one of all entries takes their place.
        FeatureStore(config.store).index.cover(0)
    print("the store is clean" if verdict.is_clean else "the store is damaged")
    return 0 if verdict.is_clean else 1


def stats(config: StoreCommandConfig) -> None:
    """Print how much of what is in the store."""
    folder = _folder(config)
    configured = _fingerprint(config)
    print("  fingerprint   type      shards    entries      bytes  tokens/entry  perceiver")
    for row in maintenance.store_stats(folder):
        # Rows are by perceiver and dtype: several may be the configured perceiver's.
        mark = "*" if row.fingerprint == configured else " "
        print(
            f"{mark} {row.fingerprint[:12]}  {row.dtype:8} {row.num_shards:7} {row.num_entries:10} "
            f"{_size(row.num_bytes):>10}  {row.num_tokens / row.num_entries:12.1f}  "
            f"{row.description}"
        )
    print(f"content hashes of media: {FeatureStore(config.store).media.num_records}")
    print("* the configured perceiver")


def gc(config: StoreCommandConfig) -> None:
    """List what can go; remove it if ``config`` says so, and index again what stays."""
    # The configured perceiver's entries are never garbage, whatever keep says.
    kept = {_fingerprint(config), *config.keep}
    garbage = maintenance.find_garbage(
        _folder(config), kept, older_than_seconds=3600 * config.unfinished_hours
    )
    for file in garbage:
        print(f"{_size(file.num_bytes):>10}  {file.why}: {file.path}")
    total = _size(sum(file.num_bytes for file in garbage))
    if not config.delete:
        print(f"{len(garbage)} files of {total} can go; delete=true removes them")
        return
    for file in garbage:
        # Another process may have removed it, or finished and renamed it.
        file.path.unlink(missing_ok=True)
    store = FeatureStore(config.store)
    # Tables that still name removed shards are superseded at once.
    store.index.cover(0)
    store.media.cover(0)
    print(f"removed {len(garbage)} files of {total}")


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
