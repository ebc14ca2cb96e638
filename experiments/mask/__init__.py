"""Masks of weights that an operator writes, without labels."""
