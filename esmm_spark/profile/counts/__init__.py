"""What a table holds, counted in three passes over it."""
