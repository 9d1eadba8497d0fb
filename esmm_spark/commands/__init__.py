"""What every command does around its one function, and what operators look at."""
