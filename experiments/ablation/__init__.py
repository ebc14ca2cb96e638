"""Learning curves with more and less symmetry."""
