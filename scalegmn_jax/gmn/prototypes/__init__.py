"""Learned networks that an operator writes."""
