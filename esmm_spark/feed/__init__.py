"""Examples Parquet to batches: row groups distributed over ranks, read by petastorm."""
