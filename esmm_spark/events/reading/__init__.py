"""Event logs and catalogs to canonical events: lines, ids that can be equal, days, duplicates."""
