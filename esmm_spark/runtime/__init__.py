"""What any process runs in: command line, compilation, memory, what it does at the moment."""
