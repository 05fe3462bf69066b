"""Causal-Vid-Instruct: a synthetic instruction set, made with a teacher model (section 4.1.2)."""
