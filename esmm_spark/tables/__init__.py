"""A single table of impressions, labelled or not, to canonical lines."""
