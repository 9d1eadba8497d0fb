"""The config of what is joined to event logs: catalogs, histories, crosses."""
