"""Measuring networks and operators."""
