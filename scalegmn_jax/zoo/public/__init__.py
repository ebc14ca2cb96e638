"""Zoos of other programs as zoo files: a module per recipe, see `recipes`."""
