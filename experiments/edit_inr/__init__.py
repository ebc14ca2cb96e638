"""Editing of images in the weights of their INRs."""
