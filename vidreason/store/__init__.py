"""The feature store: visual tokens on disk, addressed by the content they were made from."""

from vidreason.store.feature_store import StoreConfig

__all__ = ["StoreConfig"]
