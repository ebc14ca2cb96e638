"""Symmetries of neural networks as data, and what can be done with them."""
