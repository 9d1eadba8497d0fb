"""Exact metrics over scores and the HTML report."""
