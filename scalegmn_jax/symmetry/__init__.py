"""Symmetries of neural networks as data, and operations on them."""
