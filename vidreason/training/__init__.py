"""Section 3.4: the loss, the optimizer, what trains, and the two stages."""
