"""The training loop, checkpoints, metrics across ranks and progress."""
