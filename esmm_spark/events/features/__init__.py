"""Features of event logs: attributes, catalogs, histories and crosses."""
