"""Networks as graphs: static topology, and weights to features and back."""
