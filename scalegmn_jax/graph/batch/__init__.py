"""Graphs of several architectures in one batch."""
