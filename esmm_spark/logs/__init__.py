"""Raw logs to canonical DataFrames: what is read, what is rejected and why."""
