"""What one room writes and another reads: names of files and folders, columns, JSON records."""
