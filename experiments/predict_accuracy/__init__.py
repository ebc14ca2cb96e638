"""Prediction of accuracy from weights."""
