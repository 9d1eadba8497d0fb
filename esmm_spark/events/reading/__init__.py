"""Event logs and catalogs to canonical events: files, columns, times, ids, duplicates."""
