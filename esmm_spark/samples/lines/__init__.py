"""The one shuffle of raw lines: keys, order, packing, sorting, merging."""
