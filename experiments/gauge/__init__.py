"""Gauge freedom of networks and what it costs."""
