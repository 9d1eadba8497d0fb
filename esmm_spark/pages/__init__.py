"""HTML pages for people: their look, their tables and their plots."""
