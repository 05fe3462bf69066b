"""Parts of ``experiments.perceive``: what there is to do, and the processes that do it."""
