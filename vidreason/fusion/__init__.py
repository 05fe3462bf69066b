"""Section 3.2: the fusion core and its ablation."""
