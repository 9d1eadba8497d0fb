"""A model directory to scores, in Spark."""
