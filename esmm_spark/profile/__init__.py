"""What a log holds, column by column, and a config that is guessed from it."""
