"""Networks as graphs: static topology, conversion of weights, connectivity."""
