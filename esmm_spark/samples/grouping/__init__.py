"""Sorted raw lines to impression groups: the grouping kernel and its buffers."""
