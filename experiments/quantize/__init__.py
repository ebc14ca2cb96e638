"""Networks with few values per kernel, and biases that make up for it."""
