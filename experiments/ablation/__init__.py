"""Learning curves of metanetworks with more and less symmetry."""
