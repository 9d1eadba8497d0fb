"""What a stage starts as a process of its own, so that it can be measured."""
