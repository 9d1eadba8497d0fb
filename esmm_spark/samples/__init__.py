"""Joins, feature hashing and grouping: canonical logs to examples Parquet and its manifest."""
