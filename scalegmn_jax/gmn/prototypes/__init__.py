"""Learned networks that an operator writes in place of its input."""
