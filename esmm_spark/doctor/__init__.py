"""`esmm-spark doctor`: whether this machine, other hosts and a config's paths are fit for the commands."""
