"""Zoos: populations of networks in files, generated or public."""
