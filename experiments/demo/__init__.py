"""The whole system on the microworld: its parts in order, their results, the report."""
