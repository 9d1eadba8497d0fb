"""Values to arena rows: XXH64, frequent values, hashes of group keys."""
