"""Finished trainings, told to a server that keeps track of them."""
