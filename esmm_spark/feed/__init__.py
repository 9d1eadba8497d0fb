"""Examples Parquet to batches: row groups shared out over ranks, read by petastorm."""
