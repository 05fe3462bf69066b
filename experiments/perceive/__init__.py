"""Fill the feature store: the plan of a run, and the processes that perceive."""
