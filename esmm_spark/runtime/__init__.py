"""What any process runs in: log, progress, compilation, memory, what it does at the moment."""
