"""LightningDataModules and one reader per corpus."""
