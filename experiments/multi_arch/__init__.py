"""Prediction of accuracy for several architectures in one batch."""
