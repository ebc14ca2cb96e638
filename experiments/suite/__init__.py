"""The suite: every reading and writing task by every method."""
