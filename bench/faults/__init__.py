"""Faults at random moments, and lines mutated at random: `python -m bench.faults`."""
