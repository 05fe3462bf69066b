"""The paper's rivals and today's peers, as systems that answer benchmarks beside our reasoner."""
