"""Zoos: files of networks, made here or public."""
