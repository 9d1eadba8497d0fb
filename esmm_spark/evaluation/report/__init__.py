"""The report for people and for programs: page, plots, sections, terminal."""
