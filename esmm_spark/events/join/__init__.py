"""The joins of event logs: as-of join, attribution, labels and their maturity."""
