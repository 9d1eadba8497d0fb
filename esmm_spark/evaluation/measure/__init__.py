"""Exact metrics over scores, with bootstrap replicates."""
