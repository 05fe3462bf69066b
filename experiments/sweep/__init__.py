"""Search values of configuration keys: grid, random, or Optuna."""
