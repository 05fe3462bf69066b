"""The feature store: visual tokens on disk, addressed by the content they were made from."""

from vidreason.store.config import StoreConfig

__all__ = ["StoreConfig"]
