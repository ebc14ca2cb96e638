"""Prediction of the test accuracy of networks from their weights."""
