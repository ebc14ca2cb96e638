"""Amortized fine-tuning of a zoo."""
