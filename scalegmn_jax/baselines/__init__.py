"""Baselines of trained metanetworks."""
