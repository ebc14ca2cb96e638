"""Gauge freedom of networks and its cost."""
