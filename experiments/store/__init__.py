"""Check, count or clean a feature store."""
