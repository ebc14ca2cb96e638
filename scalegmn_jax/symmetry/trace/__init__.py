"""Derives the symmetry of a JAX function from its jaxpr."""
