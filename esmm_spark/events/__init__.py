"""Event logs to day partitions of a dataset: reading, attribution, point-in-time features, backfills."""
