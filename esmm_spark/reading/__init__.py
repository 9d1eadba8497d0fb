"""Columns of files that others wrote (Parquet, JSON lines, CSV) as text of canonical lines."""
