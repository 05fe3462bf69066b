"""Train one stage: the program, its callbacks and loggers, and how a run continues."""
