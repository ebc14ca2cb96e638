"""Compressed networks beside their own outputs, for masks and rounding."""
