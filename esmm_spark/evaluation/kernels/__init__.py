"""Compiled loops over scores: hashes, sorts, bootstrap weights, weighted sums."""
