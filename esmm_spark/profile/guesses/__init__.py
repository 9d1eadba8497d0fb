"""What follows from names and counts: roles of columns, features, a config."""
