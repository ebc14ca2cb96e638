"""Barriers between networks, and averages of networks, aligned and not."""
