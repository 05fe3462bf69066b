"""The reasoner in lmms-eval as a model, and benchmarks as its tasks."""
