"""Target networks: pure functions on plain pytrees, and their symmetry."""
