"""Score a trained reasoner on benchmarks, score kept predictions again, compare runs."""
